"""Registries to push to: Debian's docker-registry as a process on loopback, and one that does as a test tells it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bcrypt

from tests.support.savetar import sha256

PROGRAM = shutil.which("docker-registry")


@dataclass
class RealRegistry:
    """A docker-registry with an empty store in `root`; `log` is what it wrote."""

    url: str
    root: Path
    log: Path

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def real_registry(root: Path, password: str | None = None) -> Iterator[RealRegistry]:
    """Until the block ends; with `password` it asks for that, of the user `pusher`."""
    assert PROGRAM is not None, "docker-registry is not installed"
    root.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(root / "store")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if password is not None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (root / "htpasswd").write_text(f"pusher:{hashed}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}
    (root / "config.yml").write_text(json.dumps(config))
    log = root / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([PROGRAM, "serve", str(root / "config.yml")], stdout=out, stderr=out)
    try:
        while (found := re.search(rb"listening on (127\.0\.0\.1:\d+)", log.read_bytes())) is None:
            assert process.poll() is None, log.read_text()
            threading.Event().wait(0.02)
        yield RealRegistry(f"http://{found[1].decode()}", root, log)
    finally:
        process.kill()
        process.wait()


@dataclass
class Request:
    """One request as FakeRegistry got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FakeRegistry:
    """Answers each request with what `rule` returns for it; None: hangs up. `requests` has all that came."""

    def __init__(self, rule: Callable[[Request], Answer | None]) -> None:
        self.requests: list[Request] = []
        self.rule = rule
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.requests.append(request)
                answer = outer.rule(request)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[FakeRegistry]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def write_credentials(keys: Path, username: str, password: str) -> Path:
    """keys/registry.json as an administrator writes it."""
    keys.mkdir(parents=True, exist_ok=True)
    path = keys / "registry.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"username": username, "password": password}))
    return path


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class MemoryRegistry:
    """A rule for FakeRegistry: a registry in memory, as the distribution API has it, as far as pushes need it."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}  # (repository, digest) → bytes
        self.manifests: dict[tuple[str, str], bytes] = {}  # (repository, tag or digest) → bytes

    def __call__(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        query = dict(parse_qsl(url.query))
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(.+)", url.path)
        if found is None:
            return Answer(404)
        repository, kind, name = found.groups()
        if name == "uploads/" and (data := self.blobs.get((query.get("from", ""), query.get("mount", "")))) is not None:
            self.blobs[repository, query["mount"]] = data
            return Answer(201)
        if name == "uploads/":
            return Answer(202, {"Location": f"/v2/{repository}/blobs/uploads/1?state=x"})
        if kind == "blobs" and request.method == "PUT":
            assert query["state"] == "x"
            assert query["digest"] == sha256(request.body)
            self.blobs[repository, query["digest"]] = request.body
            return Answer(201, {"Docker-Content-Digest": query["digest"]})
        if kind == "manifests" and request.method == "PUT":
            for reference in (name, sha256(request.body)):
                self.manifests[repository, reference] = request.body
            return Answer(201, {"Docker-Content-Digest": sha256(request.body)})
        data = (self.blobs if kind == "blobs" else self.manifests).get((repository, name))
        return Answer(404) if data is None else Answer(200, {"Docker-Content-Digest": sha256(data)}, data)
