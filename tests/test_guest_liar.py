"""What the gateway must not believe: another thing in place of the agent's socket, and an agent that lies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.guest import wait_for
from workspaces.engine import guestsocket
from workspaces.errors import GuestProtocolError, GuestUnavailable
from workspaces.guest import connection, protocol
from workspaces.guest.client import Ask, ExitStatus, GuestClient, SpawnRequest
from workspaces.guest.protocol import encode

SPAWN = protocol.Spawn(protocol.SpawnKind.ARGV, "root", "", (b"true",))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    real = path.with_name("real")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(real))
    path.symlink_to(real)


def make_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))


def make_stream_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [make_fifo, make_link, Path.touch, Path.mkdir, lambda path: None, make_dead_socket, make_stream_socket],
    ids=["fifo", "link", "file", "directory", "nothing", "dead socket", "stream socket"],
)
def test_only_a_living_agents_socket_will_do(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "s")
    with pytest.raises(GuestUnavailable, match="The workspace does not answer"):
        asyncio.run(GuestClient(tmp_path / "s").attend(timeout=2))


class Liar:
    """An agent that answers every connection's first message with what it was given."""

    def __init__(self, path: Path, *answers: bytes, close: bool = True) -> None:
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server.bind(str(path))
        self.server.listen(1)
        self.answers = answers
        self.close = close

    async def serve(self) -> None:
        connection, _ = await asyncio.to_thread(self.server.accept)
        await asyncio.to_thread(connection.recv, 1 << 18)
        for answer in self.answers:
            await asyncio.to_thread(connection.send, answer)
        if self.close:
            connection.close()
        else:
            self.kept = connection


NONSENSE = {
    "empty": b"\x01",
    "version": b"\x02\x81\0\0\0\1",
    "request": encode(SPAWN),
    "other reply": encode(protocol.Attending()),
    "long": b"\x01\x84\0\0\0\1" + b"x" * 100_000,
    "exit before start": encode(protocol.Exited(0)),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_for_an_answer(tmp_path: Path, answer: bytes) -> None:
    async def story() -> None:
        liar = Liar(tmp_path / "s", answer)
        with pytest.raises(GuestProtocolError):
            await asyncio.gather(liar.serve(), GuestClient(tmp_path / "s").connect("/x", timeout=5))

    asyncio.run(story())


def test_no_answer_is_bounded_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        liar = Liar(tmp_path / "s", close=False)
        with pytest.raises(GuestUnavailable, match="did not answer within"):
            await asyncio.gather(liar.serve(), GuestClient(tmp_path / "s").attend(timeout=0.1))

    asyncio.run(story())


def test_a_full_backlog_is_bounded_in_time(tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(str(tmp_path / "s"))
    server.listen(0)
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting.connect(str(tmp_path / "s"))
    with pytest.raises(GuestUnavailable, match="too busy"):
        asyncio.run(GuestClient(tmp_path / "s").attend(timeout=0.1))
    waiting.close()
    server.close()


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ((protocol.Exited(0), protocol.Exited(1)), None),
        ((protocol.Killed("KILL\n", False),), GuestProtocolError),
        ((protocol.Incoming(1, "x", 1),), GuestProtocolError),
        ((), GuestUnavailable),
    ],
    ids=["twice", "signal", "incoming", "gone"],
)
def test_lies_about_a_process(
    tmp_path: Path, answers: tuple[protocol.Message, ...], error: type[Exception] | None
) -> None:
    async def story() -> None:
        liar = Liar(tmp_path / "s", encode(protocol.Started(1)), *map(encode, answers))
        null = os.open("/dev/null", os.O_RDWR)
        _, process = await asyncio.gather(
            liar.serve(), GuestClient(tmp_path / "s").spawn(SpawnRequest(argv=(b"x",)), [null] * 3)
        )
        os.close(null)
        if error:
            with pytest.raises(error):
                await process.wait()
        else:
            assert await process.wait() == ExitStatus(code=0)
        process.close()

    asyncio.run(story())


