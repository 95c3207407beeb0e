"""Accounts as an image's own files have them, in whatever state a participant left those."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Agent, in_loop, run, sanitized_agent
from workspaces.guest.client import ExitStatus, SpawnRequest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can put other account files in place")

# In a user namespace that has the ids of a container's: 65536 of them.
SETUP = """
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && shift || exit
until echo 0 0 65536 >/proc/$$/gid_map && echo 0 0 65536 >/proc/$$/uid_map; do :; done 2>/dev/null &
exec unshare --user sh -c 'until [ "$(id -u)" = 0 ]; do :; done; exec "$@"' sh "$@"
"""
SHELLS = {
    "removed": (None, 0),
    "forbidden": (b"#!/bin/sh\n", 0o644),
    "corrupt": (b"\x7fELF nonsense", 0o755),
    "orphaned": (b"#!/no/interpreter\n", 0o755),
}


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("agent")
    accounts = ["root:x:0:0::/:"]
    for name, (content, mode) in SHELLS.items():
        shell = directory / name
        if content is not None:
            shell.write_bytes(content)
            shell.chmod(mode)
        accounts.append(f"{name}:x:0:0::/:{shell}")
    (directory / "passwd").write_text("\n".join(accounts))
    (directory / "group").write_text("staff:x:50:root,removed\nfar:x:1234567:root\nnear:x:65535:root\n")
    prefix: list[str | Path] = ["unshare", "--mount", "sh", "-c", SETUP, "sh", directory]
    agent = Agent(sanitized_agent(request.config), directory, prefix=prefix)
    yield agent
    assert agent.stop() == ""


@pytest.mark.parametrize("name", SHELLS)
@in_loop
async def test_a_shell_that_cannot_be_run_locks_nobody_out(agent: Agent, name: str) -> None:
    status, out, _ = await run(agent, SpawnRequest(command=b"echo $0; exit 3", user=name))
    assert (status, out) == (ExitStatus(code=3), b"sh\n")


@in_loop
async def test_a_group_outside_the_user_namespace_is_left_out(agent: Agent) -> None:
    assert (await run(agent, SpawnRequest(argv=(b"id", b"-G"))))[:2] == (ExitStatus(code=0), b"0 50 65535\n")
    assert (await run(agent, SpawnRequest(argv=(b"id", b"-G"), user="removed")))[1] == b"0 50\n"
