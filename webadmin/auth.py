"""Signing in and out."""

from __future__ import annotations

import logging
import threading
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for

from webadmin import session
from webadmin.context import parts, store
from webadmin.security import safe_next
from workspaces import accounts
from workspaces.errors import InvalidInput, Refused, WorkspacesError
from workspaces.model import User
from workspaces.names import check_name, printable

log = logging.getLogger(__name__)
bp = Blueprint("auth", __name__)

# argon2 takes tens of MiB and a core for each check: a crowd must not take the host's.
_checks = threading.BoundedSemaphore(2)
CHECK_WAIT = 10.0  # seconds that a check waits for its turn


class TooManyTries(Refused):
    http_status = 429

    def __init__(self, wait: float) -> None:
        minutes = int(wait // 60) + 1
        super().__init__(
            "Too many tries.",
            f"Wait {minutes} minute{'s' if minutes > 1 else ''} and try again. An ssh key works meanwhile.",
        )
        self.wait = int(wait) + 1


class Overloaded(WorkspacesError):
    http_status = 503


def verify(name: str, password: str) -> User | None:
    """The user whose password this is, None otherwise or when disabled; takes as long either way.

    Raises TooManyTries, and Overloaded when too many others are being checked.
    """
    address = request.remote_addr or "?"
    if wait := parts().throttle.take(name, address):
        raise TooManyTries(wait)
    user = store().find_user(name) if _possible(name) else None
    hashed = store().password_hash(name) if user and not user.disabled else None
    if not _checks.acquire(timeout=CHECK_WAIT):
        raise Overloaded("Too many people are signing in right now.", "Try again in a minute.")
    try:
        good = accounts.check_password(hashed, password)
    finally:
        _checks.release()
    if user is None or user.disabled or not good:
        log.warning("wrong password for %r from %s", printable(name, 64), address)
        return None
    parts().throttle.give_back(name, address)
    return user


def _possible(name: str) -> bool:
    try:
        check_name(name)
    except InvalidInput:
        return False
    return True


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
        user = verify(name, request.form.get("password", ""))
    except TooManyTries as error:
        response = _again(name, target, error, 429)
        response.headers["Retry-After"] = str(error.wait)
        return response
    if user is None:
        return _again(name, target, Refused("The name or the password is wrong."), 403)
    session.begin(user)
    store().add_event(user.name, "login.accepted", data={"via": "web", "address": request.remote_addr or "?"})
    return redirect(target or url_for("start"))


def _again(name: str, target: str | None, error: WorkspacesError, status: int) -> Any:
    return make_response(render_template("login.html", next=target, name=name[:64], error=error), status)


@bp.post("/logout")
def logout() -> Any:
    """End this session."""
    session.end()
    flash("You are signed out.")
    return redirect(url_for("auth.login"))