def test_a_flood_of_asks_ends_the_attendance(tmp_path: Path) -> None:
    async def story() -> None:
        asks = [encode(protocol.Asked(n, 0, "snapshot", (b"x" * 1000,))) for n in range(200)]
        liar = Liar(tmp_path / "s", encode(protocol.Attending()), *asks)
        serving = asyncio.create_task(liar.serve())
        attendance = await GuestClient(tmp_path / "s").attend()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await serving
        seen: list[Ask] = []

        async def collect() -> None:
            async for ask in attendance:
                seen.append(ask)

        with pytest.raises(GuestProtocolError):
            await collect()
        assert len(seen) <= 64
        attendance.close()

    asyncio.run(story())


def lingering() -> tuple[socket.socket, tuple[socket.socket, socket.socket]]:
    """A connection with data that nobody reads, whose last holder waits for an hour when it closes it; its peers."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(1 << 16))
    ours.setblocking(True)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    return ours, (theirs, listener)


def hand_over(to: socket.socket, packet: bytes) -> tuple[socket.socket, socket.socket]:
    """Send a packet with a lingering descriptor of which this was the only holder; what must outlive it."""
    held, peers = lingering()
    fd = held.detach()
    # The sender lets go of its copy as it exits: whoever closes it otherwise would be the one that waits.
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            socket.send_fds(to, [packet], [fd])
        os._exit(0)
    blocked = threading.Thread(target=os.close, args=(fd,), daemon=True)
    os.waitpid(child, 0)
    blocked.start()
    return peers


@pytest.mark.parametrize("kernel", ["refuses", "does not"])
@pytest.mark.parametrize("moment", ["answer", "behind an empty packet", "while it closes"])
def test_descriptors_from_an_agent_are_not_taken_and_hold_nothing_up(
    tmp_path: Path, kernel: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "does not":
        monkeypatch.setattr(connection, "_SO_PASSRIGHTS", 9999)

    async def story() -> None:
        liar = Liar(tmp_path / "s")
        client = asyncio.create_task(GuestClient(tmp_path / "s").attend(timeout=2))
        theirs, _ = await asyncio.to_thread(liar.server.accept)
        await asyncio.to_thread(theirs.recv, 1 << 18)
        before = len(os.listdir("/proc/self/fd"))
        if moment != "answer":
            theirs.send(encode(protocol.Attending()) if moment == "while it closes" else b"")
        kept = hand_over(theirs, encode(protocol.Attending()))
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(GuestUnavailable):
            (await client).close()
        for one in (*kept, theirs, liar.server):
            one.close()
        wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before - 2, "a descriptor is still open")

    def stuck(*_: object) -> None:
        os.write(2, b"the event loop stands still\n")
        os._exit(1)

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, stuck)
        signal.alarm(20)
        try:
            asyncio.run(story())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_can_be_sent_to_whoever_looks_whether_the_agent_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(4)
        assert guestsocket.accepts(tmp_path / "s")
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        probe.shutdown(socket.SHUT_RD)  # as `accepts` does; its own is closed by now
        probe.connect(str(tmp_path / "s"))
        server.accept()[0].close()
        theirs, _ = server.accept()
        with pytest.raises(BrokenPipeError):
            socket.send_fds(theirs, [b"x"], [0])
        theirs.close()
        probe.close()


@pytest.mark.slow
def test_a_flood_of_connections_to_a_listener_ends_it(tmp_path: Path) -> None:
    async def story() -> None:
        incoming = [encode(protocol.Incoming(n, "x", 1)) for n in range(100_000)]
        liar = Liar(tmp_path / "s", encode(protocol.Listening(1)), *incoming)
        serving = asyncio.create_task(liar.serve())
        listener = await GuestClient(tmp_path / "s").listen(("", 0))
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await serving

        async def collect() -> None:
            async for _, _, one in listener:
                one.close()

        with pytest.raises(GuestProtocolError):
            await collect()
        listener.close()

    asyncio.run(story())
