"""Clients that stall, flood, talk nonsense or vanish: what they cost is bounded, and nothing of them is left."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import random
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_OPEN, MSG_CHANNEL_REQUEST
from asyncssh.packet import Byte, String, UInt32

from sshgate import connection, session
from sshgate.auth import Server
from tests.support.gateway import GatewayStage, Person, descriptors, memory_stage, until

pytestmark = pytest.mark.slow

HUGE = 0xFFFFFFFF
SO_ATTACH_FILTER = 26  # socket(7)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


@pytest.fixture(autouse=True)
def all_gone(stage: GatewayStage, alice: Person, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test: no connection is left, no process, and nothing was unexpected."""
    idle(stage)
    yield
    idle(stage)
    until(lambda: not children(stage, alice), what="the processes to be gone")
    assert not [
        r
        for r in caplog.get_records("call")
        if r.levelno >= logging.ERROR and r.name.startswith(("sshgate", "asyncio"))
    ]
    assert alice.run("echo fine").stdout == b"fine\n"


def idle(stage: GatewayStage) -> None:
    until(lambda: stage.gateway.call(lambda: not stage.gateway.gate.servers), what="the connections to end")


def children(stage: GatewayStage, person: Person) -> list[str]:
    """What the agent of a person's workspace has started and that still runs."""
    assert person.workspace
    agent = stage.engine._containers[stage.lifecycle.container_name(person.workspace)].process.pid  # type: ignore[attr-defined]
    return Path(f"/proc/{agent}/task/{agent}/children").read_text().split()


def only_server(stage: GatewayStage) -> Server:
    def find() -> Server:
        (server,) = stage.gateway.gate.servers
        return server

    return stage.gateway.call(find)


def buffered(stage: GatewayStage, server: Server) -> int:
    """Bytes that the gateway holds for one client."""

    def count() -> int:
        link = server.connection
        held = link._transport.get_write_buffer_size() if link._transport else 0
        held += sum(len(part) for _, parts in link._deferred_packets for part in parts)
        return held + sum(channel._send_buf_len for channel in link._channels.values())

    return stage.gateway.call(count)


def deaf(client: Any) -> None:
    """The client reads no more, and has said that it takes 4 GiB."""
    client._transport.pause_reading()


