"""A client of the OCI distribution API 1.1, as far as pushing and pulling versions needs it.

    blob:      HEAD ─there─► done    else POST ?mount=…&from=… ─201─► done    ─202─► PUT of all its bytes, in a stream
    manifest:  GET by tag or digest, PUT; the digest is counted here, and the registry's own must agree
    401 ─► auth.py ─► once more      3xx ─► followed for GET and HEAD, five times at most, elsewhere without password

Nothing of what a registry says is trusted: answers are bounded, bytes are compared with their digests. What it may
have got over in a minute (5xx, 429, time-outs, broken connections) is RegistryUnavailable; the job tries it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from workspaces.errors import Corrupt, RegistryError, RegistryUnavailable
from workspaces.names import printable
from workspaces.registry.auth import FILE, Authorization, Credentials
from workspaces.settings import is_loopback
from workspaces.streams import checked

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # without a single byte
CHUNK = 1 << 20
MAX_MANIFEST = 4 << 20  # the distribution specification's bound
MAX_SMALL = 65536  # bytes of a token or an error
REDIRECTS = 5
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)


class Registry:
    """The registry at `url` (scheme, host, prefix), with the user of keys/registry.json if there is one."""

    def __init__(self, url: str, keys: Path) -> None:
        address = urlsplit(url)
        self.origin = f"{address.scheme}://{address.netloc}"
        self.host = address.netloc
        self._prefix = address.path.strip("/")
        self._credentials = keys / FILE

    def repository(self, workspace: str) -> str:
        """The repository of a workspace's versions, from its `challenge/name`."""
        return f"{self._prefix}/{workspace}" if self._prefix else workspace

    def reference(self, workspace: str, version: int) -> str:
        """What `docker pull` takes: host/repository:vN."""
        return f"{self.host}/{self.repository(workspace)}:v{version}"

    def repository_of(self, reference: str) -> str | None:
        """The repository in a reference; None when it is one of another registry."""
        host, _, rest = reference.partition("/")
        return rest.rpartition(":")[0] if host == self.host else None

    @contextmanager
    def connect(self, repository: str, others: tuple[str, ...] = ()) -> Iterator[Client]:
        """A client for one repository; from `others` blobs may be mounted. Raises SettingsError."""
        with requests.Session() as session:
            yield Client(session, self.origin, repository, others, Credentials.read(self._credentials))


