"""Passkeys (WebAuthn, through py_webauthn): adding, naming and removing one's own, and proving with one who one is.

    page ─► POST …/options ─► a challenge, in the signed cookie and good once ─► the browser asks its authenticator
         ─► POST the answer as a form ─► checked for challenge, origin, signature and count ─► signed in, or confirmed

Signing in takes no name: the passkey says whose it is, and its own PIN or finger is the second factor. So it is to
confirm, since a key may stay in a machine that is left alone; beside a password (`second`) being there is enough. The
origin is [web] url, or else the address that the browser asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, url_for
from flask import session as cookie
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from webadmin import access, account, auth, confirm, session
from webadmin.context import parts, store
from webadmin.i18n import _
from workspaces.errors import Conflict, InvalidInput, NotFound, Refused
from workspaces.model import Passkey, User

log = logging.getLogger(__name__)
bp = Blueprint("passkeys", __name__)
own = Blueprint("own_passkeys", __name__)
own.before_request(access.require_account)
own.before_request(access.moved)

ASKED = "asked"  # in the cookie: purpose, challenge and when
ASKED_SECONDS = 300.0
ANSWER_MAX = 20_000  # characters
PREFERRED, REQUIRED = UserVerificationRequirement.PREFERRED, UserVerificationRequirement.REQUIRED
_KNOWN = {transport.value for transport in AuthenticatorTransport}


def _place() -> tuple[str, str]:
    """The name that passkeys are bound to, and the origin that pages have. Raises InvalidInput where there are none."""
    parts_ = urlsplit(parts().settings.web_url or request.host_url)
    host = parts_.hostname or ""
    if not host or host.replace(".", "").isdigit() or ":" in host:
        raise InvalidInput(
            _("Passkeys need a name of this host, not a number."),
            _("Open the pages by their name, or tell an administrator."),
        )
    return host, f"{parts_.scheme}://{parts_.netloc}"


def _handle(user: User) -> bytes:
    """What authenticators know the account by: it says nothing, and is another one when an account is made anew."""
    text = f"{store().instance}:{user.id}:{user.created_at}"
    return hashlib.sha256(text.encode()).digest()


def _descriptors(passkeys: list[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            base64url_to_bytes(p.credential),
            transports=[AuthenticatorTransport(t) for t in p.transports if t in _KNOWN] or None,
        )
        for p in passkeys
    ]


def _ask(purpose: str, made: Any, challenge: bytes) -> Response:
    cookie[ASKED] = [purpose, bytes_to_base64url(challenge), time.time()]
    return Response(options_to_json(made), mimetype="application/json")


def _ask_for(purpose: str, passkeys: list[Passkey]) -> Response:
    """Ask for one of `passkeys`; for whichever there is, if there are none to name."""
    challenge, (host, _origin) = secrets.token_bytes(32), _place()
    made = generate_authentication_options(
        rp_id=host,
        challenge=challenge,
        allow_credentials=_descriptors(passkeys) or None,
        user_verification=PREFERRED if purpose == "second" else REQUIRED,
    )
    return _ask(purpose, made, challenge)


def _asked(purpose: str) -> bytes:
    """The challenge of this browser for this purpose, which is used up by that."""
    asked = cookie.pop(ASKED, None)
    if not isinstance(asked, list) or len(asked) != 3 or asked[0] != purpose:
        raise Refused(_("The browser was not asked for a passkey."), _("Try again."))
    # A cookie can be brought back, so that each was used is kept here as well, for as long as it would be good.
    if time.time() - asked[2] > ASKED_SECONDS or not parts().once.use(asked[1], ASKED_SECONDS):
        raise Refused(_("That took too long."), _("Try again."))
    return base64url_to_bytes(asked[1])


@contextmanager
def _checked() -> Iterator[dict[str, Any]]:
    """The browser's answer; what the library does not like about it, whatever it is, is refused in one sentence."""
    text = request.form.get("credential", "")
    try:
        if len(text) > ANSWER_MAX:
            raise ValueError("too long")
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise ValueError("no object")
        yield cast(dict[str, Any], answer)
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("passkey from %s refused: %s", request.remote_addr, error)
        raise Refused(_("The passkey was not accepted."), _("Try again, or use another way to sign in.")) from error


def _proven(purpose: str) -> User:
    """Who has just proven with a passkey that it is he. Raises Refused, TooManyTries."""
    throttle, address = parts().throttle, request.remote_addr or "?"
    if wait := throttle.take_address(address):
        raise auth.TooManyTries(wait)
    challenge, (host, origin) = _asked(purpose), _place()
    with _checked() as answer:
        found = store().find_passkey(str(answer.get("id", "")))
        if found is None:
            raise ValueError("nobody's")
        passkey, user = found
        handle = answer.get("response", {}).get("userHandle")
        if handle and base64url_to_bytes(handle) != _handle(user):
            raise ValueError("another account's")
        verified = verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=host,
            expected_origin=origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=purpose != "second",
        )
        if user.disabled:
            raise ValueError("disabled")
    throttle.give_back_address(address)
    store().touch_passkey(passkey.id, verified.new_sign_count, address)
    return user


