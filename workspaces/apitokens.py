"""Making API tokens: the same rules for the page and the command line."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken

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


def seal(secret: str, text: str) -> str:
    """`text` so that only who shows the token's secret can have it back: an answer may hold secrets of its own."""
    return _sealer(secret).encrypt(text.encode()).decode()


def unseal(secret: str, sealed: str) -> str | None:
    """What was sealed with this secret; None for anything else."""
    try:
        return _sealer(secret).decrypt(sealed.encode()).decode()
    except InvalidToken:
        return None


def _sealer(secret: str) -> Fernet:
    """By another hash than the one that is kept."""
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"answers\0" + secret.encode()).digest()))
