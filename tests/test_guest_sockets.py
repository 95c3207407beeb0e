"""Connecting and listening in the container through the real agent."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.support.guest import Agent, in_loop, module_agent, wait_for
from workspaces.errors import GuestError
from workspaces.guest.client import Listener

BIG = bytes(range(256)) * 12_000  # 3 MB: more than all buffers between


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


async def _echo_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when the other half is closed: half-close has to be carried."""
    writer.write(b"got " + await reader.read())
    await writer.drain()
    writer.close()


async def _ask(sock: socket.socket, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
@in_loop
async def test_connect_tcp(agent: Agent, host: str) -> None:
    async with await asyncio.start_server(_echo_at_end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await _ask(await agent.client().connect((host, port)), BIG) == b"got " + BIG


@in_loop
async def test_connect_unix(agent: Agent, tmp_path: Path) -> None:
    async with await asyncio.start_unix_server(_echo_at_end, tmp_path / "s"):
        assert await _ask(await agent.client().connect(str(tmp_path / "s")), BIG) == b"got " + BIG


@in_loop
async def test_the_other_half_may_end_first(agent: Agent) -> None:
    received = asyncio.get_running_loop().create_future()

    async def talker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG)
        writer.write_eof()
        received.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(talker, "127.0.0.1", 0) as server:
        sock = await agent.client().connect(("127.0.0.1", server.sockets[0].getsockname()[1]))
        reader, writer = await asyncio.open_connection(sock=sock)
        assert await reader.read() == BIG
        writer.write(b"still here")
        writer.write_eof()
        assert await received == b"still here"
        writer.close()


@in_loop
async def test_an_early_answer_arrives_although_the_request_was_not_read(agent: Agent) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"too big")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(refuse, agent.socket.parent / "early"):
        sock = await agent.client().connect(str(agent.socket.parent / "early"))
        reader, writer = await asyncio.open_connection(sock=sock)
        assert await reader.readexactly(7) == b"too big"
        writer.close()


@in_loop
async def test_closing_reaches_the_other_side(agent: Agent) -> None:
    ended = asyncio.Event()

    async def until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(until_end, "127.0.0.1", 0) as server:
        sock = await agent.client().connect(("127.0.0.1", server.sockets[0].getsockname()[1]))
        sock.close()
        await ended.wait()


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (("127.0.0.1", 1), "Connecting to 127.0.0.1 in the workspace: Connection refused."),
        ("/no/such/socket", "Connecting to /no/such/socket: No such file or directory."),
        ("/" + "x" * 200, f"Connecting to /{'x' * 199}: File name too long."),
        (("x" * 400, 80), "The name to connect to is too long."),
        (("", 80), "The host name  is not known in the workspace."),
    ],
    ids=["port", "path", "long path", "long name", "no name"],
)
@in_loop
async def test_what_cannot_be_connected_to_is_said(agent: Agent, target: tuple[str, int] | str, sentence: str) -> None:
    with pytest.raises(GuestError) as caught:
        await agent.client().connect(target)
    assert caught.value.message == sentence


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@in_loop
async def test_connecting_has_the_users_rights_only(agent: Agent, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    async with await asyncio.start_unix_server(_echo_at_end, tmp_path / "root-only"):
        os.chmod(tmp_path / "root-only", 0o600)
        with pytest.raises(GuestError, match="Permission denied"):
            await agent.client().connect(str(tmp_path / "root-only"), user="nobody")
        assert await _ask(await agent.client().connect(str(tmp_path / "root-only")), b"x") == b"got x"


@in_loop
async def test_many_connections_at_once(agent: Agent) -> None:
    async with await asyncio.start_server(_echo_at_end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sockets = await asyncio.gather(*(agent.client().connect(("127.0.0.1", port)) for _ in range(30)))
        answers = await asyncio.gather(*(_ask(sock, b"%d" % n) for n, sock in enumerate(sockets)))
        assert answers == [b"got %d" % n for n in range(30)]


@in_loop
async def test_a_stalled_connection_holds_up_nobody_else(agent: Agent) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG * 4)
        await reader.read()
        writer.transport.abort()

    async with (
        await asyncio.start_server(flood, "127.0.0.1", 0) as flooding,
        await asyncio.start_server(_echo_at_end, "127.0.0.1", 0) as server,
    ):
        stalled = await agent.client().connect(("127.0.0.1", flooding.sockets[0].getsockname()[1]))
        sock = await agent.client().connect(("127.0.0.1", server.sockets[0].getsockname()[1]))
        assert await _ask(sock, BIG) == b"got " + BIG
        stalled.close()


async def _serve_one(listener: Listener) -> tuple[str, int]:
    async for host, port, sock in listener:
        reader, writer = await asyncio.open_connection(sock=sock)
        await _echo_at_end(reader, writer)
        return host, port
    raise AssertionError("the listener ended")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "*"])
