"""Starting processes through the real agent: what they get, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.support.guest import Agent, in_loop, module_agent, run, shell, start, wait_for
from workspaces.errors import GuestError, GuestUnavailable
from workspaces.guest.client import ExitStatus, SpawnRequest


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


def alive(pid: int) -> bool:
    """Whether a process runs, zombies not counted."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@in_loop
async def test_output_errors_and_status(agent: Agent) -> None:
    assert await shell(agent, "echo out; echo err >&2; exit 3") == (ExitStatus(code=3), b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 127, 255])
@in_loop
async def test_exit_codes(agent: Agent, code: int) -> None:
    assert (await shell(agent, f"exit {code}"))[0] == ExitStatus(code=code)


@pytest.mark.parametrize("name", ["KILL", "TERM", "HUP", "USR1", "PIPE"])
@in_loop
async def test_ended_by_a_signal(agent: Agent, name: str) -> None:
    assert (await shell(agent, f"kill -{name} $$"))[0] == ExitStatus(signal=name)


@in_loop
async def test_megabytes_of_anything_come_back_exactly(agent: Agent) -> None:
    data = random.Random(2).randbytes(4 << 20)
    status, out, err = await run(agent, SpawnRequest(argv=(b"cat",)), data)
    assert (status, hashlib.sha256(out).digest(), err) == (ExitStatus(code=0), hashlib.sha256(data).digest(), b"")


@in_loop
async def test_the_end_of_input_does_not_end_the_output(agent: Agent) -> None:
    status, out, _ = await shell(agent, "cat >/dev/null; echo all read; seq 100000 | tail -1", b"x" * 100_000)
    assert (status.code, out) == (0, b"all read\n100000\n")


@in_loop
async def test_what_a_login_gets(agent: Agent) -> None:
    entry = pwd.getpwuid(os.getuid())
    _, out, _ = await shell(
        agent, "echo $HOME $USER $LOGNAME $SHELL; umask; pwd; command -v snapshot; cat /proc/$$/status"
    )
    lines = out.decode().splitlines()
    assert lines[:4] == [
        f"{entry.pw_dir} {entry.pw_name} {entry.pw_name} {entry.pw_shell}",
        "0022",
        entry.pw_dir,
        lines[3],
    ]
    assert lines[3] == "snapshot" or lines[3] == f"{agent.guest}/bin/snapshot"
    status = dict(line.split(":\t", 1) for line in lines[4:] if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    # 32 and 33 are the C library's own; it lets nobody change what their parent set
    assert int(status["SigIgn"], 16) & ~(0b11 << 31) == 0


@in_loop
async def test_nothing_of_the_agent_is_inherited(agent: Agent) -> None:
    _, out, _ = await run(
        agent, SpawnRequest(argv=(b"sh", b"-c", b"ls /proc/$$/fd; ulimit -n; ps -o pid=,sid=,pgid= -p $$"))
    )
    *descriptors, files, ids = out.decode().splitlines()
    assert set(descriptors) <= {"0", "1", "2", "3"}  # 3: the directory that ls reads
    assert files == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert len(set(ids.split())) == 1


@in_loop
async def test_environment_of_the_request_wins_and_is_exact(agent: Agent) -> None:
    env = {b"HOME": b"/", b"EMPTY": b"", b"ODD": b"a=b\n\xff \"'$x"}
    _, out, _ = await run(agent, SpawnRequest(argv=(b"env", b"-0"), env=env))
    entries = out.split(b"\0")
    for name, value in env.items():
        assert entries.count(name + b"=" + value) == 1
    assert sum(entry.startswith(b"HOME=") for entry in entries) == 1


@in_loop
async def test_snapshot_is_found_after_the_path_was_reset(agent: Agent) -> None:
    reset = "export PATH=/usr/bin:/bin; "
    assert b"function" in (await shell(agent, f"bash -c '{reset} type snapshot'"))[1]
    request = SpawnRequest(argv=(b"sh", b"-i", b"-c", b'PATH=/usr/bin:/bin; . "$ENV"; command -v snapshot'))
    assert (await run(agent, request))[1].decode().strip() == f"{agent.guest}/bin/snapshot"


@in_loop
async def test_a_login_shell_has_its_dash(agent: Agent) -> None:
    _, out, _ = await run(agent, SpawnRequest(), b"echo $0\n")
    assert out.strip().startswith(b"-")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (SpawnRequest(argv=(b"no-such-program",)), "The image has no no-such-program."),
        (SpawnRequest(argv=(b"/etc/passwd",)), "/etc/passwd cannot be run: Permission denied."),
        (
            SpawnRequest(command=b"true", cwd="/no/where"),
            "The directory /no/where cannot be entered: No such file or directory.",
        ),
    ],
    ids=["program", "permission", "directory"],
)
@in_loop
async def test_what_cannot_be_started_is_said(agent: Agent, request_: SpawnRequest, sentence: str) -> None:
    with pytest.raises(GuestError) as caught:
        await run(agent, request_)
    assert caught.value.message == sentence


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@in_loop
async def test_another_user(agent: Agent) -> None:
    entry = pwd.getpwnam("nobody")
    _, out, err = await run(agent, SpawnRequest(command=b"", user="nobody", argv=()))
    assert b"not available" in out  # its shell is nologin, which is run all the same
    _, out, _ = await run(agent, SpawnRequest(argv=(b"id",), user="nobody"))
    assert out.decode().startswith(f"uid={entry.pw_uid}(nobody) gid={entry.pw_gid}")
    assert b"Could not chdir to home directory" in err
    with pytest.raises(GuestError, match="The image has no user mallory"):
        await run(agent, SpawnRequest(command=b"id", user="mallory"))


