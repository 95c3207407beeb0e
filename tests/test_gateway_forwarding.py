"""-L, -D and -W through the gateway: every byte and every end, in the container's network, within limits."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest
from asyncssh.constants import OPEN_CONNECT_FAILED, OPEN_RESOURCE_SHORTAGE, OPEN_UNKNOWN_CHANNEL_TYPE
from asyncssh.packet import String, UInt32

from sshgate import connection, limits
from tests.support.forwards import (
    BIG,
    agent_files,
    alice,
    all_gone,
    answer_at_end,
    ask,
    newcomer,
    refused_with,
    stage,
    streams,
    tcp_service,
)
from tests.support.gateway import GatewayStage, Person, until
from workspaces.model import WorkspaceState

pytestmark = pytest.mark.slow

__all__ = ["alice", "all_gone", "newcomer", "stage"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tcp_both_ways_with_half_close(alice: Person, host: str) -> None:
    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client:
            assert await ask(await client.open_connection(host, port), BIG) == b"got " + BIG

    asyncio.run(run())


def test_a_unix_socket_both_ways_with_half_close(alice: Person, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            await asyncio.start_unix_server(answer_at_end, tmp_path / "service"),
            alice.connect() as client,
        ):
            assert await ask(await client.open_unix_connection(str(tmp_path / "service")), BIG) == b"got " + BIG

    asyncio.run(run())


def test_the_service_may_end_its_half_first(alice: Person) -> None:
    async def run() -> None:
        received = asyncio.get_running_loop().create_future()

        async def talker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(BIG)
            writer.write_eof()
            received.set_result(await reader.read())
            writer.close()

        async with tcp_service(talker) as port, alice.connect() as client:
            reader, writer = await client.open_connection("127.0.0.1", port)
            assert await reader.read() == BIG
            writer.write(BIG)
            writer.write_eof()
            assert await received == BIG
            await writer.channel.wait_closed()

    asyncio.run(run())


def test_what_a_client_sent_before_it_closed_arrives(alice: Person) -> None:
    """As OpenSSH's does when the program at its end has closed its socket."""
    sent = BIG[: 1 << 20]

    async def run() -> bytes:
        received = asyncio.get_running_loop().create_future()
        begin = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await begin.wait()
            received.set_result(await reader.read())
            writer.close()

        async with tcp_service(slow) as port, alice.connect() as client:
            _, writer = await client.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.channel.close()
            await client.run("true")  # the gateway has seen the close by then
            begin.set()
            return bytes(await received)

    assert asyncio.run(run()) == sent


def test_a_client_that_goes_away_closes_the_service_connection(alice: Person) -> None:
    async def run() -> None:
        ended = asyncio.Event()

        async def until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            ended.set()
            writer.close()

        async with tcp_service(until_end) as port:
            client = await alice.connect()
            await client.open_connection("127.0.0.1", port)
            client.abort()
            await ended.wait()

    asyncio.run(run())


def test_a_client_that_goes_away_while_it_is_connected_leaves_nothing_trying(alice: Person) -> None:
    files = agent_files(alice)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # the queue is full: who comes next is not answered

            async def run() -> None:
                client = await alice.connect()
                opening = asyncio.create_task(client.open_connection(*address))
                await asyncio.to_thread(until, lambda: agent_files(alice) > files)
                client.abort()
                with pytest.raises(asyncssh.ChannelOpenError):
                    await opening
                await asyncio.to_thread(until, lambda: agent_files(alice) <= files, 5)  # the attempt would take 10 s

            asyncio.run(run())


@pytest.mark.parametrize("half_first", [False, True])
def test_a_service_that_goes_away_closes_the_channel(alice: Person, half_first: bool) -> None:
    async def run() -> None:
        go = asyncio.Event()

        async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"bye")
            await writer.drain()
            if half_first:
                writer.write_eof()
            await go.wait()
            writer.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            writer.transport.abort()

        async with tcp_service(reset) as port, alice.connect() as client:
            reader, writer = await client.open_connection("127.0.0.1", port)
            assert await reader.readexactly(3) == b"bye"
            if half_first:
                assert await reader.read() == b""
            go.set()
            await writer.channel.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 1, "Connecting to 127.0.0.1 in the workspace: Connection refused."),
        ("127.0.0.1", 0, "Connecting to 127.0.0.1 in the workspace: Connection refused."),
        ("127.0.0.1", 65536, "The number 65536 is out of range."),
        ("127.0.0.1", 0xFFFFFFFF, "The number 4294967295 is out of range."),
        ("a\0b", 80, "An argument, name or path has a NUL byte in it."),
        ("x" * 400, 80, "The name to connect to is too long."),
        ("x" * 200_000, 80, "An argument of 200000 bytes is too long; 131071 are allowed."),
        ("", 80, "The host name  is not known in the workspace."),
    ],
    ids=["closed", "0", "65536", "huge", "nul", "long", "very long", "empty"],
)
def test_what_cannot_be_connected_to_is_said(alice: Person, host: str, port: int, reason: str) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await client.open_connection(host, port, "forged\nname", 0xFFFFFFFF)
            refused_with(error, OPEN_CONNECT_FAILED, reason)
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/no/such", "Connecting to /no/such: No such file or directory."),
        ("/" + "x" * 200, f"Connecting to /{'x' * 199}: File name too long."),
        ("", "Connecting to : Invalid argument."),
        ("/a\0b", "An argument, name or path has a NUL byte in it."),
    ],
    ids=["none", "long", "empty", "nul"],
)
def test_what_path_cannot_be_connected_to_is_said(alice: Person, path: str, reason: str) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await client.open_unix_connection(path)
            refused_with(error, OPEN_CONNECT_FAILED, reason)

    asyncio.run(run())


