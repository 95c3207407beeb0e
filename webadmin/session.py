"""Who is signed in: flask-login asks at most once a request; the browser shows a token in its signed cookie, of which
the store knows the digest (store/signins.py).

    sign in ─► new token, new row          confirm (step-up) ─► new token, same row          sign out ─► no row
    each request ─► row, account and rights in one read ─► too old? disabled? ─► account()

A sign-in ends when it is idle or old ([access] in workspaces.toml; sooner for those who may do more), with another
password or second factor, when the account is disabled, and when the person or an administrator ends it. What a page
does by itself, such as keeping its live parts up to date, is no sign that somebody is there. One that shows up from
another address or browser may still look, but staff must sign in again to change anything.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import suppress

from flask import Flask, g, request, session
from flask_login import LoginManager, UserMixin, current_user

from webadmin.context import parts, store
from webadmin.serving.handover import AGAIN
from workspaces.errors import Refused, StoreError
from workspaces.model import Role, SignIn, User
from workspaces.names import printable
from workspaces.rights import Rights
from workspaces.store.signins import BROWSER_MAX
from workspaces.throttle import network

TOKEN = "id"  # noqa: S105 -- its name in the cookie
TOUCH_SECONDS = 60.0  # between two notes that somebody is there
PROOF_SECONDS = 600.0  # for which a proof lets somebody do what is dangerous
NEVER = 0.0  # when a sign-in was proven that proves nothing
MAX_AGE = 7 * 86400  # seconds that a browser keeps the cookie; most end sooner
FRAGMENT = "X-Fragment"  # the header of what a page asks for by itself


class Account(UserMixin):  # type: ignore[misc]
    """The signed-in person: the account, its rights, and the sign-in by which this request came."""

    def __init__(self, user: User, rights: Rights, sign_in: SignIn) -> None:
        self.user = user
        self.rights = rights
        self.sign_in = sign_in

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def is_admin(self) -> bool:
        """Whether of the host, with every right."""
        return self.user.role is Role.ADMIN

    @property
    def is_proven(self) -> bool:
        """Whether the person has proven lately who he is."""
        return 0 <= time.time() - self.sign_in.proven_at < PROOF_SECONDS

    def get_id(self) -> str:
        """Tells apart whose pages these are."""
        return f"{self.user.id}:{self.sign_in.id}"


def install(app: Flask) -> None:
    """Have flask-login ask for the account of a request here."""
    manager = LoginManager()
    manager.session_protection = None  # `is_fresh` looks at the address and the browser
    manager.request_loader(lambda _request: _load())
    manager.init_app(app, add_context_processor=False)


def account() -> Account | None:
    """The signed-in account, None for a visitor."""
    found = current_user._get_current_object()
    return found if isinstance(found, Account) else None


def me() -> Account:
    """The signed-in account; the blueprint's guard has made sure that there is one."""
    found = account()
    if found is None:
        raise Refused("Nobody is signed in.")
    return found


def is_fresh() -> bool:
    """Whether the request comes from the browser and the host that signed in."""
    found = account()
    if found is None:
        return False
    return network(found.sign_in.address) == network(_address()) and found.sign_in.browser == _browser()


def begin(user: User, via: str = "password", proven_at: float | None = None) -> None:
    """Start a session for `user`, with nothing kept of the one before; who he is was proven now, or at `proven_at`."""
    end()
    token = secrets.token_urlsafe(32)
    store().begin_sign_in(
        user.name, _digest(token), via=via, address=_address(), browser=_browser(), proven_at=proven_at
    )
    session.permanent = True
    session[TOKEN] = token


def prove() -> None:
    """The person has just proven again who he is: note it, and let the browser show something new."""
    token = secrets.token_urlsafe(32)
    store().prove_sign_in(me().sign_in.id, _digest(token))
    session[TOKEN] = token
    _forget()


def end() -> None:
    """Sign out, if somebody is signed in; nothing in the cookie is kept."""
    if token := session.get(TOKEN):
        store().forget_sign_in(_digest(str(token)))
    session.clear()
    _forget()


def over(sign_in: SignIn, rights: Rights, now: float) -> bool:
    """Whether a sign-in has been idle too long, or is too old."""
    staff = rights.powerful is not Role.PARTICIPANT
    limits = parts().settings.access
    idle, longest = (limits.staff_idle, limits.staff_longest) if staff else (limits.idle, limits.longest)
    return now - sign_in.seen_at > idle or now - sign_in.created_at > longest


def _forget() -> None:
    """Have flask-login ask again in this request."""
    g.pop("_login_user", None)


def _load() -> Account | None:
    token, again = session.get(TOKEN), AGAIN in request.environ
    if not isinstance(token, str):
        return None
    found = store().find_sign_in(request.environ[AGAIN] if again else _digest(token))
    if found is None:
        return None
    sign_in, user, rights = found
    now = time.time()
    if user.disabled or over(sign_in, rights, now):
        return None
    if now - sign_in.seen_at > TOUCH_SECONDS and not _by_itself() and not again:
        with suppress(StoreError):  # no reason to keep anybody from a page; the next request notes it
            store().touch_sign_in(sign_in.id)
    return Account(user, rights, sign_in)


def _by_itself() -> bool:
    """Whether a page asks, and no person; a browser's own event stream comes back by itself as well."""
    return FRAGMENT in request.headers or "text/event-stream" in request.headers.get("Accept", "")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _address() -> str:
    return request.remote_addr or "?"


def _browser() -> str:
    return printable(request.user_agent.string, BROWSER_MAX)
