"""Signing in and out."""

from __future__ import annotations

import logging
import threading
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for

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
# argon2 takes tens of MiB and a core for each check: a crowd must not take the host's.
_checks = threading.BoundedSemaphore(2)
CHECK_WAIT = 10.0  # seconds that a check waits for its turn


class TooManyTries(Refused):
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


class Overloaded(WorkspacesError):
    http_status = 503


def verify(name: str, password: str, code: str | None = None) -> User | None:
    """The user whose password and one-time code these are, None otherwise or when disabled; takes as long either way.

    Without `code` only the password is looked at: for somebody who is signed in. Raises TooManyTries, and Overloaded
    when too many others are being checked.
    """
    address = request.remote_addr or "?"
    throttle = parts().throttle
    if wait := throttle.take(name, address):
        raise TooManyTries(wait)
    paused = code is not None and throttle.too_many_codes(name)
    if paused:
        log.warning("too many wrong codes for %r, the last from %s", printable(name, 64), address)
        code = ""  # is none; whoever tries learns nothing of the password
    if not _checks.acquire(timeout=CHECK_WAIT):
        raise Overloaded(_("Too many people are signing in right now."), _("Try again in a minute."))
    try:
        if code is None:
            right = accounts.check_password(store().password_hash(name), password)
            verdict = accounts.Verdict.RIGHT if right else accounts.Verdict.WRONG
        else:
            verdict = accounts.check_login(store(), name, password, code)
    finally:
        _checks.release()
    user = store().find_user(name)
    if verdict is not accounts.Verdict.RIGHT or user is None or user.disabled:
        log.warning("%s for %r from %s", _SAID[verdict], printable(name, 64), address)
        if verdict is accounts.Verdict.WRONG_CODE and not paused:
            throttle.wrong_code(name)
        return None
    throttle.give_back(name, address)
    return user


@bp.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """The sign-in page; `next` is where it leads."""
    target = safe_next(request.values.get("next"))
    if request.method == "GET":
        if session.account() and session.is_fresh():
            return redirect(target or url_for("start"))
        return render_template("login.html", next=target, name="")
    name = request.form.get("name", "").strip()
    try:
        user = verify(name, request.form.get("password", ""), request.form.get("code", ""))
    except TooManyTries as error:
        response = _again(name, target, error, 429)
        response.headers["Retry-After"] = str(error.wait)
        return response
    if user is None:
        return _again(
            name,
            target,
            Refused(
                _("The name or the password is wrong."),
                _("If your account has one-time codes, a fresh one is needed too."),
            ),
            403,
        )
    session.begin(user)
    store().add_event(user.name, "login.accepted", data={"via": "web", "address": request.remote_addr or "?"})
    return redirect(target or url_for("start"))


def _again(name: str, target: str | None, error: WorkspacesError, status: int) -> Any:
    return make_response(render_template("login.html", next=target, name=name[:64], error=error), status)


@bp.post("/logout")
def logout() -> Any:
    """End this session."""
    session.end()
    flash(_("You are signed out."))
    return redirect(url_for("auth.login"))
