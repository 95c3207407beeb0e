"""Secrets that this program draws and hands out once: recovery codes to keep on paper, tokens of invitations.

Each has 80 bits of chance or more, so a plain digest of it can be kept: there is nothing that could be tried out.

    new_codes() ─► shown once ─► typed, however grouped ─► normal() ─► digest() ─► looked up in the store
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets

CODES = 10
_BYTES = 10
_LENGTH = 16  # characters of base32
_GROUP = 4


def new_codes() -> list[str]:
    """As many as a person gets at once, grouped for reading: `abcd-efgh-2345-67mn`."""
    plain = [base64.b32encode(os.urandom(_BYTES)).decode().lower() for _ in range(CODES)]
    return ["-".join(code[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP)) for code in plain]


def normal(typed: str) -> str | None:
    """What was typed without its grouping, or None when it can be no recovery code, such as a one-time code."""
    code = re.sub(r"[\s-]", "", typed[:64]).lower().translate(str.maketrans("01", "ol"))
    return code if re.fullmatch(f"[a-z2-7]{{{_LENGTH}}}", code) else None


def new_token() -> str:
    """One that goes into an address."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a code or token."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
