"""What leans on asyncssh's internals: fails when those change."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_IGNORE, MSG_KEX_FIRST, MSG_KEXINIT
from asyncssh.packet import Boolean, Byte, String, UInt32

from sshgate import channels, connection
from tests.support.gateway import GatewayStage, Person, memory_stage

pytestmark = pytest.mark.slow

CONNECTION_ADDS = {"_flow_changed", "_look_later", "_accepted", "_never_reads"}
FORWARDING_ADDS = {
    *("tcp_channel", "unix_channel", "agent_channel", "x11_channel", "_size"),
    *("forget_listener", "permitted", "_as_text", "_or_refuse"),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    return stage.person("alice")


async def waiting(stage: GatewayStage) -> tuple[int, int]:
    """Pieces, and bytes of them, that the gateway holds for the one process there is."""

    def look() -> tuple[int, int]:
        pieces = [
            len(piece)
            for server in stage.gateway.gate.servers
            for channel in server.connection._channels.values()
            for piece, _ in channel._recv_buf
        ]
        return len(pieces), sum(pieces)

    return await asyncio.to_thread(stage.gateway.call, look)


def test_what_waits_for_a_slow_process_is_one_window(stage: GatewayStage, alice: Person) -> None:
    sent = os.urandom(12 << 20)
    slow = "i=0; while [ $i -lt 40 ]; do dd bs=64k count=1 status=none; sleep 0.01; i=$((i+1)); done; cat"

    async def run() -> tuple[int, bytes]:
        async with alice.connect() as client:
            process = await client.create_process(f"{{ {slow}; }} | sha256sum", encoding=None)
            process.stdin.write(sent)
            process.stdin.write_eof()
            ended = asyncio.ensure_future(process.wait())
            most = 0
            while not ended.done():
                most = max(most, (await waiting(stage))[1])
                await asyncio.wait([ended], timeout=0.005)
            return most, (await ended).stdout

    most, said = asyncio.run(run())
    assert said.split()[0].decode() == hashlib.sha256(sent).hexdigest()
    assert 0 < most <= connection.WINDOW


def test_small_pieces_that_wait_are_put_together(stage: GatewayStage, alice: Person, tmp_path: Path) -> None:
    first, small = b"x" * (600 << 10), 10_000

    async def run() -> tuple[int, int, Any]:
        async with alice.connect() as client:
            process = await client.create_process(
                f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; sha256sum", encoding=None
            )
            process.stdin.write(first)
            for i in range(small):
                process.stdin.write(b"%d" % (i % 10))
            pieces = held = 0
            while held < len(first) // 2 + small:
                pieces, held = await waiting(stage)
            (tmp_path / "go").touch()
            process.stdin.write_eof()
            return pieces, held, (await process.wait()).stdout

    pieces, _, said = asyncio.run(run())
    sent = first + b"".join(b"%d" % (i % 10) for i in range(small))
    assert said.split()[0].decode() == hashlib.sha256(sent).hexdigest()
    assert pieces < 50


@pytest.mark.parametrize(
    ("ours", "theirs", "added"),
    [
        (connection.Connection, asyncssh.SSHServerConnection, CONNECTION_ADDS),
        (connection.Channel, asyncssh.SSHServerChannel, set()),
        (channels.Windowed, asyncssh.SSHServerChannel, {"packet_size"}),
        (channels.SessionChannel, asyncssh.SSHServerChannel, {"_answer"}),
        (channels.ForwardingConnection, asyncssh.SSHServerConnection, FORWARDING_ADDS),
    ],
)
def test_what_is_overridden_is_still_there(ours: type, theirs: type, added: set[str]) -> None:
    """An override of a method that asyncssh has renamed would do nothing, and say nothing."""
    methods = {name for name, value in vars(ours).items() if callable(value)} - added - {"__init__"}
    assert methods
    assert not {name for name in methods if not hasattr(theirs, name)}


@pytest.mark.parametrize(("exchange", "right"), [("curve25519-sha256", False), ("mlkem768x25519-sha256", True)])
def test_a_client_that_guesses_the_key_exchange(
    alice: Person, exchange: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dropbear does: its first packet follows at once, and is void unless both sides like the same one best."""

    class Guessing(asyncssh.SSHClientConnection):
        def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
            if pkttype != MSG_KEXINIT:
                super().send_packet(pkttype, *args, handler=handler)
                return
            body = args[0][:-5] + Boolean(True) + UInt32(0)
            self._client_kexinit = Byte(MSG_KEXINIT) + body
            super().send_packet(pkttype, body)
            if not right:
                super().send_packet(MSG_KEX_FIRST, String(bytes(32)))

    monkeypatch.setattr(asyncssh.connection, "SSHClientConnection", Guessing)

    async def run() -> object:
        async with alice.connect(kex_algs=[exchange]) as client:
            return (await client.run("echo in")).stdout

    assert asyncio.run(asyncio.wait_for(run(), 10)) == "in\n"


def until_acknowledged(client: Any) -> float:
    """Send what is not answered; seconds until its segment is acknowledged: tcpi_unacked of tcp(7) is 0."""
    begun = time.perf_counter()
    client.send_packet(MSG_IGNORE, String(b"x"))
    link = client.get_extra_info("socket")
    while any(link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)[24:28]):
        time.sleep(0.0005)
    return time.perf_counter() - begun


def test_short_messages_are_acknowledged_at_once(alice: Person) -> None:
    """The kernel's delayed acknowledgement takes 40 ms, which OpenSSH's client waits for at every login."""

    async def run() -> float:
        async with alice.connect() as client:
            process = await client.create_process("cat", encoding=None)
            times = []
            for _ in range(9):
                process.stdin.write(b"x")
                await process.stdout.read(1)  # an answer: the kernel takes the connection for interactive, and delays
                times.append(until_acknowledged(client))
            return statistics.median(times)

    assert asyncio.run(run()) < 0.02
