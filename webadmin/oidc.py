"""Signing in with an OpenID provider, through Authlib: code flow with PKCE, state and nonce.

    /login/oidc ─► the provider, who knows the person ─► /login/oidc/callback ─► id token: signature, issuer, nonce …
        ─► whose account is that?   linked: by its owner, an administrator or an invitation
                                    else [oidc] claim, for accounts that nothing more protects; it is linked then
                                    else [oidc] create: a new participant
                                    else nobody's

What a person may do here is never the provider's word: roles are given here. What the callback is for (signing in,
linking, confirming, accepting an invitation) is in this browser's signed cookie, not in the address.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import FlaskIntegration, FlaskOAuth2App
from flask import Blueprint, current_app, flash, redirect, request, url_for
from flask import session as cookie
from flask_wtf.csrf import validate_csrf
from joserfc.errors import JoseError

from webadmin import access, account, auth, session
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.security import safe_next
from workspaces import accounts, recovery
from workspaces.errors import Conflict, HostError, InvalidInput, NotFound, Refused, SettingsError
from workspaces.model import User
from workspaces.names import printable
from workspaces.settings import Oidc

log = logging.getLogger(__name__)
bp = Blueprint("oidc", __name__)
own = Blueprint("own_oidc", __name__)
own.before_request(access.require_account)
own.before_request(access.moved)

ASKED = "oidc"  # in the cookie: for what, for whom, when, and where it leads
ASKED_SECONDS = 900.0
TIMEOUT = 10.0  # seconds for each answer of the provider
CLOCKS = 120.0  # seconds that the provider's clock may be apart
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
WHENEVER = 365 * 86400  # seconds: with a `max_age` a provider must say when it asked; with a long one it need not ask
SUBJECT_MAX = 255  # characters, as the standard has it
_EXTENSION = "workspaces-oidc"
PLACES, PLACE_SECONDS = 3, 0.5  # threads that wait for the provider at once, and how long others wait for a place
_places = threading.BoundedSemaphore(PLACES)


class ProviderError(HostError):
    """The provider does not answer, or not as it should."""

    http_status = 502


def settings() -> Oidc:
    """Raises NotFound on a host without a provider."""
    found = parts().settings.oidc
    if found is None:
        raise NotFound(_("This host has no sign-in with a provider."))
    return found


def _client() -> FlaskOAuth2App:
    """The provider with what it says of itself, read once. Raises ProviderError."""
    wanted = settings()
    known = current_app.extensions.get(_EXTENSION)
    if known and known[0] == wanted:
        return cast(FlaskOAuth2App, known[1])
    try:
        secret = wanted.secret(parts().settings.keys)
    except SettingsError as error:  # it tells of places on this host
        log.error("%s", error)
        raise ProviderError(_("The provider cannot be used just now."), _("Tell an administrator.")) from error
    client = FlaskOAuth2App(
        FlaskIntegration("provider"),
        "provider",
        client_id=wanted.client_id,
        client_secret=secret,
        server_metadata_url=f"{wanted.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": wanted.scope, "code_challenge_method": "S256", "default_timeout": TIMEOUT},
    )
    try:
        with _waiting():
            said = client.load_server_metadata()
    except (requests.RequestException, ValueError) as error:
        log.error("the OpenID provider %s does not answer: %s", wanted.issuer, error)
        raise ProviderError(_("The provider does not answer."), _("Try again, or sign in another way.")) from error
    if said.get("issuer") != wanted.issuer:
        log.error("the OpenID provider %s says that it is %r", wanted.issuer, said.get("issuer"))
        raise ProviderError(_("The provider is not the one of this host's settings."), _("Tell an administrator."))
    # Signed with a key that it publishes, in any case: neither "none" nor the client's secret will do.
    offered = said.get("id_token_signing_alg_values_supported") or ["RS256"]
    said["id_token_signing_alg_values_supported"] = [name for name in offered if name in ALGORITHMS]
    current_app.extensions[_EXTENSION] = (wanted, client)
    return client


@contextmanager
def _waiting() -> Iterator[None]:
    """One of the few who wait for the provider: one that hangs must not hold all threads. Raises ProviderError."""
    if not _places.acquire(timeout=PLACE_SECONDS):
        raise ProviderError(_("The provider does not answer."), _("Try again, or sign in another way."))
    try:
        yield
    finally:
        _places.release()


def _check_link() -> None:
    """Raise Refused unless a page of this site has the link, which names this browser's CSRF token as `key`.

    Any site can have a browser follow an address, and have it signed in as somebody else at the provider before.
    """
    settings()
    try:
        validate_csrf(request.args.get("key"))
    except ValueError:
        raise Refused(_("That was not asked for by a page of this site."), _("Go back to it and try again.")) from None


def _ask(purpose: str, subject: str = "", **options: Any) -> Any:
    """To the provider, and back for `purpose`."""
    client = _client()
    cookie[ASKED] = [purpose, subject, time.time(), safe_next(request.args.get("next")) or ""]
    base = parts().settings.web_url
    path = url_for("oidc.callback")
    back = (
        f"{urlsplit(base).scheme}://{urlsplit(base).netloc}{path}" if base else url_for("oidc.callback", _external=True)
    )
    for key in [key for key in cookie if key.startswith("_state_provider_")]:
        del cookie[key]  # of one that was never finished; a cookie has little room
    try:
        return client.authorize_redirect(back, **{"max_age": WHENEVER, **options})
    except (RuntimeError, requests.RequestException) as error:
        raise ProviderError(_("The provider does not answer."), _("Try again, or sign in another way.")) from error


@bp.get("/login/oidc")
def sign_in() -> Any:
    # A link, not a form: the policy of the page lets forms lead to this site only.
    return _ask("sign_in")


@own.get("/account/provider/link")
@access.step_up
def link() -> Any:
    """Link what one is at the provider to the account."""
    _check_link()
    return _ask("link", str(session.me().user.id))


@own.get("/confirm/provider")
def confirm_with() -> Any:
    """Confirm by signing in at the provider once more."""
    return _ask("confirm", str(session.me().user.id), prompt="login", max_age=0)


def ask_for_invitation(token: str) -> Any:
    """Accept an invitation by linking what one is at the provider. Refused, also for who has a second factor."""
    _check_link()
    _check_invited(token)
    return _ask("invitation", token)


@own.post("/account/provider/<int:identity_id>/unlink")
@access.step_up
def unlink(identity_id: int) -> Any:
    me = session.me()
    account.check_other_way(identity=identity_id)
    store().unlink_identity(me.name, identity_id, actor=me.name)
    flash(_("It does not sign you in any more."))
    return redirect(url_for("account.page", _anchor="provider"))


def _claims(client: FlaskOAuth2App) -> dict[str, Any]:
    """What the provider vouches for. Raises Refused, ProviderError."""
    if request.args.get("error") == "access_denied":
        raise Refused(_("You did not sign in there."), _("Try again, or sign in another way."))
    issuer = settings().issuer
    try:
        if request.args.get("iss", issuer) != issuer:  # RFC 9207
            raise ValueError("another issuer's answer")
        if not request.args.get("code") or not request.args.get("state"):
            raise ValueError("no code or state")
        with _waiting():
            token = client.authorize_access_token(
                claims_options={
                    "iss": {"essential": True, "values": [issuer]},
                    "aud": {"essential": True, "values": [settings().client_id]},
                },
                leeway=CLOCKS,
            )
        claims = token["userinfo"]
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= SUBJECT_MAX:
            raise ValueError("no subject")
    except requests.RequestException as error:
        log.error("the OpenID provider %s does not answer: %s", issuer, error)
        raise ProviderError(_("The provider does not answer."), _("Try again, or sign in another way.")) from error
    except (OAuthError, JoseError, RuntimeError, ValueError, KeyError, TypeError) as error:
        log.warning("sign-in with %s from %s refused: %s", issuer, request.remote_addr, printable(str(error)))
        raise Refused(_("The provider's answer was not accepted."), _("Try again, or sign in another way.")) from error
    return dict(claims)


@bp.get("/login/oidc/callback")
def callback() -> Any:
    """Where the provider sends people back to."""
    throttle, address = parts().throttle, request.remote_addr or "?"
    if wait := throttle.take_address(address):
        raise auth.TooManyTries(wait)
    purpose, subject, target = _asked()
    try:
        claims = _claims(_client())
        answer = _DONE[purpose](subject, claims)
    except (Refused, Conflict, NotFound, ProviderError) as error:
        if purpose == "sign_in":
            return auth.again("", error)
        raise
    throttle.give_back_address(address)
    return answer if answer is not None else redirect(safe_next(target) or url_for("start"))


def _asked() -> tuple[str, str, str]:
    asked = cookie.pop(ASKED, None)
    if isinstance(asked, list) and len(asked) == 4 and asked[0] in _DONE and time.time() - asked[2] < ASKED_SECONDS:
        return asked[0], asked[1], asked[3]
    raise Refused(_("This browser did not begin that sign-in."), _("Go to the sign-in page and begin again."))


# what it was for


def _signed_in(_subject: str, claims: dict[str, Any]) -> Any:
    user = store().find_identity(settings().issuer, claims["sub"]) or _claimed(claims)
    if user is None or user.disabled:
        log.warning("nobody here is %r at the provider", printable(claims["sub"], 100))
        raise Refused(
            _("No account here belongs to that sign-in."), _("Sign in as before and link it, or ask an administrator.")
        )
    store().touch_identity(settings().issuer, claims["sub"])
    _begin(user, claims)
    return None


def _begin(user: User, claims: dict[str, Any]) -> None:
    """Sign in who may have proven who he is long ago: providers do not ask each time. One that does not say when it
    did proves nothing.
    """
    at = claims.get("auth_time")
    session.begin(user, "oidc", min(time.time(), at) if isinstance(at, int | float) else session.NEVER)
    said = {"via": "web", "by": "oidc", "address": request.remote_addr or "?"}
    store().add_event(user.name, "login.accepted", data=said)


def _linked(subject: str, claims: dict[str, Any]) -> Any:
    me = session.account()
    if me is None or str(me.user.id) != subject or not me.is_proven:
        raise Refused(_("You are not signed in any more."), _("Sign in and begin again."))
    if answer := access.moved():
        return answer
    store().link_identity(me.name, settings().issuer, claims["sub"], _shown(claims), actor=me.name)
    flash(_("From now on you can sign in with it."))
    return redirect(url_for("account.page", _anchor="provider"))


def _confirmed(subject: str, claims: dict[str, Any]) -> Any:
    me, at = session.account(), claims.get("auth_time")
    user = store().find_identity(settings().issuer, claims["sub"])
    if me is None or str(me.user.id) != subject or user is None or user.id != me.user.id:
        raise Refused(_("That is another account's sign-in."), _("Nothing was done yet."))
    if not isinstance(at, int | float):
        raise Refused(
            _("The provider does not say when it asked you."),
            _("Confirm in another way; an administrator can invite you to set a password."),
        )
    if not -CLOCKS <= time.time() - at <= ASKED_SECONDS:
        raise Refused(
            _("The provider did not ask you again."), _("Confirm in another way, or sign out there and try again.")
        )
    session.prove()
    return None


def _accepted(token: str, claims: dict[str, Any]) -> Any:
    _check_invited(token)
    _begin(accounts.accept_with_identity(store(), token, settings().issuer, claims["sub"], _shown(claims)), claims)
    return None


def _check_invited(token: str) -> None:
    """Raise Refused for who has a second factor: whoever has the address would get around it, for good."""
    found = store().find_invitation(recovery.digest(token))
    if found is not None and store().has_second_factor(found.user):
        raise Refused(
            _("This account has a second factor."), _("Set a password, sign in, and link it on your account's page.")
        )


_DONE = {"sign_in": _signed_in, "link": _linked, "confirm": _confirmed, "invitation": _accepted}


def _shown(claims: dict[str, Any]) -> str:
    """What people recognise it by."""
    said = claims.get("email") or claims.get("preferred_username") or claims["sub"]
    return str(said)


def _claimed(claims: dict[str, Any]) -> User | None:
    """Whose account the settings' claim says it is, linked or made now; None when nobody's.

    A name at the provider opens no account that may decide anything, or has a second factor: those are linked by hand.
    """
    wanted = settings()
    value = claims.get(wanted.claim) if wanted.claim else None
    if not isinstance(value, str) or (wanted.claim == "email" and claims.get("email_verified") is not True):
        return None
    found = accounts.claimed_user(store(), wanted.claim, value)
    if found is None and wanted.create:
        try:
            found = accounts.create_participant(store(), value, wanted.create, actor="oidc")
        except (InvalidInput, Conflict, NotFound) as error:
            log.error("no account could be made for %r: %s", printable(value, 64), error.message)
            return None
    if found is None or store().rights_of(found.name).is_staff or store().has_second_factor(found.name):
        return None
    if any(one.issuer == wanted.issuer for one in store().identities(found.name)):
        return None  # somebody else there had that name before
    store().link_identity(found.name, wanted.issuer, claims["sub"], _shown(claims), actor="oidc")
    return found
