"""Who is signed in: flask-login over the store's users.

The session cookie is signed and names the account, a fingerprint of its password's hash and of its secret for one-time
codes, and when it signed in. It ends when one of those changes, the account is disabled or made anew, or after MAX_AGE.
A session that shows up from another address or browser may still look, but an administrator must sign in again to
change anything.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import cached_property
from typing import cast

from flask import Flask, current_app, session
from flask_login import LoginManager, UserMixin, current_user, login_fresh, login_user, logout_user

from webadmin.context import store
from workspaces.errors import Refused
from workspaces.model import Role, User
from workspaces.rights import Rights

MAX_AGE = 12 * 3600  # seconds


class Account(UserMixin):  # type: ignore[misc]
    """The signed-in user, as flask-login wants it."""

    def __init__(self, user: User, fingerprint: str) -> None:
        self.user = user
        self.fingerprint = fingerprint

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def is_admin(self) -> bool:
        """Whether of the host, with every right."""
        return self.user.role is Role.ADMIN

    @cached_property
    def rights(self) -> Rights:
        return store().rights_of(self.name)

    def get_id(self) -> str:
        return f"{self.name}:{self.fingerprint}"


def install(app: Flask) -> None:
    manager = LoginManager()
    manager.session_protection = "basic"
    manager.user_loader(_load)
    manager.init_app(app, add_context_processor=False)


def account() -> Account | None:
    """The signed-in account, None for a visitor."""
    return cast(Account, current_user) if current_user.is_authenticated else None


def me() -> Account:
    """The signed-in account; the blueprint's guard has made sure that there is one."""
    found = account()
    if found is None:
        raise Refused("Nobody is signed in.")
    return found


def is_fresh() -> bool:
    """Whether the session still comes from the browser and address that signed in."""
    return bool(login_fresh())


def begin(user: User) -> None:
    """Start a session for `user`, with nothing kept of the one before."""
    session.clear()
    session.permanent = True
    session["at"] = time.time()
    login_user(Account(user, _fingerprint(user)))


def end() -> None:
    logout_user()
    session.clear()


def _load(user_id: str) -> Account | None:
    name, _, fingerprint = user_id.rpartition(":")
    if time.time() - session.get("at", 0) > MAX_AGE:
        return None
    user = store().find_user(name)
    if user is None or user.disabled or not hmac.compare_digest(_fingerprint(user), fingerprint):
        return None
    return Account(user, fingerprint)


def _fingerprint(user: User) -> str:
    # Keyed, because cookies are readable: nothing of hash and secret themselves leaves the store.
    text = f"{user.id}:{user.created_at}:{store().password_hash(user.name)}:{store().totp_secret(user.name)}"
    key = cast(bytes, current_app.secret_key)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:24]
