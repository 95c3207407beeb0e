"""A real S3 server for tests (SeaweedFS, loopback only, one for the session), and a proxy before it that breaks things.

s3_server (session) ─► bucket (one for each test) ─► Archive
                └────► Faulty: the same, with chosen answers replaced
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader

from workspaces.settings import Bucket

ACCESS, SECRET = "tests", "secret-of-tests"
BUCKET = "archive-tests"
_session: dict[str, str] = {}
_numbers = itertools.count(1)
_loader = functools.cache(create_loader)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, http://127.0.0.1:PORT. Stopped when the session ends, also in a worker of xdist."""
    if "endpoint" in _session:  # another module's import of this fixture has started it
        yield _session["endpoint"]
        return
    directory = tmp_path_factory.mktemp("s3")
    process, endpoint = _start(directory)
    try:
        _until_it_answers(endpoint, directory)
        _session["endpoint"] = endpoint
        yield endpoint
    finally:
        _session.clear()
        process.kill()  # it would take half a minute to end by itself, and nothing of it is kept
        process.wait(30)
        shutil.rmtree(directory)


@pytest.fixture
def bucket(s3_server: str) -> Bucket:
    """A prefix of the test's own in the one bucket: SeaweedFS reserves volumes for each bucket."""
    return new_bucket(s3_server)


def new_bucket(endpoint: str) -> Bucket:
    return Bucket(BUCKET, f"some/prefix{next(_numbers)}", endpoint, "us-east-1", True)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boto3 finds them; and no file of this machine's. Its own data files are read once, not by each client."""
    monkeypatch.setattr("botocore.session.create_loader", _loader)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def client(endpoint: str) -> Any:
    return boto3.session.Session(ACCESS, SECRET, region_name="us-east-1").client(
        "s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2})
    )


def objects(bucket: Bucket) -> dict[str, int]:
    """Key without the prefix → size, of all that lies there."""
    pages = (
        client(bucket.endpoint)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket.name, Prefix=f"{bucket.prefix}/")
    )
    found = (entry for page in pages for entry in page.get("Contents", ()))
    return {entry["Key"].removeprefix(f"{bucket.prefix}/"): entry["Size"] for entry in found}


def uploads(bucket: Bucket) -> list[Any]:
    """Unfinished multipart uploads."""
    return list(
        client(bucket.endpoint)
        .list_multipart_uploads(Bucket=bucket.name, Prefix=f"{bucket.prefix}/")
        .get("Uploads", ())
    )


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    s3, master, volume, filer = _free_ports(4)
    command = [
        "setpriv", "--pdeathsig", "KILL", "--",
        str(Path(sys.executable).parent / "weed"), "server", f"-dir={directory}/data", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3", f"-s3.config={directory}/s3.json", f"-s3.port={s3}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", "-master.volumeSizeLimitMB=512", "-volume.max=20",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    return process, f"http://127.0.0.1:{s3}"


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10000 above, which the server takes for itself."""
    found: list[int] = []
    for port in range(15000 + os.getpid() % 5000, 45000, 7):
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10000))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def _until_it_answers(endpoint: str, directory: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            server = client(endpoint)
            with suppress(server.exceptions.BucketAlreadyOwnedByYou, server.exceptions.BucketAlreadyExists):
                server.create_bucket(Bucket=BUCKET)
            server.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
            return
        except (BotoCoreError, ClientError):
            assert time.monotonic() < deadline, (directory / "log").read_text()[-3000:]
            time.sleep(0.2)


Fault = Callable[[str, str], str | None]
"""Method and path → what goes wrong: 503, 429, cut (half a body), hang, lost (done, not answered), flip; or None."""


class Faulty:
    """A proxy to `endpoint` on loopback; `fault` decides for each request. `seen` has every one."""

    def __init__(self, endpoint: str) -> None:
        self.upstream = urlsplit(endpoint)
        self.fault: Fault = lambda _method, _path: None
        self.seen: list[tuple[str, str, str | None]] = []
        self.gone = threading.Event()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its address."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self.gone.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        wrong = self.fault(request.command, request.path)
        self.seen.append((request.command, request.path, wrong))
        if wrong == "hang":
            self.gone.wait(30)
            request.close_connection = True
            return
        if wrong in ("503", "429", "403"):
            code = {"503": "SlowDown", "429": "TooManyRequests", "403": "AccessDenied"}[wrong]
            self._answer(request, int(wrong), {}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        assert self.upstream.hostname
        upstream = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        upstream.request(request.command, request.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if wrong == "lost":
            request.close_connection = True
            return
        if wrong == "flip" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self._answer(request, answer.status, dict(answer.getheaders()), data, cut=wrong == "cut")

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, cut: bool = False
    ) -> None:
        request.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        length = headers.get("Content-Length", str(len(data))) if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", length)
        request.end_headers()
        with suppress(OSError):
            request.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            request.close_connection = True


def times(count: int, wrong: str, method: str, part: str = "") -> Fault:
    """The first `count` requests of `method` whose path has `part` go wrong."""
    left = [count]

    def fault(asked: str, path: str) -> str | None:
        if asked == method and part in path and left[0]:
            left[0] -= 1
            return wrong
        return None

    return fault
