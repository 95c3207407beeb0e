"""One-time codes by time (RFC 6238: SHA-1, 6 digits, 30 s), as authenticator apps make them.

new_secret() ─► base32, shown once ─► the app      uri() ─► otpauth://… for its QR code
typed code ─► matching_step() ─► number of the 30 s, for the store to accept once
"""

from __future__ import annotations

import base64
import os
import re

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

DIGITS = 6
STEP = 30  # seconds
DRIFT = 1  # steps that a clock may be behind or ahead
SECRET_BYTES = 20
ISSUER = "workspaces"


def new_secret() -> str:
    """A secret in base32, 32 letters and digits."""
    return base64.b32encode(os.urandom(SECRET_BYTES)).decode()


def uri(secret: str, name: str) -> str:
    """What authenticator apps read from a QR code."""
    return _totp(secret).get_provisioning_uri(name, ISSUER)


def matching_step(secret: str, code: str, now: float) -> int | None:
    """The number of the step whose code this is, at most DRIFT from `now`, or None. Takes as long for a wrong one."""
    digits = re.sub(r"[ -]", "", code[:64])
    typed = digits.encode() if re.fullmatch(f"[0-9]{{{DIGITS}}}", digits) else b"-" * DIGITS
    totp, step, found = _totp(secret), int(now) // STEP, None
    for candidate in range(step - DRIFT, step + DRIFT + 1):
        try:
            totp.verify(typed, candidate * STEP)  # in constant time
            found = candidate
        except InvalidToken:
            pass
    return found


def _totp(secret: str) -> TOTP:
    return TOTP(base64.b32decode(secret), DIGITS, SHA1(), STEP)  # noqa: S303 -- RFC 6238's, and what every app has
