"""The agent without room in epoll: other workspaces, whose roots are the same user to the host, may have used it up."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Agent, in_loop, run, sanitized_agent, shell, start, wait_for
from workspaces.guest.client import ExitStatus, SpawnRequest, TermSize

pytestmark = pytest.mark.slow

BIG = bytes(range(256)) * 4000  # 1 MB: more than all buffers between
ECHO = 53
ALL, ODD = "0", "1"  # which descriptors epoll refuses


@pytest.fixture(scope="module", params=[(errno.ENOSPC, ALL), (errno.ENOSPC, ODD), (errno.ENOMEM, ODD)], ids=str)
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    error, which = request.param
    directory = tmp_path_factory.mktemp("agent")
    starved = directory / "starved"
    subprocess.run(["gcc", "-o", starved, Path(__file__).parent / "data" / "starved.c"], check=True)
    agent = Agent(sanitized_agent(request.config), directory, prefix=(starved, str(error), which))
    yield agent
    assert agent.stop() == ""


@in_loop
async def test_sessions(agent: Agent) -> None:
    results = await asyncio.gather(*(shell(agent, f"cat; exit {n}", b"%d" % n) for n in range(20)))
    assert [(status.code, out) for status, out, _ in results] == [(n, b"%d" % n) for n in range(20)]


@in_loop
async def test_a_terminal_and_a_reader_that_stalls(agent: Agent) -> None:
    size = TermSize(80, 24)
    stalled = await start(agent, SpawnRequest(command=b"seq 50000; echo last", pty=size))
    request = SpawnRequest(command=b"cat; echo done", pty=size, modes=((ECHO, 0),))
    assert (await run(agent, request, b"line\n"))[:2] == (ExitStatus(code=0), b"line\r\ndone\r\n")
    assert (await stalled.read_all()).split()[-1] == b"last"


@in_loop
async def test_a_connection_that_closes_is_noticed(agent: Agent) -> None:
    running = await start(agent, SpawnRequest(argv=(b"sleep", b"113")))
    running.close()
    wait_for(lambda: not Path(f"/proc/{running.process.pid}").exists(), "it was not hung up")


@in_loop
async def test_bytes_of_a_relay_both_ways(agent: Agent) -> None:
    async def echo_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.write_eof()
        writer.close()

    async with await asyncio.start_server(echo_at_end, "127.0.0.1", 0) as server:
        sock = await agent.client().connect(("127.0.0.1", server.sockets[0].getsockname()[1]))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(BIG)
        writer.write_eof()
        assert await reader.read() == BIG
        writer.close()
