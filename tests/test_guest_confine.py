"""What nothing in a workspace may ask of the kernel, whichever way it asks."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.support.guest import ENVIRONMENT, Agent, in_loop, module_agent, run, sanitized_agent, shell
from workspaces.guest.client import ExitStatus, SpawnRequest

agent = pytest.fixture(scope="module")(module_agent)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("confined") / "confined"
    subprocess.run(["gcc", "-o", path, Path(__file__).parent / "data" / "confined.c"], check=True)
    return bytes(path)


@in_loop
async def test_sockets_of_the_hypervisor_and_of_the_kernel_and_io_uring_are_refused(
    agent: Agent, program: bytes
) -> None:
    expected = [[errno.EAFNOSUPPORT, errno.EAFNOSUPPORT, 0, errno.ENOSYS]]
    if platform.machine() == "x86_64":  # the x32 way, and the one of 32-bit programs; there 41 is dup
        expected += [[errno.EAFNOSUPPORT], [errno.EAFNOSUPPORT, 0, errno.ENOSYS, 0, errno.ENOSYS]]

    status, out, _ = await run(agent, SpawnRequest(argv=(program,)))

    assert (status, [[int(word) for word in line.split()] for line in out.splitlines()]) == (ExitStatus(0), expected)


@in_loop
async def test_the_filter_is_inherited_by_all_that_is_started(agent: Agent) -> None:
    assert (await shell(agent, "grep Seccomp: /proc/self/status; setsid -w grep Seccomp: /proc/self/status"))[1] == (
        b"Seccomp:\t2\n" * 2
    )


# Without that right, the kernel takes a filter only from who has given up gaining any.
POWERLESS = ("setpriv", "--bounding-set=-sys_admin")
REFUSED = "the kernel takes no seccomp filter: Permission denied\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a process 1")
def test_process_1_does_not_run_without_the_filter(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    first = ("unshare", "--pid", "--fork", "--kill-child", *POWERLESS)
    command = [*map(str, first), str(sanitized_agent(request.config)), "init", str(tmp_path / "socket")]

    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT, timeout=10)

    assert (result.returncode, result.stderr) == (1, f"agent: {REFUSED}")


@pytest.mark.skipif(os.getuid() != 0, reason="others have no rights to give up")
def test_a_plain_process_runs_without_the_filter_and_says_so(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    plain = Agent(sanitized_agent(request.config), tmp_path, prefix=POWERLESS)

    assert plain.stop() == f"agent: {REFUSED}"
