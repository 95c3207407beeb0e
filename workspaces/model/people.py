"""Accounts, and what lets them in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    PARTICIPANT = "participant"
    REVIEWER = "reviewer"  # decides on requests; what each may do is in rights.py
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    role: Role
    has_password: bool
    disabled: bool
    created_at: float
    has_totp: bool = False  # a password alone does not log in
    email: str | None = None  # where news are sent to, if this host sends mail


@dataclass(frozen=True, slots=True)
class Key:
    """A public key; `fingerprint` is OpenSSH's `SHA256:…`, `line` is `type base64 comment`.

    `options` are those of authorized_keys(5) in its syntax, e.g. `restrict,from="192.0.2.0/24"`.
    """

    id: int
    user: str
    fingerprint: str
    line: str
    added_at: float
    last_used_at: float | None
    last_used_from: str | None
    options: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose user certificates log in: to the workspaces of `challenge`, or to all (None)."""

    id: int
    challenge: str | None
    fingerprint: str
    line: str
    added_at: float


@dataclass(frozen=True, slots=True)
class SignIn:
    """A browser that is signed in to the pages; `via` is how: password, passkey, oidc or invitation.

    `seen_at` is when the person last did something, `proven_at` when he last proved who he is.
    """

    id: int
    user: str
    via: str
    address: str
    browser: str
    created_at: float
    seen_at: float
    proven_at: float


@dataclass(frozen=True, slots=True)
class Passkey:
    """A WebAuthn credential: its id in base64url, its public key in COSE, and what its owner calls it."""

    id: int
    user: str
    credential: str
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...]
    name: str
    added_at: float
    last_used_at: float | None
    last_used_from: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """An account at an OpenID provider that signs `user` in; `shown` is what it is called there, for people to read."""

    id: int
    user: str
    issuer: str
    subject: str
    shown: str
    linked_at: float
    last_used_at: float | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """What lets `user` set a password until `expires_at`."""

    id: int
    user: str
    invited_by: str
    invited_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows to the API in the name of `user`; `hint` is how its secret begins.

    `scopes` are the names of what it may be used for (scopes.py).
    """

    id: int
    user: str
    name: str
    scopes: tuple[str, ...]
    hint: str
    created_at: float
    expires_at: float
    last_used_at: float | None
    last_used_from: str | None
