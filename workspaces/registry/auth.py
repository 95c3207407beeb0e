"""Who this program is to a registry: a user's name and password, Basic or for a Bearer token.

    401 with `WWW-Authenticate: Basic …`   ─► the password with each request
    401 with `WWW-Authenticate: Bearer …`  ─► a token from its `realm`, for this repository, for as long as it is taken

The password goes to the registry and to the realm that it names, and over plain HTTP only on this host.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from workspaces.errors import RegistryError, SettingsError
from workspaces.names import printable
from workspaces.settings import is_loopback

FILE = "registry.json"
_MAX_FILE = 65536


@dataclass(frozen=True, slots=True)
class Credentials:
    """What keys/registry.json holds: `{"username": …, "password": …}`."""

    username: str
    password: str

    @classmethod
    def read(cls, path: Path) -> Credentials | None:
        """None when there is no such file. Raises SettingsError with what is wrong with it."""
        try:
            if path.stat().st_mode & 0o077:
                raise SettingsError(f"Others can read {path}.", f"Make it yours alone: chmod 600 {path}")
            with path.open("rb") as file:
                value = json.loads(file.read(_MAX_FILE))
            found = cls(value["username"], value["password"])
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise SettingsError(f"{path} cannot be read: {exc.strerror}.") from exc
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if found is None or not all(isinstance(text, str) for text in (found.username, found.password)):
            raise SettingsError(f'{path} must hold {{"username": "…", "password": "…"}}.')
        return found

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class Authorization:
    """The Authorization header for one repository, found out at the first refusal.

    `fetch` gets a token's JSON from an address, with an Authorization header if there is one to send.
    """

    def __init__(self, origin: str, credentials: Credentials | None, fetch: Callable[[str, str | None], bytes]) -> None:
        self._origin = origin
        self._credentials = credentials
        self._fetch = fetch
        self.header: str | None = None

    def answer(self, challenge: str, scopes: tuple[str, ...]) -> None:
        """Set `header` after a 401 with this WWW-Authenticate. Raises RegistryError, RegistryUnavailable."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._credentials is None:
                raise self._refused()
            self.header = self._credentials.header
            return
        try:
            parameters = parse_keqv_list(parse_http_list(rest)) if scheme.lower() == "bearer" else {}
            realm = parameters["realm"]
            address = urlsplit(realm)
            plain = address.scheme == "http" and self._origin.startswith("http://") and is_loopback(address.hostname)
        except (ValueError, KeyError):
            raise RegistryError(
                f"The registry {self._origin} asks for an unknown kind of sign-in: {printable(challenge, 80)!r}."
            ) from None
        if address.scheme != "https" and not plain:
            raise RegistryError(f"The registry {self._origin} wants the password in the clear at {printable(realm)!r}.")
        query = [("service", parameters["service"])] if "service" in parameters else []
        query += [("scope", scope) for scope in scopes]
        token = self._fetch(
            f"{realm}{'&' if address.query else '?'}{urlencode(query)}",
            self._credentials.header if self._credentials else None,
        )
        try:
            value = json.loads(token)
            text = value.get("token") or value["access_token"]
            if not isinstance(text, str) or not text.isascii() or not text.isprintable():
                raise ValueError("no token")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise RegistryError(f"{address.hostname} gave no token that could be read for {self._origin}.") from None
        self.header = f"Bearer {text}"

    def _refused(self) -> RegistryError:
        return RegistryError(
            f"The registry {self._origin} asks for a password, and there is none.",
            f'Put {{"username": "…", "password": "…"}} into keys/{FILE} of the state directory (chmod 600).',
        )
