"""Signing in and out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, url_for
from flask import session as cookie

from webadmin import session
from webadmin.context import parts, store
from webadmin.i18n import _, ngettext
from webadmin.security import safe_next
from workspaces import accounts
from workspaces.errors import Refused, WorkspacesError
from workspaces.model import User
from workspaces.names import printable

log = logging.getLogger(__name__)
bp = Blueprint("auth", __name__)

_SAID = {v: "wrong password" for v in accounts.Verdict} | {accounts.Verdict.WRONG_CODE: "right password, wrong code,"}
# argon2 takes tens of MiB and a core for each hash: a crowd must not take the host's. Nor the threads that make pages:
# few wait there for their turn, and nobody for a place. Who signs in has a thread apart (server.py) and may wait for
# some seconds.
TURNS, PLACES, PLACES_APART = 2, 4, 48
_turns = threading.BoundedSemaphore(TURNS)
_places, _places_apart = threading.BoundedSemaphore(PLACES), threading.BoundedSemaphore(PLACES_APART)
COME_BACK = 5  # seconds, for whom there is no place
HALF = "half"  # in the cookie: whose password was right, and when
HALF_SECONDS = 300.0


class NotNow(Refused):
    """`wait` is in how many seconds to try again."""

    wait: int


class TooManyTries(NotNow):
    http_status = 429

    def __init__(self, wait: float) -> None:
        minutes = int(wait // 60) + 1
        super().__init__(
            _("Too many tries."),
            ngettext(
                "Wait %(num)s minute and try again. An ssh key works meanwhile.",
                "Wait %(num)s minutes and try again. An ssh key works meanwhile.",
                minutes,
            ),
        )
        self.wait = int(wait) + 1


class Overloaded(NotNow):
    http_status = 503
    wait = COME_BACK

    def __init__(self) -> None:
        super().__init__(_("Too many people are signing in right now."), _("Try again in a few seconds."))


@contextmanager
def hashing() -> Iterator[None]:
    """A turn at hashing a password, which whatever does that takes. Raises Overloaded when too many others wait."""
    with _place(_places), _turns:
        yield


@contextmanager
def _place(places: threading.BoundedSemaphore) -> Iterator[None]:
    """Room for waiting for a turn. Raises Overloaded."""
    if not places.acquire(blocking=False):
        log.warning("too many passwords at once: %s is told to come back", request.remote_addr)
        raise Overloaded
    try:
        yield
    finally:
        places.release()


def verify(name: str, password: str, code: str | None = None) -> User | None:
    """The user whose password and one-time code these are, None otherwise or when disabled; takes as long either way.

    Without `code` only the password is looked at: for somebody who is signed in. Raises TooManyTries, and Overloaded
    when too many others are being checked.
    """
    places = _places if code is None else _places_apart
    with _place(places):  # before a try is counted: who finds none has not tried
        return _verify(name, password, code)


def _verify(name: str, password: str, code: str | None) -> User | None:
    address = request.remote_addr or "?"
    throttle, known = parts().throttle, code is None
    if wait := throttle.take(name, address, known=known):
        raise TooManyTries(wait)
    paused = code is not None and throttle.too_many_codes(name)
    if paused:
        log.warning("too many wrong codes for %r, the last from %s", printable(name, 64), address)
        code = ""  # is none; whoever tries learns nothing of the password
    with _turns:
        if code is None:
            right = accounts.check_password(store().password_hash(name), password)
            verdict = accounts.Verdict.RIGHT if right else accounts.Verdict.WRONG
        else:
            verdict = accounts.check_login(store(), name, password, code)
    user = store().find_user(name)
    if verdict is not accounts.Verdict.RIGHT or user is None or user.disabled:
        log.warning("%s for %r from %s", _SAID[verdict], printable(name, 64), address)
        if verdict is accounts.Verdict.WRONG_CODE and not paused:
            throttle.wrong_code(name)
        return None
    throttle.give_back(name, address, known=known)
    return user


def verify_code(name: str, code: str) -> bool:
    """Whether this is a one-time code or recovery code of somebody who is signed in, or whose password was right.

    It is used up then. Raises TooManyTries.
    """
    address = request.remote_addr or "?"
    throttle = parts().throttle
    if wait := throttle.take(name, address, known=True):
        raise TooManyTries(wait)
    if throttle.too_many_codes(name):
        log.warning("too many wrong codes for %r, the last from %s", printable(name, 64), address)
        return False
    if not accounts.check_code(store(), name, code):
        log.warning("wrong code for %r from %s", printable(name, 64), address)
        throttle.wrong_code(name)
        return False
    throttle.give_back(name, address, known=True)
    return True


def enter(user: User, via: str) -> Any:
    """Sign `user` in, who has proven to be it, and lead him to where he wanted."""
    target = safe_next(request.values.get("next"))
    session.begin(user, via)
    said = {"via": "web", "by": via, "address": request.remote_addr or "?"}
    store().add_event(user.name, "login.accepted", data=said)
    return redirect(target or url_for("start"))


@bp.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """The sign-in page; `next` is where it leads."""
    target = safe_next(request.values.get("next"))
    if request.method == "GET":
        if session.account() and session.is_fresh():
            return redirect(target or url_for("start"))
        return render_template("login.html", next=target, name="", provider=parts().settings.oidc)
    name = request.form.get("name", "").strip()
    try:
        user = verify(name, request.form.get("password", ""), request.form.get("code", ""))
    except NotNow as error:
        return again(name, error)
    if user is None:
        hint = _("If your account has one-time codes, a fresh one is needed too.")
        return again(name, Refused(_("The name or the password is wrong."), hint))
    if not user.has_totp and store().passkeys(user.name):
        session.end()
        cookie[HALF] = [user.id, user.name, time.time()]
        return redirect(url_for(".second", next=target))
    return enter(user, "password and code" if user.has_totp else "password")


def again(name: str, error: WorkspacesError) -> Any:
    """The sign-in page, which says why it was not to be."""
    target = safe_next(request.values.get("next"))
    html = render_template("login.html", next=target, name=name[:64], error=error, provider=parts().settings.oidc)
    return limited(make_response(html, error.http_status), error)


def limited(response: Response, error: WorkspacesError | None) -> Response:
    """The answer, with how long to wait where `error` says so."""
    if isinstance(error, NotNow):
        response.headers["Retry-After"] = str(error.wait)
    return response


# the second half, of an account whose second factor is a passkey


def half_signed_in() -> User:
    """Whose password this browser has just given. Raises Refused when nobody's, or too long ago."""
    half = cookie.get(HALF)
    if isinstance(half, list) and len(half) == 3 and time.time() - half[2] < HALF_SECONDS:
        user = store().find_user(half[1])
        if user is not None and user.id == half[0] and not user.disabled:
            return user
    raise Refused(_("That took too long."), _("Go back to the sign-in page and begin again."))


def ask_second(error: WorkspacesError | None = None) -> Any:
    """The page that asks for the passkey, or a recovery code."""
    half_signed_in()
    html = render_template("second.html", next=safe_next(request.values.get("next")), error=error)
    return limited(make_response(html, error.http_status if error else 200), error)


@bp.route("/login/second", methods=["GET", "POST"])
def second() -> Any:
    """Ask for the passkey (GET); take a recovery code in its place (POST)."""
    if request.method == "GET":
        return ask_second()
    user = half_signed_in()
    try:
        right = verify_code(user.name, request.form.get("code", ""))
    except TooManyTries as error:
        return ask_second(error)
    if not right:
        return ask_second(Refused(_("That is not right."), _("A recovery code is good once.")))
    return enter(user, "password and recovery code")


@bp.post("/logout")
def logout() -> Any:
    """End this session."""
    session.end()
    flash(_("You are signed out."))
    return redirect(url_for("auth.login"))