# signing in


@bp.post("/login/passkey/options")
def sign_in_options() -> Any:
    return _ask_for("sign_in", [])


@bp.post("/login/passkey")
def sign_in() -> Any:
    """Sign in with a passkey alone; it says who it is."""
    try:
        user = _proven("sign_in")
    except Refused as error:
        return auth.again("", error)
    return auth.enter(user, "passkey")


@bp.post("/login/second/passkey/options")
def second_options() -> Any:
    return _ask_for("second", store().passkeys(auth.half_signed_in().name))


@bp.post("/login/second/passkey")
def second() -> Any:
    """The second half of signing in, after the password."""
    half = auth.half_signed_in()
    try:
        if _proven("second").id != half.id:
            raise Refused(_("That passkey belongs to another account."))
    except Refused as error:
        return auth.ask_second(error)
    return auth.enter(half, "password and passkey")


# one's own


@own.post("/confirm/passkey/options")
def confirm_options() -> Any:
    return _ask_for("confirm", store().passkeys(session.me().name))


@own.post("/confirm/passkey")
def confirm_with() -> Any:
    try:
        if _proven("confirm").id != session.me().user.id:
            raise Refused(_("That passkey belongs to another account."))
    except Refused as error:
        return confirm.ask(error)
    return confirm.done()


@own.get("/account/passkeys/add")
@access.step_up
def add_page() -> Any:
    return render_template("account/passkey.html", error=None, typed={})


@own.post("/account/passkeys/options")
def add_options() -> Any:
    """What the browser is to make one with."""
    me, challenge, (host, _origin) = session.me(), secrets.token_bytes(32), _place()
    made = generate_registration_options(
        rp_id=host,
        rp_name="Workspaces",
        user_name=me.name,
        user_id=_handle(me.user),
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=PREFERRED
        ),
        exclude_credentials=_descriptors(store().passkeys(me.name)),
    )
    return _ask("add", made, challenge)


@own.post("/account/passkeys")
@access.step_up
def add() -> Any:
    """Add what the browser has just made; other browsers are signed out. With the first second factor come recovery
    codes.
    """
    me = session.me()
    try:
        challenge, (host, origin) = _asked("add"), _place()
        with _checked() as answer:
            made = verify_registration_response(
                credential=answer, expected_challenge=challenge, expected_rp_id=host, expected_origin=origin
            )
            said = answer.get("response", {}).get("transports", [])
            transports = {word for word in said if isinstance(word, str)} & _KNOWN
        store().add_passkey(
            me.name,
            bytes_to_base64url(made.credential_id),
            made.credential_public_key,
            made.sign_count,
            request.form.get("name", ""),
            transports,
            but=me.sign_in.id,
            actor=me.name,
        )
    except (Refused, InvalidInput, Conflict) as error:
        html = render_template("account/passkey.html", error=error, typed=request.form)
        return make_response(html, error.http_status)
    flash(_("The passkey is added, and other browsers are signed out. Try it the next time you sign in."))
    return account.and_recovery_codes("passkeys")


def _own(passkey_id: int) -> Passkey:
    found = next((p for p in store().passkeys(session.me().name) if p.id == passkey_id), None)
    if found is None:
        raise NotFound(_("You have no such passkey."))
    return found


@own.post("/account/passkeys/<int:passkey_id>/name")
def name(passkey_id: int) -> Any:
    me = session.me().name
    store().name_passkey(me, _own(passkey_id).id, request.form.get("name", ""), actor=me)
    flash(_("The passkey has another name."))
    return redirect(url_for("account.page", _anchor="passkeys"))


@own.route("/account/passkeys/<int:passkey_id>/remove", methods=["GET", "POST"])
@access.step_up
def remove(passkey_id: int) -> Any:
    """Say what goes (GET), and let it go (POST): other browsers are signed out with it."""
    me, passkey = session.me(), _own(passkey_id)
    account.check_other_way(passkey=passkey.id)
    if request.method == "GET":
        return render_template("account/remove.html", passkey=passkey)
    store().remove_passkey(me.name, passkey.id, actor=me.name)
    store().end_sign_ins(me.name, but=me.sign_in.id, actor=me.name)
    flash(_("The passkey is removed, and other browsers are signed out. Delete it on your device too."))
    return redirect(url_for("account.page", _anchor="passkeys"))
