"""What a connection that closes leaves running, and what not."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Agent, Raw, module_agent, wait_for
from workspaces.guest import protocol


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


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
