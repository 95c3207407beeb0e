"""The connection to a Docker daemon, and the one place where its errors become ours.

    DockerConnection ─► APIClient (quick: bounded by CALL_SECONDS; bulk: commit, load, save) ─► daemon
                     ◄─ docker_errors(): docker's, requests' and urllib3's exceptions → workspaces.errors

Nothing is connected before the first call, and a daemon that comes back is found again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, StreamParseError, create_api_error_from_http_exception

from workspaces.engine.base import EngineInfo
from workspaces.errors import Conflict, EngineError, EngineTimeout, EngineUnavailable, EngineUnfit, NoSpace, NotFound

CALL_SECONDS = 60
BULK_SECONDS = 1800
POOL = 32  # connections kept open; more may exist at a time

PRIVATE_LABEL = "io.workspaces.engine=private"  # of a daemon that `private` starts: it makes no filter rules itself

CONTAINERD_STORE = "io.containerd.snapshotter.v1"  # driver-type that `docker info` names

_FULL = re.compile(r"no space left on device|disk quota exceeded|not enough space", re.IGNORECASE)


@contextmanager
def docker_errors(what: str) -> Iterator[None]:
    """Turn whatever the docker library raises inside into an EngineError (or child), NotFound or Conflict.

    `what` names the attempt, e.g. "start ws-1"; it becomes part of the message.
    """
    try:
        yield
    except APIError as exc:
        raise _from_api(what, exc) from exc
    except StreamParseError as exc:
        raise EngineError(f"The engine could not {what}: its answer makes no sense.") from exc
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
        raise _from_transport(what, exc) from exc


def refused(what: str, text: str) -> EngineError:
    """The error for an engine's own words `text`; NoSpace when they say so."""
    words = " ".join(text.split())[:500]
    if _FULL.search(words):
        return NoSpace(f"The engine's disk is full: could not {what}.", f"{words}\nFree some space, then try again.")
    return EngineError(f"The engine could not {what}: {words}")


def _from_api(what: str, exc: APIError) -> Exception:
    text = str(exc.explanation or exc)
    if exc.status_code == 404:
        return NotFound(f"Could not {what}: {text}")
    if exc.status_code == 409:
        return Conflict(f"Could not {what}: {text}")
    return refused(what, text)


def _from_transport(what: str, exc: BaseException) -> EngineError:
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
            return EngineTimeout(f"The container engine took too long: could not {what}.")
        if isinstance(seen, requests.ConnectionError) and seen.args and isinstance(seen.args[0], BaseException):
            seen = seen.args[0]
            continue
        seen = seen.__cause__ or seen.__context__
    if isinstance(exc, ValueError) and not isinstance(exc, requests.RequestException):
        return EngineError(f"The engine could not {what}: {exc}")
    return EngineUnavailable(
        f"The container engine does not answer: could not {what}.",
        "See `workspaces engine status`; start the private one with `workspaces engine start`.",
    )


