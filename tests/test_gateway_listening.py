"""-R through the gateway: ports and unix sockets in the container, and what is refused."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    OPEN_CONNECT_FAILED,
)
from asyncssh.packet import SSHPacket, String, UInt32

from sshgate import channels, forwarding, limits
from tests.support.forwards import (
    BIG,
    alice,
    all_gone,
    answer_at_end,
    ask,
    free_port,
    listens,
    stage,
    through,
)
from tests.support.gateway import GatewayStage, Person, until
from workspaces import throttle

pytestmark = pytest.mark.slow

__all__ = ["alice", "all_gone", "stage"]


def ask_for(client: Any, name: str, host: bytes, port: int) -> Any:
    """The kind of the answer to a global request, and the answer."""
    return client._make_global_request(name.encode(), String(host), UInt32(port))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_a_free_port_is_answered_with_its_number(alice: Person, host: str) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            origins: list[tuple[str, int]] = []

            def accept(orig_host: str, orig_port: int) -> Any:
                origins.append((orig_host, orig_port))
                return answer_at_end

            listener = await client.start_server(accept, host, 0, encoding=None)
            port = listener.get_port()
            assert port > 0
            assert await through(port, BIG) == b"got " + BIG
            assert origins[0][0] == "127.0.0.1"
            listener.close()
            await listener.wait_closed()
            await asyncio.to_thread(until, lambda: not listens(port))

    asyncio.run(run())


def test_a_port_ends_with_its_connection(alice: Person) -> None:
    port = free_port()

    async def run() -> None:
        client = await alice.connect()
        listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", port, encoding=None)
        assert listener.get_port() == port
        assert await through(port, b"x") == b"got x"
        client.abort()

    asyncio.run(run())
    until(lambda: not listens(port))


def test_a_port_that_somebody_has_is_refused_with_a_word(stage: GatewayStage, alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as first, alice.connect() as second:
            listener = await first.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            port = listener.get_port()
            with pytest.raises(asyncssh.ChannelListenError):
                await second.start_server(lambda *_: answer_at_end, "127.0.0.1", port, encoding=None)
            shell = await second.create_process("cat", term_type="xterm")
            said = await shell.stdout.readline()
            shell.stdin.write_eof()
            assert await through(port, b"x") == b"got x"
            return f"{said.strip()} {port}"

    said, port = asyncio.run(run()).rsplit(" ", 1)
    assert said == (
        f"Port {port} of the workspace is not forwarded: Listening on 127.0.0.1 port {port}: Address already in use."
    )


def test_a_unix_socket_in_the_container(alice: Person, tmp_path: Path) -> None:
    path = tmp_path / "forwarded"

    async def run() -> None:
        async with alice.connect() as client:
            listener = await client.start_unix_server(lambda: answer_at_end, str(path), encoding=None)
            assert path.stat().st_mode & 0o777 == 0o600
            assert await ask(await asyncio.open_unix_connection(path), BIG) == b"got " + BIG
            with pytest.raises(asyncssh.ChannelListenError):
                await client.start_unix_server(lambda: answer_at_end, str(path), encoding=None)
            listener.close()
            await listener.wait_closed()
            await asyncio.to_thread(until, lambda: not path.exists())
            again = await client.start_unix_server(lambda: answer_at_end, str(path), encoding=None)
            assert await ask(await asyncio.open_unix_connection(path), b"x") == b"got x"
            del again

    asyncio.run(run())
    until(lambda: not path.exists())


@pytest.mark.parametrize("path", ["", "/no/such/directory/s", "/" + "x" * 200, "/a\0b", "x" * 200_000])
def test_a_path_that_cannot_be_listened_on(alice: Person, path: str) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            with pytest.raises(asyncssh.ChannelListenError):
                await client.start_unix_server(lambda: answer_at_end, path, encoding=None)
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 65536), ("127.0.0.1", 0xFFFFFFFF), ("a\0b", 0), ("x" * 400, 0), ("no.such.host.invalid", 0)],
    ids=["65536", "huge", "nul", "long", "unknown"],
)
def test_an_address_that_cannot_be_listened_on(alice: Person, host: str, port: int) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            with pytest.raises(asyncssh.ChannelListenError):
                await client.start_server(lambda *_: answer_at_end, host, port, encoding=None)
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


@pytest.mark.parametrize("name", ["cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com"])
def test_the_end_of_what_never_began_is_refused(alice: Person, name: str) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            body = [String(b"nowhere")] + ([UInt32(1)] if "tcp" in name else [])
            kind, _ = await client._make_global_request(name.encode(), *body)
            assert kind == MSG_REQUEST_FAILURE
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


def test_too_many_ports_are_refused(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LISTENERS", 3)

    async def run() -> None:
        async with alice.connect() as client:
            asked = (client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None) for _ in range(5))
            got = await asyncio.gather(*asked, return_exceptions=True)
            assert [isinstance(found, asyncssh.ChannelListenError) for found in got] == [False] * 3 + [True] * 2
            got[0].close()  # type: ignore[union-attr]
            await got[0].wait_closed()  # type: ignore[union-attr]
            assert await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)

    asyncio.run(run())


def test_a_client_that_takes_no_channel_has_the_connection_closed(alice: Person) -> None:
    def refuse(*_: object) -> Any:
        raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "nobody is here\033[2J")

    async def run() -> None:
        async with alice.connect() as client:
            listener = await client.start_server(refuse, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_a_confirmation_with_more_in_it_ends_the_connection(stage: GatewayStage, alice: Person) -> None:
    def confirm(client: Any, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        packet.get_string()
        numbers = packet.get_uint32(), 77, 1 << 20, 1 << 15
        client.send_packet(MSG_CHANNEL_OPEN_CONFIRMATION, *map(UInt32, numbers), b"trailing")

    async def run() -> None:
        async with alice.connect() as client:
            client._packet_handlers = {**client._packet_handlers, MSG_CHANNEL_OPEN: confirm}
            listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            await asyncio.wait_for(client.wait_closed(), 10)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_requests_that_wait_are_bounded(stage: GatewayStage, alice: Person) -> None:
    """They wait while the agent makes a listener; who sends more and more is dropped."""

    async def run() -> None:
        client = await alice.connect()
        with suppress(asyncssh.Error, OSError):
            for _ in range(3000):
                client._send_global_request(b"tcpip-forward", String("127.0.0.1"), UInt32(1))
            await client.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize(("name", "host"), [("cancel-tcpip-forward", b"127.0.0.1"), ("tcpip-forward", b"\xff")])
def test_many_refused_requests_that_waited_for_a_slow_one(
    alice: Person, name: str, host: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered at once when the first is done."""
    listen = forwarding.Forwarding.listen

    async def listen_when_all_wait(self: forwarding.Forwarding, target: forwarding.Target) -> forwarding.Door | None:
        queue = self.connection._global_request_queue
        await asyncio.to_thread(until, lambda: len(queue) == channels.REQUESTS_MAX)
        return await listen(self, target)

    monkeypatch.setattr(forwarding.Forwarding, "listen", listen_when_all_wait)

    async def run() -> None:
        async with alice.connect() as client:
            first = asyncio.ensure_future(ask_for(client, "tcpip-forward", b"127.0.0.1", 0))
            others = [ask_for(client, name, host, 9) for _ in range(channels.REQUESTS_MAX - 1)]
            kinds = [kind for kind, _ in await asyncio.gather(first, *others)]
            assert kinds == [MSG_REQUEST_SUCCESS] + [MSG_REQUEST_FAILURE] * len(others)
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("name", ["tcpip-forward", "streamlocal-forward@openssh.com"])
def test_requests_that_wait_when_the_connection_is_lost(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nobody is left to ask about them: no error (all_gone looks)."""

    async def listen_when_lost(self: forwarding.Forwarding, target: forwarding.Target) -> None:
        await asyncio.to_thread(until, lambda: self.connection._owner is None)

    monkeypatch.setattr(forwarding.Forwarding, "listen", listen_when_lost)
    body = [String(b"127.0.0.1"), UInt32(1)] if "tcp" in name else [String(b"/tmp/s")]

    async def run() -> None:
        client = await alice.connect()
        for _ in range(3):
            client._send_global_request(name.encode(), *body, want_reply=True)
        (server,) = stage.gateway.gate.servers
        await asyncio.to_thread(until, lambda: len(server.connection._global_request_queue) == 3)
        client.abort()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["_finish_port_forward", "_finish_path_forward"])
def test_a_request_whose_turn_comes_after_the_connection_is_lost(stage: GatewayStage, alice: Person, name: str) -> None:
    arguments = ("127.0.0.1", 1) if "port" in name else ("/tmp/s",)

    async def run() -> None:
        async with alice.connect():
            (server,) = stage.gateway.gate.servers
            connection = server.connection
        await asyncio.to_thread(until, lambda: connection._owner is None)
        stage.gateway.wait(getattr(connection, name)(*arguments))

    asyncio.run(run())


def test_nothing_listens_on_the_gateways_host_but_the_gateway(stage: GatewayStage, alice: Person) -> None:
    """All listeners of this process, before and while everything is forwarded."""

    def listening() -> set[str]:
        own = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}

    async def run() -> None:
        before = listening()
        async with alice.connect() as client:
            await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            assert listening() == before

    asyncio.run(run())


def test_a_terminal_that_takes_nothing_is_not_told_of_refusals(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_LISTENERS", 0)

    async def run() -> None:
        async with alice.connect() as client:
            shell = await client.create_process("cat /dev/zero", term_type="xterm", encoding=None, window=4096)
            shell.channel.pause_reading()
            (server,) = stage.gateway.gate.servers
            (session,) = server.sessions
            await asyncio.to_thread(until, lambda: session.held)
            before = session.channel.get_write_buffer_size()
            for _ in range(20):
                await ask_for(client, "tcpip-forward", b"127.0.0.1", 0)
            assert session.channel.get_write_buffer_size() == before
            shell.channel.abort()

    asyncio.run(run())


def test_refusals_are_told_of_at_a_bounded_rate(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LISTENERS", 0)
    monkeypatch.setattr(forwarding, "NOTICE", throttle.Rate(3, 1000))
    told: list[str] = []

    class Listening(asyncssh.SSHClient):
        def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:
            told.append(msg)

    async def run() -> None:
        async with alice.connect(client_factory=Listening) as client:
            for _ in range(10):
                await ask_for(client, "tcpip-forward", b"127.0.0.1", 0)

    asyncio.run(run())
    assert len(told) == 3
