"""What a connection that closes leaves running, and what not."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Agent, Raw, in_loop, module_agent, start, wait_for
from workspaces.guest import protocol
from workspaces.guest.client import SpawnRequest, TermSize

IGNORING = """
import os, signal
os.setgroups(range(100_000, 100_700))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def running(mark: str) -> list[int]:
    """The processes whose command line has that mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def test_sessions_closed_while_they_start_leave_nothing(agent: Agent) -> None:
    """The agent meets all the closed connections before it has seen that the first programs run, with children."""
    mark = f"1000.{random.randrange(10**12)}"
    command = f"sleep {mark} & sleep {mark}".encode()
    message = protocol.Spawn(protocol.SpawnKind.COMMAND, "root", "/", (command,))
    with Path(os.devnull).open("r+b") as null:
        agent.process.send_signal(signal.SIGSTOP)
        for _ in range(60):
            with Raw(agent) as raw:
                raw.send(message, [null.fileno()] * 3)
        agent.process.send_signal(signal.SIGCONT)
    agent.settle()
    wait_for(lambda: not running(mark), "processes are left")


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root has any groups it likes")
@in_loop
async def test_what_ignores_the_hang_up_stays_however_many_groups_it_has(agent: Agent) -> None:
    """They make /proc/PID/status long."""
    stubborn = b"exec 2>/dev/null; trap : HUP; echo; while :; do sleep 0.1; done"
    command = b"exec 2>/dev/null; %s -c '%s' & wait" % (sys.executable.encode(), IGNORING.encode())
    ignoring = await start(agent, SpawnRequest(command=command))
    pid = int(await ignoring.read_until(b"\n"))
    ignoring.close()
    killed = await start(agent, SpawnRequest(command=stubborn))
    await killed.read_until(b"\n")
    killed.close()
    wait_for(lambda: not alive(killed.process.pid), "what catches the hang-up and stays was not killed")
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@in_loop
async def test_jobs_of_the_background_that_the_shell_does_not_hang_up_stay(agent: Agent) -> None:
    """As on any host: the kernel and the shell tell the foreground job, and the shell all but those it has disowned."""
    catching = "trap : HUP; echo pid=$$ >/dev/tty; while :; do sleep 0.1; done"
    bash = await start(agent, SpawnRequest(argv=(b"bash", b"--norc", b"-i"), pty=TermSize(80, 24)))
    pids = []
    await bash.write(f"quiet() {{ sh -c '{catching}' 2>/dev/null; }}; stty -echo; PS1=\n".encode())
    for line in (
        "sh -c 'echo pid=$$ >/dev/tty; exec sleep 114' & disown",
        "quiet & disown",
        "sh -c 'echo pid=$$ >/dev/tty; exec sleep 115' &",
        "quiet",
    ):
        await bash.write(line.encode() + b"\n")
        seen = b""
        while not (found := re.search(rb"pid=(\d+)\r", seen)):
            seen += await bash.read()
        pids.append(int(found[1]))
    disowned, catching_disowned, background, foreground = pids

    bash.close()

    wait_for(lambda: not alive(background), "the shell did not hang up its job")
    wait_for(lambda: not alive(foreground), "the foreground job catches the hang-up and was not killed")
    assert alive(disowned)
    assert alive(catching_disowned)
    os.kill(disowned, signal.SIGKILL)
    os.kill(catching_disowned, signal.SIGKILL)
