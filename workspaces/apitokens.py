"""Making API tokens: the same rules for the page and the command line."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable

from workspaces.errors import InvalidInput
from workspaces.model import Token
from workspaces.scopes import DAYS_MAX, chosen
from workspaces.store import Store

PREFIX = "wst_"  # so that tools that look for secrets know one
SECRET_MAX = 200
DAYS = 90


def make(
    store: Store, user: str, name: str, scopes: Iterable[str], days: int = DAYS, *, actor: str
) -> tuple[Token, str]:
    """A new token of `user` and its secret, which is kept nowhere. NotFound, InvalidInput, Refused, Conflict."""
    if not 1 <= days <= DAYS_MAX:
        raise InvalidInput(f"A token is for 1 to {DAYS_MAX} days.")
    wanted = chosen(scopes, store.rights_of(user))
    secret = PREFIX + secrets.token_urlsafe(32)
    hint = secret[: len(PREFIX) + 6]
    expires_at = time.time() + days * 86400
    return store.add_token(user, name, wanted, digest(secret), hint, expires_at=expires_at, actor=actor), secret


def digest(secret: str) -> str:
    """What is kept of it. The secret has 256 random bits, so one round of a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
