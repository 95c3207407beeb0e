"""The session key, response headers, and which addresses a sign-in may lead to."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from flask import Response, request

from workspaces.errors import SettingsError
from workspaces.files import put

KEY_FILE = "web-session.key"
KEY_BYTES = 32

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# asciinema-player's terminal is WebAssembly, which the page may compile; scripts from elsewhere or inline stay out.
PLAYER_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": over https the CSRF check compares the referring address with this host.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def session_key(keys: Path) -> bytes:
    """The key that signs sessions, made once in directory `keys`, readable by its owner only.

    Two processes that start together get the same one. Raises SettingsError when it cannot be used.
    """
    path = keys / KEY_FILE
    key = kept_key(path, lambda: secrets.token_bytes(KEY_BYTES))
    if len(key) < KEY_BYTES:
        raise SettingsError(f"{path} is too short for a key.", "Delete it; a new one is made at the next start.")
    return key


def kept_key(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in file `path`, made once, readable by its owner only. Raises SettingsError when it cannot be used."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            put(path, make(), 0o600)
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"Others may read {path}.", f"Run: chmod 600 {path}   (or delete it to get a new one)")
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path} cannot be used: {exc}.") from exc


def harden(response: Response) -> Response:
    """Put the security headers on every response; keep pages, which are personal, out of every cache."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.endpoint == "static" and response.status_code < 400:
        # An address with ?v= changes with the file.
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if "v" in request.args else "no-cache"
    else:
        response.headers["Cache-Control"] = "no-store"
    return response


def safe_next(target: str | None) -> str | None:
    """`target` if it is a path on this site, else None.

    Browsers read `//host`, `/\\host` and paths with control characters as other sites.
    """
    if not target or len(target) > 2000 or not target.startswith("/") or target.startswith(("//", "/\\")):
        return None
    if any(c <= " " or c in "\\\x7f" for c in target):
        return None
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else target


def came_from() -> str | None:
    """Path of the page of this site that sent the request, None when unknown or foreign."""
    if not request.referrer:
        return None
    try:
        parts = urlsplit(request.referrer)
    except ValueError:
        return None
    if parts.netloc != request.host:
        return None
    return safe_next(parts.path + (f"?{parts.query}" if parts.query else ""))
