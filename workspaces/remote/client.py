"""Requests to /api/v1: the token, parts of lists, writes that are sent again without being done twice, and errors."""

from __future__ import annotations

import ipaddress
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.auth import AuthBase

from workspaces.errors import (
    Conflict,
    HostError,
    InvalidInput,
    NotFound,
    Refused,
    UsageError,
    WorkspacesError,
)
from workspaces.names import printable

TIMEOUT = (10.0, 60.0)  # seconds until connected, and of silence
TRIES = 4
WAIT_MAX = 15.0  # seconds that are waited when the server says so
KINDS: Mapping[int, type[WorkspacesError]] = {
    400: InvalidInput,
    401: Refused,
    403: Refused,
    404: NotFound,
    409: Conflict,
    422: InvalidInput,
}


class _Bearer(AuthBase):
    """Shows the token; given as `auth`, no password file of the user's takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Client:
    """The API at `url`. Raises UsageError for an address that would show the token to others on its way."""

    def __init__(self, url: str, token: str, session: requests.Session | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError(f"{printable(url, 100)!r} is not the address of a server.", "Write it as https://HOST.")
        if parts.scheme == "http" and not _is_here(parts.hostname):
            raise UsageError(
                "The token is not sent over plain http: others could read it.", f"Use https://{parts.netloc}."
            )
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise UsageError("The token is not one.", "It looks like wst_… and stands alone on its line.")
        self._base = url.rstrip("/") + "/api/v1"
        self._session = session or requests.Session()
        self._auth = _Bearer(token)

    def get(self, path: str, **query: object) -> Any:
        """What is at `path`; of `query`, what is None is left out. Raises what the answer says."""
        said = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask("GET", f"{self._base}{path}" + (f"?{urlencode(said)}" if said else ""))

    def all(self, path: str, most: int | None = None, **query: object) -> Iterator[Any]:
        """The items of a list, part by part, at most so many."""
        limit = 200 if most is None else min(200, max(1, most))
        found, count = self.get(path, limit=limit, **query), 0
        while True:
            for item in found["items"]:
                if most is not None and count >= most:
                    return
                count += 1
                yield item
            if not found["next"]:
                return
            found = self._ask("GET", self._next(str(found["next"])))

    def write(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Do something, once, however often it has to be sent."""
        return self._ask(method, self._base + path, body, {"Idempotency-Key": str(uuid.uuid4())})

    def download(self, path: str, target: BinaryIO) -> int:
        """Write what is at `path` to a file, as it comes; how many bytes that were. Raises what the answer says."""
        try:
            with self._session.get(
                self._base + path, auth=self._auth, timeout=TIMEOUT, allow_redirects=False, stream=True
            ) as answer:
                if answer.status_code != 200 or answer.headers.get("Content-Type", "").startswith("text/"):
                    self._read(answer)
                    raise HostError(f"{self._host} answers {answer.status_code}, and not with a file.")
                size = 0
                for piece in answer.iter_content(1 << 16):
                    size += target.write(piece)
                return size
        except requests.RequestException as exc:
            raise HostError(f"{self._host} broke off: {printable(str(exc), 300)}") from exc

    def _next(self, path: str) -> str:
        """The address of the next part, which is the server's own."""
        found = urljoin(self._base, path)
        if not found.startswith(self._base + "/"):
            raise WorkspacesError("The server names an address of another one.")
        return found

    def _ask(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                answer = self._session.request(
                    method, url, json=body, headers=headers, auth=self._auth, timeout=TIMEOUT, allow_redirects=False
                )
            except requests.exceptions.SSLError as exc:
                raise HostError(
                    f"{self._host} does not prove who it is: {printable(str(exc), 300)}",
                    "For a certificate of your own authority: set REQUESTS_CA_BUNDLE to its file.",
                ) from exc
            except requests.RequestException as exc:
                if last:
                    raise HostError(f"{self._host} does not answer: {printable(str(exc), 300)}") from exc
                time.sleep(0.2 * 2**attempt)
                continue
            if answer.status_code in (429, 503) and not last and (wait := _wait(answer)) is not None:
                time.sleep(wait)
                continue
            return self._read(answer)
        raise AssertionError("the last attempt returns or raises")

    def _read(self, answer: requests.Response) -> Any:
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        if answer.status_code == 204:
            return None
        try:
            found = answer.json() if kind in ("application/json", "application/problem+json") else None
        except ValueError:
            found = None
        if answer.ok and kind == "application/json" and found is not None:
            return found
        if not isinstance(found, dict) or answer.status_code < 400:
            raise HostError(
                f"{self._host} answers {answer.status_code}, and not as a workspaces server does.", "Check the address."
            )
        parts = [str(found.get("detail", "")), *(_part(one) for one in found.get("errors") or ())]
        message = printable(" ".join(part for part in parts if part), 1000) or f"Error {answer.status_code}."
        raise KINDS.get(answer.status_code, HostError)(message, printable(str(found.get("hint") or ""), 1000))

    @property
    def _host(self) -> str:
        return urlsplit(self._base).netloc


def _part(error: Any) -> str:
    """One of a problem's errors in words: where, and what."""
    if not isinstance(error, dict):
        return ""
    where = str(error.get("parameter") or str(error.get("pointer", "")).removeprefix("#/"))
    return f"{where}: {error.get('detail')}."


def _wait(answer: requests.Response) -> float | None:
    """Seconds after which the server wants to be asked again; None when that is too long to wait for."""
    text = answer.headers.get("Retry-After", "1")
    seconds = float(text) if text.isascii() and text.isdigit() else 1.0
    return seconds if seconds <= WAIT_MAX else None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