@in_loop
async def test_listen_tcp(agent: Agent, host: str) -> None:
    listener = await agent.client().listen((host, 0))
    assert listener.port > 0
    sock = socket.create_connection(("127.0.0.1", listener.port))
    own = sock.getsockname()
    served = asyncio.create_task(_serve_one(listener))
    assert await _ask(sock, BIG) == b"got " + BIG
    assert await served == own
    listener.close()
    wait_for(lambda: _refused(listener.port), "it still listens")


def _refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@in_loop
async def test_listen_unix_leaves_no_file(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "forwarded"
    listener = await agent.client().listen(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(GuestError, match="Address already in use"):
        await agent.client().listen(str(path))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    served = asyncio.create_task(_serve_one(listener))
    assert await _ask(sock, b"x") == b"got x"
    assert await served == ("", 0)
    listener.close()
    wait_for(lambda: not path.exists(), "the socket's file is left")


@in_loop
async def test_a_private_socket_has_a_directory_of_its_own_which_goes_with_it(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "ssh-x" / "agent"
    listener = await agent.client().listen(str(path), private=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(GuestError, match="File exists"):
        await agent.client().listen(str(path), private=True)
    assert path.exists()
    listener.close()
    wait_for(lambda: not path.parent.exists(), "the directory is left")
    with pytest.raises(GuestError, match="File name too long"):
        await agent.client().listen(f"{tmp_path}/{'x' * 120}/agent", private=True)
    assert os.listdir(tmp_path) == []


@in_loop
async def test_a_private_sockets_directory_stays_when_something_else_is_in_it(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "ssh-y" / "agent"
    listener = await agent.client().listen(str(path), private=True)
    (path.parent / "mine").touch()
    listener.close()
    wait_for(lambda: not path.exists(), "the socket's file is left")
    agent.settle()
    assert (path.parent / "mine").exists()


@in_loop
async def test_a_port_in_use_is_said(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GuestError) as caught:
            await agent.client().listen(("127.0.0.1", port))
    assert caught.value.message == f"Listening on 127.0.0.1 port {port}: Address already in use."


@in_loop
async def test_connections_that_nobody_takes_are_bounded(agent: Agent) -> None:
    """More arrive than may wait; all are served once somebody does."""
    listener = await agent.client().listen(("127.0.0.1", 0))
    sockets = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(24)]
    served = [asyncio.create_task(_serve_one(listener)) for _ in sockets]
    answers = await asyncio.gather(*(_ask(sock, b"%d" % n) for n, sock in enumerate(sockets)))
    assert answers == [b"got %d" % n for n in range(24)]
    await asyncio.gather(*served)
    listener.close()


@in_loop
async def test_a_hundred_who_come_at_once_need_not_try_again(agent: Agent) -> None:
    """A connection for which the kernel has no room is tried again by the other side after a second."""
    listener = await agent.client().listen(("127.0.0.1", 0))
    sockets = {sock.fileno(): sock for sock in (socket.socket() for _ in range(100))}
    poll = select.poll()
    os.kill(agent.process.pid, signal.SIGSTOP)
    try:
        for sock in sockets.values():
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", listener.port))
            poll.register(sock, select.POLLOUT)
        waiting = set(sockets)
        while waiting:
            ready = [fd for fd, _ in poll.poll(3000)]
            assert ready, f"{len(waiting)} are not connected"
            for fd in ready:
                poll.unregister(fd)
                waiting.discard(fd)
    finally:
        os.kill(agent.process.pid, signal.SIGCONT)
        for sock in sockets.values():
            sock.close()
        listener.close()


def test_the_same_on_uvloop(agent: Agent) -> None:
    async def story() -> None:
        listener = await agent.client().listen(("127.0.0.1", 0))
        served = asyncio.create_task(_serve_one(listener))
        sock = await agent.client().connect(("127.0.0.1", listener.port))
        assert await _ask(sock, BIG) == b"got " + BIG
        await served
        listener.close()

    uvloop.run(story())
    agent.settle()