@pytest.mark.parametrize("kind", [b"direct-tcpip", b"direct-streamlocal@openssh.com"])
def test_a_name_that_is_no_text_is_refused_and_the_connection_lives(alice: Person, kind: bytes) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            channel = asyncssh.SSHTCPChannel(client, asyncio.get_running_loop(), None, "strict", 1 << 20, 1 << 15)
            body = [UInt32(80)] if kind == b"direct-tcpip" else []
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await channel._open(kind, String(b"\xff\xfe"), *body, String(b"\xff"), UInt32(1))
            refused_with(error, OPEN_CONNECT_FAILED, "That is not a host name or path")
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


@pytest.mark.parametrize("kind", [b"channel", b"direct_tcpip", b"x11", b"\xff", b""])
def test_channels_of_other_types_are_refused_and_the_connection_lives(alice: Person, kind: bytes) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            channel = asyncssh.SSHTCPChannel(client, asyncio.get_running_loop(), None, "strict", 1 << 20, 1 << 15)
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await channel._open(kind)
            refused_with(error, OPEN_UNKNOWN_CHANNEL_TYPE, "Unknown channel type")
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


def test_tunnels_of_the_host_are_refused(alice: Person) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            with pytest.raises(asyncssh.ChannelOpenError):
                await client.create_tun(asyncssh.SSHTunTapSession)

    asyncio.run(run())


def test_two_hundred_at_once(alice: Person) -> None:
    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client:
            opened = await asyncio.gather(*(client.open_connection("127.0.0.1", port) for _ in range(200)))
            answers = await asyncio.gather(*(ask(pair, b"%d" % n) for n, pair in enumerate(opened)))
            assert answers == [b"got %d" % n for n in range(200)]

    asyncio.run(run())


@pytest.mark.parametrize("which", ["MAX_STREAMS", "MAX_ACCOUNT_STREAMS", "MAX_ALL_STREAMS"])
def test_too_many_are_refused_and_there_is_room_again(
    stage: GatewayStage, alice: Person, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, which, 4)

    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client, alice.connect() as second:
            opened = [await client.open_connection("127.0.0.1", port) for _ in range(4)]
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await (client if which == "MAX_STREAMS" else second).open_connection("127.0.0.1", port)
            assert error.value.code == OPEN_RESOURCE_SHORTAGE
            for pair in opened:
                assert await ask(pair, b"x") == b"got x"
            await asyncio.to_thread(until, lambda: streams(stage) == 0)
            assert await ask(await second.open_connection("127.0.0.1", port), b"y") == b"got y"

    asyncio.run(run())


@pytest.mark.parametrize("eof", [False, True], ids=["close", "eof and close"])
def test_a_client_that_closes_is_not_waited_for(stage: GatewayStage, alice: Person, eof: bool) -> None:
    async def run() -> None:
        async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if eof:
                await reader.read()
            while True:
                writer.write(BIG)
                await writer.drain()

        async with tcp_service(forever) as port, alice.connect() as client:
            reader, writer = await client.open_connection("127.0.0.1", port)
            if eof:
                writer.write_eof()
            await reader.read(1)
            writer.channel.abort()
            await asyncio.to_thread(until, lambda: streams(stage) == 0)

    asyncio.run(run())


def held(stage: GatewayStage) -> int:
    """Bytes that the gateway holds in all channels."""

    def count() -> int:
        total = 0
        for server in stage.gateway.gate.servers:
            for channel in server.connection._channels.values():
                total += channel._send_buf_len + sum(len(piece) for piece, _ in channel._recv_buf)
        return total

    return stage.gateway.call(count)