def stream_events(events: Iterable[Any], what: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a load or pull; an error that is one of them is raised."""
    for event in events:
        if not isinstance(event, dict):
            continue
        if "error" in event or "errorDetail" in event:
            detail = event.get("errorDetail")
            raise refused(what, str(event.get("error") or (detail or {}).get("message") or "unknown"))
        yield event


class DockerConnection:
    """What the container and image halves of the engine share: clients, and facts about the daemon.

    `host` is a docker URL, `guest_dir` what containers see at GUEST_MOUNT, `instance` identifies the state directory.
    """

    def __init__(self, host: str, guest_dir: Path, instance: str) -> None:
        self.host = host
        self.guest_dir = guest_dir
        self.instance = instance
        self._lock = threading.Lock()
        self._quick: docker.APIClient | None = None
        self._bulk: docker.APIClient | None = None
        self._facts: dict[str, Any] | None = None
        self._first_processes: dict[str, tuple[str, int]] = {}  # by name: a container's id and its process 1

    def quick(self) -> docker.APIClient:
        """The client for calls that answer at once."""
        if self._quick is None:
            # It asks for the daemon's version; when that hangs, no other thread must wait for this one's time-out.
            made = self._client("auto", CALL_SECONDS)
            with self._lock:
                self._quick = self._quick or made
        return self._quick

    def bulk(self) -> docker.APIClient:
        """The client for calls that move a file system."""
        version = self.quick().api_version
        with self._lock:
            if self._bulk is None:
                self._bulk = self._client(version, BULK_SECONDS)
            return self._bulk

    def _client(self, version: str, timeout: int) -> docker.APIClient:
        client = docker.APIClient(base_url=self.host, version=version, timeout=timeout, max_pool_size=POOL)
        client.trust_env = False  # REQUESTS_CA_BUNDLE would replace the daemon's own CA, a proxy its address
        return client

    @contextmanager
    def streamed(self, path: str) -> Iterator[requests.Response]:
        """GET an answer that may be large, to be read in pieces; each may take BULK_SECONDS.

        docker's own methods switch the time-out off for such answers: a daemon that hangs would hold a thread for good.
        """
        api = self.bulk()
        url = f"{api.base_url}/v{api.api_version}{path}"
        with api.get(url, stream=True, timeout=BULK_SECONDS) as answer:
            try:
                answer.raise_for_status()
            except requests.HTTPError as exc:
                raise create_api_error_from_http_exception(exc) from exc
            yield answer

    def posted(self, path: str, body: Mapping[str, Any]) -> None:
        """POST what docker's own methods cannot say."""
        api = self.quick()
        answer = api.post(f"{api.base_url}/v{api.api_version}{path}", json=dict(body), timeout=CALL_SECONDS)
        try:
            answer.raise_for_status()
        except requests.HTTPError as exc:
            raise create_api_error_from_http_exception(exc) from exc

    def facts(self) -> dict[str, Any]:
        """What the daemon says of itself and does not change while it keeps its data: asked once.

        Raises EngineUnfit for one that cannot be used.
        """
        if self._facts is None:
            with docker_errors("ask the engine about itself"):
                found = self.quick().info()
            self._facts = _usable(found)
        return self._facts

    def data_root(self) -> Path:
        return Path(str(self.facts()["DockerRootDir"]))

    def private(self) -> bool:
        """Whether it is one that `private` started."""
        return PRIVATE_LABEL in (self.facts().get("Labels") or ())

    def mapped_root(self) -> tuple[int, int]:
        """The host's uid and gid of root in a container: 0 unless user namespaces are on.

        A daemon with userns-remap keeps its data in a directory named `<uid>.<gid>`.
        """
        if not _remapped(self.facts()):
            return 0, 0
        found = re.fullmatch(r"(\d+)\.(\d+)", self.data_root().name)
        if not found:
            raise EngineError(f"The engine maps users, but {self.data_root()} does not say to which.")
        return int(found[1]), int(found[2])

    def info(self) -> EngineInfo:
        """Raises EngineUnavailable when nothing answers."""
        with docker_errors("ask the engine about itself"):
            found = self.quick().info()
            version = self.quick().version()
        self._facts = _usable(found)
        runtime = str(found.get("DefaultRuntime") or "runc")
        parts = {str(part.get("Name")): str(part.get("Version")) for part in version.get("Components") or ()}
        return EngineInfo(
            name="private Docker" if self.private() else "Docker",
            version=str(version.get("Version", "")),
            runtime_version=f"{runtime} {parts.get(runtime, '')}".strip(),
            storage_driver=str(found.get("Driver", "")),
            userns=_remapped(found),
            data_root=str(found["DockerRootDir"]),
            warnings=tuple(str(text).removeprefix("WARNING: ") for text in found.get("Warnings") or ()),
        )

    def close(self) -> None:
        with self._lock:
            for client in (self._quick, self._bulk):
                if client is not None:
                    client.close()
            self._quick = self._bulk = None


def _usable(facts: dict[str, Any]) -> dict[str, Any]:
    """Raises EngineUnfit for a daemon whose images have no ids that outlive it."""
    if ["driver-type", CONTAINERD_STORE] in (facts.get("DriverStatus") or ()):
        raise EngineUnfit(
            "This Docker keeps its images in containerd's store, where their ids are not those that an archive needs.",
            'Set {"features": {"containerd-snapshotter": false}} in its daemon.json, or remove [engine] host from '
            "workspaces.toml: the private engine is taken then.",
        )
    return facts


def _remapped(facts: dict[str, Any]) -> bool:
    return any("name=userns" in str(option) for option in facts.get("SecurityOptions") or ())