def test_a_client_that_reads_nothing_costs_little_and_is_dropped(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BLOCKED_SECONDS", 0.5)

    async def run() -> int:
        client = await alice.connect()
        process = await client.create_process("yes", encoding=None, window=HUGE)
        await process.stdout.read(100_000)
        server = only_server(stage)
        deaf(client)
        most = 0
        while await asyncio.to_thread(stage.gateway.call, lambda: server in stage.gateway.gate.servers):
            most = max(most, await asyncio.to_thread(buffered, stage, server))
            await asyncio.sleep(0.01)
        client.abort()
        return most

    most = asyncio.run(run())
    assert connection.WRITE_HIGH < most < 1 << 20


def test_a_client_that_reads_slowly_is_kept_until_it_reads_no_more(stage: GatewayStage, alice: Person) -> None:
    """`BLOCKED_SECONDS` pass at the test's word."""

    async def run() -> None:
        client = await alice.connect()
        process = await client.create_process("yes", encoding=None, window=HUGE)
        await process.stdout.read(100_000)
        server = only_server(stage)
        link = server.connection

        def pass_time() -> None:
            if link._blocked_timer:
                link._blocked_timer.cancel()
                link._never_reads()

        def pass_time_if_it_read() -> bool:
            read = link.blocked and link._accepted() != link._accepted_before
            if read:
                pass_time()
            return read

        async def on_gateway(function: Callable[[], bool | None]) -> bool | None:
            return await asyncio.to_thread(stage.gateway.call, function)

        def connected() -> bool:
            return server in stage.gateway.gate.servers

        deaf(client)
        while not await on_gateway(pass_time_if_it_read):
            client._transport.resume_reading()
            await asyncio.sleep(0.001)
            deaf(client)
        assert await on_gateway(connected)
        async with asyncio.timeout(10):
            while await on_gateway(connected):
                await on_gateway(pass_time)
        client.abort()

    asyncio.run(run())


def test_a_key_exchange_that_never_ends_holds_output_back(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BLOCKED_SECONDS", 0.5)

    async def run() -> int:
        client = await alice.connect()
        process = await client.create_process("yes", encoding=None, window=HUGE)
        await process.stdout.read(100_000)
        server = only_server(stage)
        client._process_packet = None
        client._send_kexinit()
        client._kexinit_sent = True
        client._recv_handler = lambda: False  # reads all, answers nothing
        most = 0
        while await asyncio.to_thread(stage.gateway.call, lambda: server in stage.gateway.gate.servers):
            most = max(most, await asyncio.to_thread(buffered, stage, server))
            await asyncio.sleep(0.01)
        client.abort()
        return most

    assert asyncio.run(run()) < 1 << 20


def test_requests_whose_replies_nobody_reads_are_bounded(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_MAX", 300 << 10)

    async def run() -> None:
        client = await alice.connect()
        for end in (client, only_server(stage).connection):
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, 4096)
        deaf(client)
        with suppress(ConnectionError):
            for i in range(100_000):
                client._send_global_request(b"keepalive@openssh.com", want_reply=True)
                if i % 500 == 0:
                    await asyncio.sleep(0)
                    if not await asyncio.to_thread(stage.gateway.call, lambda: stage.gateway.gate.servers):
                        break
        client.abort()

    asyncio.run(run())


def test_a_session_that_stalls_does_not_touch_another_on_its_connection(stage: GatewayStage, alice: Person) -> None:
    async def run() -> tuple[int, str]:
        async with alice.connect() as client:
            stalled = await client.create_process("head -c 50000000 /dev/zero", encoding=None, window=1 << 16)
            stalled.channel.pause_reading()
            held = await asyncio.to_thread(buffered, stage, only_server(stage))
            said = str((await client.run("echo quick")).stdout)
            stalled.channel.abort()
            return held, said

    held, said = asyncio.run(run())
    assert said == "quick\n"
    assert held < 1 << 20


def test_the_end_of_output_waits_for_a_slow_reader_then_gives_up(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STALLED_SECONDS", 0.3)

    monkeypatch.setattr(session, "LOOK_SECONDS", 0.1)

    async def run() -> object:
        async with alice.connect() as client:
            process = await client.create_process("head -c 200000 /dev/zero", encoding=None, window=1 << 14)
            process.channel.pause_reading()
            await asyncio.to_thread(no_sessions, stage, only_server(stage))
            return (await client.run("echo on")).stdout

    assert asyncio.run(run()) == "on\n"


def no_sessions(stage: GatewayStage, server: Server) -> None:
    until(lambda: stage.gateway.call(lambda: not server.sessions))


def test_a_channel_closed_while_its_process_takes_no_input(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncssh says nothing of that close by itself; the process must be hung up all the same."""
    monkeypatch.setattr(session, "CLOSED_SECONDS", 0.1)

    async def run() -> object:
        async with alice.connect() as client:
            process = await client.create_process("exec sleep 1000", encoding=None)
            process.stdin.write(b"x" * (2 << 20))
            server = only_server(stage)
            await asyncio.sleep(0.2)
            process.channel.abort()
            await asyncio.to_thread(no_sessions, stage, server)
            return (await client.run("echo on")).stdout

    assert asyncio.run(run()) == "on\n"


def test_clients_killed_in_the_midst_leave_nothing(stage: GatewayStage, alice: Person) -> None:
    def kill_one(command: str, *options: str) -> None:
        client = subprocess.Popen(
            [*alice.line(*options), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert client.stdin
        assert client.stdout
        client.stdout.read(1)
        with suppress(BrokenPipeError):
            os.set_blocking(client.stdin.fileno(), False)
            client.stdin.raw.write(b"x" * 1_000_000)  # type: ignore[attr-defined]
        client.send_signal(signal.SIGKILL)
        client.communicate()

    before = descriptors()
    for _ in range(3):
        kill_one("yes")
        kill_one("echo up; cat > /dev/null")
        kill_one("echo up; exec sleep 1000")
        kill_one("yes", "-tt")
    idle(stage)
    until(lambda: descriptors() <= before, what=f"{descriptors() - before} descriptors to be closed")


def test_abandoned_before_the_process_is_there(stage: GatewayStage, alice: Person) -> None:
    async def run() -> None:
        for _ in range(20):
            client = await alice.connect()
            chan, _ = await client.create_session(asyncssh.SSHClientSession, "sleep 1000")
            del chan
            client.abort()

    before = descriptors()
    asyncio.run(run())
    idle(stage)
    until(lambda: descriptors() <= before)


NONSENSE = [
    b"",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n",
    b"SSH-1.5-old\r\n",
    b"SSH-2.0-" + b"x" * 100_000,
    b"SSH-2.0-\xff\xfe\r\n",
    b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff" + b"x" * 1000,
    b"SSH-2.0-x\r\n" + b"\0\0\0\0" + b"x" * 1000,
    b"SSH-2.0-x\r\n" + b"\0\0\0\x0c\x0a\x14" + b"x" * 1000,
    b"SSH-2.0-x\r\n" + bytes(random.Random(1).randbytes(100_000)),
    bytes(random.Random(2).randbytes(100_000)),
]


@pytest.mark.parametrize("index", range(len(NONSENSE)))
def test_nonsense_before_the_key_exchange_ends_that_connection_only(stage: GatewayStage, index: int) -> None:
    with socket.create_connection(("127.0.0.1", stage.port), 10) as client:
        with suppress(ConnectionError):
            client.sendall(NONSENSE[index])
            client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        with suppress(ConnectionError):
            while client.recv(65536):
                pass


def send_nonsense(client: Any, process: Any, numbers: random.Random) -> None:
    """One message that no honest client sends, on an authenticated connection."""
    kind = numbers.choice([MSG_CHANNEL_OPEN, MSG_CHANNEL_REQUEST, MSG_CHANNEL_DATA, 80, 93, 96, 97, 99, 2, 3, 192, 255])
    names = [
        b"pty-req",
        b"env",
        b"exec",
        b"window-change",
        b"signal",
        b"subsystem",
        b"shell",
        b"break",
        b"\xff",
        b"x11-req",
    ]
    bodies = [
        numbers.randbytes(numbers.randrange(100)),
        UInt32(process.channel._send_chan or 0) + String(numbers.choice(names)) + Byte(1) + numbers.randbytes(20),
        UInt32(HUGE) * 3,
        String(b"session") + UInt32(7) + UInt32(HUGE) + UInt32(0),
        String(b"direct-tcpip") + UInt32(7) + UInt32(HUGE) + UInt32(HUGE) + numbers.randbytes(30),
    ]
    client.send_packet(kind, numbers.choice(bodies))


def test_nonsense_after_authentication_ends_that_connection_only(stage: GatewayStage, alice: Person) -> None:
    async def run(seed: int) -> None:
        numbers = random.Random(seed)
        client = await alice.connect()
        with suppress(asyncssh.Error, OSError):
            process = await client.create_process("cat", encoding=None)
            for _ in range(numbers.randrange(1, 6)):
                send_nonsense(client, process, numbers)
            await asyncio.wait_for(client.wait_closed(), 0.05)
        client.abort()

    async def all_of_them() -> None:
        for start in range(0, 60, 10):
            await asyncio.gather(*(run(seed) for seed in range(start, start + 10)), return_exceptions=True)

    asyncio.run(all_of_them())


def test_packets_of_one_byte_do_not_stop_others(stage: GatewayStage, alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as greedy, alice.connect() as other:
            process = await greedy.create_process("yes", encoding=None, window=HUGE, max_pktsize=1)
            reading = asyncio.create_task(process.stdout.read(2000))
            said = str((await asyncio.wait_for(other.run("echo quick"), 5)).stdout)
            await reading
            return said

    assert asyncio.run(run()) == "quick\n"


def black_hole(link: socket.socket) -> None:
    """The kernel drops all that comes in on it, acknowledgements too: a filter of one instruction, "return 0"."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    link.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instruction)))


@pytest.mark.parametrize("command", ["echo up; exec sleep 1000", "yes"])
def test_a_client_behind_a_black_hole_is_reaped(stage: GatewayStage, alice: Person, command: str) -> None:
    async def run() -> None:
        client = await alice.connect()
        process = await client.create_process(command, encoding=None)
        await process.stdout.read(1)
        link = only_server(stage).connection
        assert 0 < link._keepalive_interval <= 60
        stage.gateway.call(lambda: link.set_keepalive(0.1, 3))
        black_hole(link.get_extra_info("socket"))
        await asyncio.to_thread(idle, stage)
        client.abort()

    asyncio.run(run())


@pytest.mark.parametrize("packet", [b"\xff" * 1000, bytes(1000), b"\0\x10\0\0" + bytes(1000)])
def test_a_packet_of_impossible_length_ends_that_connection_only(
    stage: GatewayStage, alice: Person, packet: bytes
) -> None:
    async def run() -> str:
        async with alice.connect() as other:
            client = await alice.connect(encryption_algs=["aes128-gcm@openssh.com"])  # whose length is not encrypted
            process = await client.create_process("echo up; exec sleep 1000")
            await process.stdout.readline()
            client._transport.write(packet)
            await client.wait_closed()
            return str((await other.run("echo fine")).stdout)

    assert asyncio.run(run()) == "fine\n"


def test_a_channel_that_takes_no_packet_ends_that_connection_only(stage: GatewayStage, alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as other:
            client = await alice.connect()
            client.send_packet(MSG_CHANNEL_OPEN, String(b"session"), UInt32(0), UInt32(1 << 20), UInt32(0))
            await client.wait_closed()
            return str((await other.run("echo fine")).stdout)

    assert asyncio.run(run()) == "fine\n"