def test_a_service_that_does_not_read_is_bounded_and_holds_up_nobody(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WIDE_STREAMS", 1)

    async def run() -> int:
        go = asyncio.Event()

        async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            writer.write(b"%d" % len(await reader.read()))
            writer.close()

        async with tcp_service(stalled) as stall, tcp_service() as port, alice.connect() as client:
            pairs = [await client.open_connection("127.0.0.1", stall) for _ in range(3)]
            for _, writer in pairs:
                writer.write(BIG * 2)
                writer.write_eof()
            assert await ask(await client.open_connection("127.0.0.1", port), BIG) == b"got " + BIG
            most = await asyncio.to_thread(held, stage)
            go.set()
            assert [await reader.read() for reader, _ in pairs] == [b"%d" % (2 * len(BIG))] * 3
            return most

    most = asyncio.run(run())
    assert 0 < most <= connection.WINDOW + 2 * limits.SMALL_WINDOW


def test_a_client_that_does_not_read_one_channel_is_bounded(stage: GatewayStage, alice: Person) -> None:
    async def run() -> int:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(BIG * 4)
            writer.write_eof()
            await reader.read()
            writer.close()

        async with tcp_service(flood) as flooding, tcp_service() as port, alice.connect() as client:
            reader, writer = await client.open_connection("127.0.0.1", flooding, window=1 << 16)
            writer.channel.pause_reading()
            assert await ask(await client.open_connection("127.0.0.1", port), BIG) == b"got " + BIG
            most = await asyncio.to_thread(held, stage)
            writer.channel.resume_reading()
            assert await reader.read() == BIG * 4
            writer.close()
            return most

    assert 0 < asyncio.run(run()) <= 1 << 18


def test_a_client_that_reads_nothing_at_all_is_bounded_and_dropped(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BLOCKED_SECONDS", 0.5)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(BIG)
            await writer.drain()

    def buffered() -> int:
        links = [server.connection for server in stage.gateway.gate.servers]
        return sum(link._transport.get_write_buffer_size() for link in links if link._transport)

    async def run() -> int:
        async with tcp_service(flood) as port:
            client = await alice.connect()
            for _ in range(8):
                reader, _ = await client.open_connection("127.0.0.1", port, window=0xFFFFFFFF)
                await reader.read(1)
            client._transport.pause_reading()  # and the gateway was told that it takes 4 GiB
            most = 0
            while await asyncio.to_thread(stage.gateway.call, lambda: bool(stage.gateway.gate.servers)):
                held_now = await asyncio.to_thread(held, stage)
                most = max(most, held_now + await asyncio.to_thread(stage.gateway.call, buffered))
            client.abort()
            return most

    most = asyncio.run(run())
    assert connection.WRITE_HIGH < most < 4 << 20


def test_a_stopped_workspace_is_started_by_a_forward_alone(stage: GatewayStage, newcomer: Person) -> None:
    async def run() -> None:
        async with tcp_service() as port, newcomer.connect() as client:
            assert await ask(await client.open_connection("127.0.0.1", port), b"x") == b"got x"

    asyncio.run(run())
    workspace = newcomer.workspace
    assert workspace
    assert stage.store.workspace(workspace.id).state == WorkspaceState.RUNNING
    until(lambda: stage.store.workspace(workspace.id).last_login_at)


def test_no_workspace_is_a_reason(stage: GatewayStage) -> None:
    person = stage.person("gina", challenge=None)

    async def run() -> None:
        async with person.connect() as client:
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await client.open_connection("127.0.0.1", 1)
            refused_with(error, OPEN_CONNECT_FAILED, "You are in no workspace. The organisers add you to one.")

    asyncio.run(run())


def test_the_workspace_that_was_asked_for_is_the_one(stage: GatewayStage, alice: Person) -> None:
    async def run() -> None:
        async with alice.connect(username="alice+other") as client:
            with pytest.raises(asyncssh.ChannelOpenError, match="You are in no workspace 'other'"):
                await client.open_connection("127.0.0.1", 1)

    asyncio.run(run())


def test_when_the_workspace_ends_so_do_its_forwards(stage: GatewayStage, newcomer: Person) -> None:
    assert newcomer.workspace
    name = stage.lifecycle.container_name(newcomer.workspace)

    async def run() -> None:
        async with tcp_service() as port, newcomer.connect() as client:
            reader, _ = await client.open_connection("127.0.0.1", port)
            await client.start_server(lambda *_: None, "127.0.0.1", 0)
            await asyncio.to_thread(stage.engine.remove, name)
            assert await reader.read() == b""
            await client.wait_closed()  # there is nothing that it could wait for

    asyncio.run(run())