class Client:
    """The blobs and manifests of one repository. For one thread. All calls raise RegistryError or a child of it."""

    def __init__(
        self,
        session: requests.Session,
        origin: str,
        repository: str,
        others: tuple[str, ...],
        credentials: Credentials | None,
    ) -> None:
        session.auth = lambda request: request  # else requests would look for a password in ~/.netrc
        self._session = session
        self._origin = origin
        self._base = f"{origin}/v2/{repository}"
        self._scopes = (f"repository:{repository}:pull,push", *(f"repository:{name}:pull" for name in others))
        self._authorization = Authorization(origin, credentials, self._token)

    # manifests

    def manifest(self, reference: str) -> tuple[str, bytes] | None:
        """Digest and bytes of the manifest by tag or digest; None when there is none."""
        url = f"{self._base}/manifests/{quote(reference, safe=':')}"
        with self._send("GET", url, {"Accept": ACCEPT}, missing=True) as answer, self._failures():
            if answer.status_code == 404:
                return None
            data = _read(answer, MAX_MANIFEST)
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            claimed = answer.headers.get("Docker-Content-Digest", digest)
            if claimed != digest or (reference.startswith("sha256:") and reference != digest):
                raise RegistryError(f"The registry {self._origin} gave another manifest than it says.")
            return digest, data

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> bool:
        """Store a manifest under a tag, or its own digest; whether the registry took note of its subject itself."""
        url = f"{self._base}/manifests/{quote(reference, safe=':')}"
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with self._send("PUT", url, {"Content-Type": media_type}, lambda: data) as answer:
            if answer.headers.get("Docker-Content-Digest", digest) != digest:
                raise RegistryError(f"The registry {self._origin} stored another manifest than was sent.")
            return "OCI-Subject" in answer.headers

    # blobs

    def has_blob(self, digest: str) -> bool:
        with self._send("HEAD", f"{self._base}/blobs/{digest}", missing=True) as answer:
            return answer.status_code != 404

    def push_blob(
        self, digest: str, size: int, read: Callable[[], Iterator[bytes]], mount_from: str | None = None
    ) -> None:
        """Upload `size` bytes, which `read` streams (anew for each try), unless another repository's can be mounted."""
        query = {"mount": digest, "from": mount_from} if mount_from else {}
        url = f"{self._base}/blobs/uploads/" + (f"?{urlencode(query)}" if query else "")
        with self._send("POST", url, {"Content-Length": "0"}) as answer:
            if answer.status_code == 201:
                return
            place = self._location(answer, url)
        place += f"{'&' if urlsplit(place).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        with self._send("PUT", place, headers, lambda: _Body(read, size)) as answer:
            if answer.headers.get("Docker-Content-Digest", digest) != digest:
                raise RegistryError(f"The registry {self._origin} stored another blob than was sent.")

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """A blob in chunks. Raises Corrupt, after the last chunk at the latest, unless it is whole."""
        wrong = Corrupt(f"The registry {self._origin} gave other bytes than those of {digest}.")
        with self._send("GET", f"{self._base}/blobs/{digest}") as answer, self._failures():
            yield from checked(answer.iter_content(CHUNK), digest, size, wrong)

    # requests

    @contextmanager
    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] = lambda: None,
        *,
        missing: bool = False,
    ) -> Iterator[requests.Response]:
        """One answer below 300, or a 404 where `missing` allows it."""
        answer = self._followed(method, url, dict(headers or {}), body)
        if answer.status_code == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.close()
            self._authorization.answer(challenge, self._scopes)
            answer = self._followed(method, url, dict(headers or {}), body)
        with answer:
            if answer.status_code >= 300 and not (missing and answer.status_code == 404):
                raise self._refusal(method, answer)
            yield answer

    def _followed(self, method: str, url: str, headers: dict[str, str], body: Callable[[], Any]) -> requests.Response:
        for _ in range(REDIRECTS + 1):
            answer = self._once(method, url, headers, body)
            if answer.status_code not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                return answer
            answer.close()
            url = self._location(answer, url)
        raise RegistryError(f"The registry {self._origin} redirects without end.")

    def _once(self, method: str, url: str, headers: dict[str, str], body: Callable[[], Any]) -> requests.Response:
        sent = CaseInsensitiveDict(headers)
        if self._authorization.header is not None and _origin(url) == self._origin:
            sent["Authorization"] = self._authorization.header
        return self._call(method, url, sent, body)

    def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: Callable[[], Any] = lambda: None
    ) -> requests.Response:
        with self._failures():
            return self._session.request(
                method,
                url,
                headers=headers,
                data=body(),
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )

    def _token(self, url: str, authorization: str | None) -> bytes:
        headers = {} if authorization is None else {"Authorization": authorization}
        with self._call("GET", url, headers) as answer, self._failures():
            if answer.status_code != 200:
                raise self._refusal("GET", answer)
            return _read(answer, MAX_SMALL)

    def _location(self, answer: requests.Response, url: str) -> str:
        """Where an answer sends us. Raises RegistryError when that is nowhere, or in the clear."""
        place = urljoin(url, answer.headers.get("Location", ""))
        try:
            address = urlsplit(place)
            plain = address.scheme == "http" and self._origin.startswith("http://") and is_loopback(address.hostname)
            _ = address.port  # ValueError for what is none
        except ValueError:
            raise RegistryError(f"The registry {self._origin} sends to {printable(place)!r}.") from None
        if "Location" not in answer.headers or not address.hostname or not (address.scheme == "https" or plain):
            raise RegistryError(
                f"The registry {self._origin} sends to {printable(place)!r}, which is not safe to go to."
            )
        return place

    def _refusal(self, method: str, answer: requests.Response) -> RegistryError:
        status = answer.status_code
        with self._failures():
            said = _message(answer)
        what = f"The registry {self._origin} answers {method} with {status}{f': {said}' if said else ''}."
        if status >= 500 or status in (408, 425, 429):
            return RegistryUnavailable(what)
        hints = {
            401: f"Check user and password in keys/{FILE} of the state directory.",
            403: "Let that user push to this repository.",
            404: "Is [registry] url right?",
            413: "A proxy in front of it may bound the size of uploads (nginx: client_max_body_size).",
        }
        return RegistryError(what, hints.get(status, ""))

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What goes wrong on the way, as our errors."""
        try:
            yield
        except requests.exceptions.SSLError as exc:
            raise RegistryError(
                f"The registry {self._origin} shows a certificate that is not trusted: {printable(str(exc))}",
                "Install its authority on this host, or name it in REQUESTS_CA_BUNDLE.",
            ) from exc
        except requests.exceptions.Timeout as exc:
            raise RegistryUnavailable(f"The registry {self._origin} does not answer in time.") from exc
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as exc:
            raise RegistryUnavailable(f"The registry {self._origin} is not within reach: {_cause(exc)}.") from exc
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as exc:
            raise RegistryError(f"The registry {self._origin} answers what is no HTTP: {_cause(exc)}.") from exc
        except OSError as exc:
            raise RegistryUnavailable(f"The connection to the registry {self._origin} broke: {_cause(exc)}.") from exc


class _Body:
    """A body of known length that requests sends chunk by chunk."""

    def __init__(self, read: Callable[[], Iterator[bytes]], size: int) -> None:
        self._read = read
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._read()


def _origin(url: str) -> str:
    address = urlsplit(url)
    return f"{address.scheme}://{address.netloc}"


def _read(answer: requests.Response, limit: int) -> bytes:
    """The whole of a small answer. Raises RegistryError when it is larger than `limit` bytes."""
    data = bytearray()
    for chunk in answer.iter_content(65536):
        data += chunk
        if len(data) > limit:
            raise RegistryError(f"The registry answers with more than {limit} bytes where a small document belongs.")
    return bytes(data)


def _message(answer: requests.Response) -> str:
    """The registry's own words about an error, safe to print; empty when there are none."""
    try:
        error = json.loads(_read(answer, MAX_SMALL))["errors"][0]
        return printable(f"{error['code']}, {error['message']}", 200)
    except (RegistryError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""


def _cause(exc: BaseException) -> str:
    """The innermost reason that says something."""
    while (inner := getattr(exc, "reason", None) or (exc.args[0] if exc.args else None)) is not None:
        if not isinstance(inner, BaseException):
            break
        exc = inner
    return printable(str(exc), 150)