@in_loop
async def test_signals_reach_the_whole_group(agent: Agent) -> None:
    running = await start(
        agent, SpawnRequest(command=b"trap 'echo got; exit 9' USR1; sh -c 'echo ready $$; exec sleep 100' & wait; wait")
    )
    child = int((await running.read_until(b"\n")).split()[1])
    running.process.signal("NONSENSE")
    running.process.signal("USR1")
    assert await running.read_all() == b"got\n"
    assert await running.process.wait() == ExitStatus(code=9)
    wait_for(lambda: not alive(child), "the group was not signalled")
    running.process.signal("KILL")  # after the end: nothing
    running.close()


@in_loop
async def test_hanging_up_ends_the_group_and_leaves_what_was_detached(agent: Agent) -> None:
    command = (
        b"sleep 101 & echo $!; nohup sleep 102 >/dev/null 2>&1 & echo $!; setsid sleep 103 & echo $!; echo ready; wait"
    )
    running = await start(agent, SpawnRequest(command=command))
    lines = (await running.read_until(b"ready")).split()
    plain, ignoring, detached = map(int, lines[:3])
    wait_for(lambda: b"sleep" in Path(f"/proc/{ignoring}/cmdline").read_bytes()[:6], "nohup has not run yet")
    wait_for(lambda: b"sleep" in Path(f"/proc/{detached}/cmdline").read_bytes()[:6], "setsid has not run yet")
    running.close()
    wait_for(lambda: not alive(plain) and not alive(running.process.pid), "they were not hung up")
    assert alive(ignoring)
    assert alive(detached)
    os.kill(ignoring, signal.SIGTERM)
    os.kill(detached, signal.SIGTERM)


@pytest.mark.slow
@in_loop
async def test_what_catches_the_hang_up_and_stays_is_killed_later(agent: Agent) -> None:
    command = b"exec 2>/dev/null; trap : HUP; trap : TERM; echo ready; while :; do sleep 0.1; done"
    running = await start(agent, SpawnRequest(command=command))
    await running.read_until(b"ready")
    closed = time.monotonic()
    running.close()
    wait_for(lambda: not alive(running.process.pid), "it still runs")
    assert time.monotonic() - closed > 4


@in_loop
async def test_a_normal_end_kills_nothing(agent: Agent) -> None:
    _, out, _ = await shell(agent, "sleep 104 >/dev/null 2>&1 & echo $!")
    assert alive(int(out))
    os.kill(int(out), signal.SIGTERM)


@in_loop
async def test_orphans_are_reaped(agent: Agent) -> None:
    _, out, _ = await shell(agent, "(sh -c 'echo $$; exec sleep 0.1' &)")
    pid = int(out)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "a zombie is left")


@in_loop
async def test_many_sessions_at_once(agent: Agent) -> None:
    results = await asyncio.gather(*(shell(agent, f"cat; exit {n}", b"%d" % n) for n in range(40)))
    assert [(status.code, out) for status, out, _ in results] == [(n, b"%d" % n) for n in range(40)]


@in_loop
async def test_a_reader_that_stalls_holds_up_nobody_else(agent: Agent) -> None:
    stalled = [
        await start(agent, SpawnRequest(command=b"yes")),
        await start(agent, SpawnRequest(command=b"cat /dev/zero; sleep 100")),
    ]
    assert await shell(agent, "echo fine") == (ExitStatus(code=0), b"fine\n", b"")
    for running in stalled:
        running.close()


@in_loop
async def test_the_clients_wait_ends_with_the_agent_connection(agent: Agent) -> None:
    running = await start(agent, SpawnRequest(argv=(b"sleep", b"100")))
    waiting = asyncio.create_task(running.process.wait())
    await asyncio.sleep(0)
    running.close()
    with pytest.raises(GuestUnavailable):
        await waiting


def test_the_same_on_uvloop(agent: Agent) -> None:
    async def story() -> None:
        assert await shell(agent, "cat; exit 4", b"data") == (ExitStatus(code=4), b"data", b"")

    uvloop.run(story())
    agent.settle()
