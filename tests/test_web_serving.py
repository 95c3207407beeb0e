"""How requests reach the application: hostile clients, many of them, long answers, and what outlasts a view."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.gateway import until
from tests.support.serving import in_a_thread
from tests.support.web import make_settings
from webadmin.server import Server
from webadmin.serving import bridge, handover, protocol
from webadmin.serving.environ import Public, to_environ
from webadmin.serving.handover import Gone, Socket, Stream

pytestmark = pytest.mark.slow


class Site:
    """A small application, with what its views and coroutines noted."""

    def __init__(self) -> None:
        self.app = Flask(__name__)
        self.hold = threading.Event()
        self.made = 0
        self.closed = threading.Event()
        self.gone = threading.Event()
        self.may = True
        self.port = 0
        self.server: Server
        for path in ("address", "held", "endless", "stream", "socket"):
            self.app.add_url_rule(f"/{path}", path, getattr(self, path))
        self.app.add_url_rule("/body", "body", lambda: str(len(request.data)), methods=["POST"])

    def address(self) -> str:
        return f"{request.remote_addr} {request.url_root} {request.headers.get('X-Two')}"

    def held(self) -> str:
        assert self.hold.wait(20)
        return "done"

    def endless(self) -> Response:
        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    self.made += 1
                    yield b"x" * (64 << 10)
            finally:
                self.closed.set()

        return Response(pieces())

    def stream(self) -> Any:
        return handover.stream(self.follow) if self.may else ("no", 403)

    async def follow(self, stream: Stream) -> None:
        await stream.event("allowed", str(await stream.allowed()))
        self.may = False
        await stream.event("allowed", str(await stream.allowed()))
        await stream.gone.wait()
        with pytest.raises(Gone):
            await stream.write(":")
        self.gone.set()

    def socket(self) -> Any:
        return handover.socket(self.talk) if self.may else ("no", 403)

    async def talk(self, socket: Socket) -> None:
        try:
            while True:
                await socket.send(await socket.receive())
        except Gone:
            self.gone.set()


@contextmanager
def serving(home: Path) -> Iterator[Site]:
    site = Site()
    site.server = Server(site.app, make_settings(home))
    site.port = site.server.port
    with in_a_thread(site.server):
        try:
            yield site
        finally:
            site.hold.set()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


def get(port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def raw(port: int, data: bytes, buffer: int = 0) -> socket.socket:
    client = socket.socket()
    if buffer:  # else the kernel takes megabytes for a reader who takes nothing
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    client.sendall(data)
    return client


def asks(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


# who asks


def scope(*headers: tuple[bytes, bytes], path: bytes = b"/a") -> dict[str, Any]:
    return {
        "type": "http", "method": "GET", "path": path.decode(), "raw_path": path, "query_string": b"q=%C3%A4",
        "headers": list(headers), "server": ("127.0.0.1", 80), "client": ("192.0.2.1", 5), "http_version": "1.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "visitor"),
    [
        (b"203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (b"198.51.100.7:4711", "198.51.100.7"),
        (b'"[2001:db8::1]:80"', "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"203.0.113.9, <script>", "192.0.2.1"),
        (b"", "192.0.2.1"),
    ],
)
def test_the_visitor_is_whom_the_proxy_says_last(said: bytes, visitor: str) -> None:
    asked = scope((b"x-forwarded-for", said))
    assert to_environ(asked, b"", Public.of("https://gate.example.org"))["REMOTE_ADDR"] == visitor
    assert to_environ(asked, b"", None)["REMOTE_ADDR"] == "192.0.2.1"


def test_an_environment_has_nothing_that_a_client_disguised() -> None:
    environ = to_environ(
        scope(
            (b"x_forwarded_for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"), (b"proxy", b"x"), (b"host", b"a"),
            (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x-two", b"1"), (b"x-two", b"2"), path=b"/%E2%82%AC/%2e",
        ),
        b"12", None,
    )  # fmt: skip
    assert not [name for name in environ if "FORWARDED" in name or name == "HTTP_PROXY"]
    assert (environ["HTTP_COOKIE"], environ["HTTP_X_TWO"]) == ("a=1; b=2", "1,2")
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/€/."
    assert (environ["CONTENT_LENGTH"], environ["QUERY_STRING"]) == ("2", "q=%C3%A4")


# bounds


def test_a_request_that_never_ends_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.5)
    half = (
        b"",
        b"GET /address HTTP/1.1\r\nX: ",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    )
    clients = [raw(site.port, data) for data in half]
    clients.append(raw(site.port, b"GET /address HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert clients[-1].recv(12) == b"HTTP/1.1 200"
    clients[-1].sendall(b"GET /address HTT")
    for client in clients:
        with client, suppress(ConnectionError):
            while client.recv(1000):
                pass
    assert site.server.server_state.connections == set()


def test_drops_do_not_lengthen_the_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.6)
    with raw(site.port, b"GET /address HTTP/1.1\r\nX: ") as client:
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < begun + 10:
                client.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begun < 9


def test_heads_and_bodies_are_bounded(site: Site) -> None:
    for head in (b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 20_000, b"\0\1\2\r\n\r\n"):
        with raw(site.port, b"") as client:
            try:
                client.sendall(head)
                assert client.recv(12) in (b"HTTP/1.1 400", b"")
            except ConnectionError:
                pass
    assert get(site.port, "/body", "POST", b"x" * 1_000_000) == (200, "1000000")
    chunked = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw(site.port, chunked + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 19) as client:
        assert client.recv(12) == b"HTTP/1.1 413"
    with raw(site.port, b"POST /api/v1/roster HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n") as client:
        head, _, body = b"".join(iter(lambda: client.recv(4096), b"")).partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    found = json.loads(body)
    assert (found["status"], found["instance"], found["title"]) == (413, "/api/v1/roster", "Too much at once")
    with raw(site.port, b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n") as client:
        assert client.recv(12) == b"HTTP/1.1 400"
    assert get(site.port, "/address")[0] == 200


def test_one_connection_too_many_takes_the_place_of_an_idle_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol.Protocol, "connections_max", 8)
    answered = raw(site.port, b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    until(lambda: len(site.server.server_state.tasks) == 1, 10)
    idle = [raw(site.port, b"") for _ in range(40)]
    assert get(site.port, "/address")[0] == 200
    for client in idle:
        client.close()
    until(lambda: len(site.server.server_state.connections) == 1, 10)
    half = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
    idle = [raw(site.port, half) for _ in range(7)]
    until(lambda: len(site.server.server_state.tasks) == 8, 10)  # all places are taken by what has begun
    assert get(site.port, "/address")[0] == 200
    assert len(site.server.server_state.connections) <= 8
    site.hold.set()
    assert answered.recv(12) == b"HTTP/1.1 200", "one that is in use is not ended"
    for client in (*idle, answered):
        client.close()


def test_too_many_that_wait_for_a_thread_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "WAITING_MAX", bridge.THREADS + 2)
    waiting = [raw(site.port, b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(bridge.WAITING_MAX)]
    until(lambda: site.server.bridge._waiting == bridge.WAITING_MAX, 10)
    assert get(site.port, "/address")[0] == 503
    waiting.pop().close()  # one that waits for a thread: it is not run
    site.hold.set()
    for client in waiting:
        assert client.recv(12) == b"HTTP/1.1 200"
        client.close()
    until(lambda: get(site.port, "/address")[0] == 200, 10)


# long answers


def test_a_long_answer_is_made_as_it_is_read_and_ends_with_its_reader(site: Site) -> None:
    with raw(site.port, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        made = -1
        while made != site.made:  # until what lies between is full
            made = site.made
            time.sleep(0.3)
        assert made < 400, "bytes wait for a reader who takes none"
    assert site.closed.wait(10)


def test_a_slow_reader_of_a_short_answer_holds_no_thread(site: Site) -> None:
    site.app.add_url_rule("/page", "page", lambda: "x" * 20_000_000)
    slow = [raw(site.port, asks("/page"), 4096) for _ in range(2 * bridge.THREADS)]
    assert get(site.port, "/address")[0] == 200
    for client in slow:
        client.close()


def test_slow_readers_of_long_answers_keep_nobody_from_a_page(site: Site) -> None:
    slow = [raw(site.port, asks("/endless"), 4096) for _ in range(2 * bridge.THREADS)]
    assert [client.recv(12) for client in slow] == [b"HTTP/1.1 200"] * len(slow)
    assert get(site.port, "/address")[0] == 200
    for client in slow:
        client.close()
    assert site.closed.wait(10)


def test_a_reader_that_takes_too_little_for_too_long_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "SLOW_RATE", 1 << 30)
    site.app.add_url_rule("/page", "page", lambda: "x" * 20_000_000)
    for path in ("/page", "/endless"):
        with raw(site.port, asks(path), 4096) as client:
            assert client.recv(1) == b"H"
            until(lambda: client.recv(1) and not site.server.server_state.connections, 10)
    assert site.closed.wait(10)
    until(lambda: not protocol.Protocol.unsent, 10)


def test_what_waits_for_readers_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNSENT_MAX", 50_000_000)
    site.app.add_url_rule("/page", "page", lambda: "x" * 20_000_000)
    slow = [raw(site.port, asks("/page"), 4096) for _ in range(5)]
    until(lambda: len(site.server.server_state.connections) == 2, 10)
    assert sum(protocol.Protocol.unsent.values()) <= 50_000_000
    for client in slow:
        client.close()


def test_large_bodies_that_never_end_are_few(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "LARGE_MAX", 1_500_000)
    begun = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000
    first, second = raw(site.port, begun), None
    until(lambda: site.server.bridge._large > 800_000, 10)
    second = raw(site.port, begun)
    assert second.recv(12) == b"HTTP/1.1 503"
    assert get(site.port, "/body", "POST", b"x" * 60_000) == (200, "60000")
    first.sendall(b"x" * 100_000)
    assert first.recv(12) == b"HTTP/1.1 200"
    first.close()
    second.close()
    until(lambda: site.server.bridge._large == 0, 10)


def test_the_server_ends_with_a_download_and_a_stream_under_way(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        endless = raw(site.port, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        stream = raw(site.port, b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert endless.recv(12) == stream.recv(12) == b"HTTP/1.1 200"
        begun = time.monotonic()
        endless.close()
    assert time.monotonic() - begun < 8
    stream.close()


# what outlasts a view


def test_a_stream_goes_on_after_its_view_and_asks_it_again(site: Site) -> None:
    with raw(site.port, b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        data = b""
        while data.count(b"event:") < 2:
            data += client.recv(1000)
        assert b"Content-Type: text/event-stream" in data
        assert b"data: True" in data
        assert b"data: False" in data
        assert get(site.port, "/address")[0] == 200
    assert site.gone.wait(10)
    assert get(site.port, "/stream")[0] == 403
    assert get(site.port, "/socket")[0] == 403


def test_a_websocket_is_for_pages_of_this_site_and_bounded(site: Site) -> None:
    url, own = f"ws://127.0.0.1:{site.port}/socket", Origin(f"http://127.0.0.1:{site.port}")
    for other in ("null", "http://evil.example", f"https://127.0.0.1:{site.port}", f"{own}.evil.example", ""):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=Origin(other) if other else None):
            pass
        assert refused.value.response.status_code == 403
    with connect(url, origin=own) as talk:
        talk.send("text")
        assert talk.recv(10) == "text"
        talk.send(b"\0" * protocol.MESSAGE_MAX)
        assert len(talk.recv(10)) == protocol.MESSAGE_MAX
        talk.send(b"\0" * (protocol.MESSAGE_MAX + 1))
        with pytest.raises(ConnectionClosed):
            talk.recv(10)
    assert site.gone.wait(10)
    assert get(site.port, "/socket")[0] == 426
    with pytest.raises(InvalidStatus) as absent, connect(url.replace("socket", "nothing"), origin=own):
        pass
    assert absent.value.response.status_code == 404


def test_what_asks_for_a_websocket_as_none_can_is_told_and_ended(site: Site) -> None:
    for more in (b"", b"X: 1\r\n" * 300, b"Content-Length: 2\r\n"):
        head = b"GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        with raw(site.port, head + more + b"\r\nab") as client:
            assert client.recv(12) == b"HTTP/1.1 400"
            while client.recv(1000):
                pass
    until(lambda: not site.server.server_state.connections, 10)


def test_a_websocket_that_takes_nothing_fills_nothing(site: Site) -> None:
    own = f"http://127.0.0.1:{site.port}"
    head = (
        f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nOrigin: {own}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    frame = b"\x82\xfe\xff\xff\0\0\0\0" + b"x" * 65535  # a message, masked with zeros; the server answers each
    with raw(site.port, head.encode()) as client:
        assert client.recv(12) == b"HTTP/1.1 101"
        client.settimeout(2)
        sent = 0
        with suppress(TimeoutError):
            while sent < 200 << 20:
                client.sendall(frame)
                sent += len(frame)
        assert sent < 100 << 20
    assert site.gone.wait(10)
    with raw(site.port, head.encode(), 4096) as client:
        assert client.recv(12) == b"HTTP/1.1 101"
        pings = (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 250_000  # each is answered by the server itself
        with pytest.raises(ConnectionError):
            client.sendall(pings)
