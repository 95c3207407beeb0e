"""The application as it is served: uvicorn, its address, proxies, large bodies and SIGTERM."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.serving import in_a_thread
from tests.support.web import fill_small, make_settings
from webadmin.server import make_server
from workspaces.errors import HostError
from workspaces.settings import Settings
from workspaces.store import Store

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path
import webadmin
from tests.support.serving import in_a_thread
from tests.support.web import make_settings
from workspaces.store import Store
settings = make_settings(Path(sys.argv[1]))
webadmin.main(settings, Store.open(settings.database), lambda host, port: print(host, port, flush=True))
print("ended")
"""


@contextmanager
def running(settings: Settings, store: Store) -> Iterator[int]:
    """The real server in a thread; gives its port."""
    server = make_server(settings, store)
    with in_a_thread(server):
        yield server.port


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(make_settings(tmp_path).database)
    fill_small(store)
    yield store
    store.close()


def request(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, dict(response.getheaders()), text


def test_it_serves_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        assert host == "127.0.0.1"
        assert request(int(port), "/healthz")[0] == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_what_a_client_sends_about_a_proxy_is_ignored_without_one(tmp_path: Path, store: Store) -> None:
    with running(make_settings(tmp_path), store) as port:
        for _ in range(8):
            status, headers, page = request(port, "/login")
            token = re.search(r'name="csrf_token" value="([^"]+)"', page)
            assert token is not None
            body = f"csrf_token={token[1]}&name=alice&password=wrong".encode()
            cookie = headers["Set-Cookie"].split(";")[0]
            status, _, _ = request(
                port, "/login", "POST", body, Cookie=cookie, X_Forwarded_For=f"192.0.2.{_}",
                Content_Type="application/x-www-form-urlencoded",
            )  # fmt: skip
        assert status == 429  # a forged address gets no tries of its own
        assert "Secure" not in headers["Set-Cookie"]


def test_behind_a_proxy_the_public_address_counts(tmp_path: Path, store: Store) -> None:
    with running(make_settings(tmp_path, "https://gate.example.org/ws"), store) as port:
        status, headers, page = request(port, "/login", Host="internal:8080", X_Forwarded_For="198.51.100.9")
        assert status == 200
        assert "Secure" in headers["Set-Cookie"]
        assert 'action="/ws/login"' in page
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        body = f"csrf_token={token[1]}&name=alice&password=correct+horse".encode()
        status, headers, page = request(
            port, "/login", "POST", body, Cookie=headers["Set-Cookie"].split(";")[0], X_Forwarded_For="198.51.100.9",
            Referer="https://gate.example.org/ws/login", Content_Type="application/x-www-form-urlencoded",
        )  # fmt: skip
        assert (status, headers["Location"]) == (302, "/ws/")
        assert store.events(kind="login.accepted")[0].data["address"] == "198.51.100.9"


def test_a_form_from_another_site_is_refused_over_https(tmp_path: Path, store: Store) -> None:
    with running(make_settings(tmp_path, "https://gate.example.org"), store) as port:
        _, headers, page = request(port, "/login")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        body = f"csrf_token={token[1]}&name=alice&password=correct+horse".encode()
        for referer in ("https://evil.example/", ""):
            status, _, _ = request(
                port, "/login", "POST", body, Cookie=headers["Set-Cookie"].split(";")[0], Referer=referer,
                Content_Type="application/x-www-form-urlencoded",
            )  # fmt: skip
            assert status == 400


def test_bodies_are_bounded(tmp_path: Path, store: Store) -> None:
    with running(make_settings(tmp_path), store) as port:
        status, _, page = request(
            port, "/login", "POST", b"x" * 100_000, Content_Type="application/x-www-form-urlencoded"
        )
        assert (status, "Too much at once" in page) == (413, True)
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_taken_port_is_said(tmp_path: Path, store: Store) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(HostError, match=r"cannot listen on 127\.0\.0\.1"):
            make_server(make_settings(tmp_path, port=other.getsockname()[1]), store)
