"""Sessions with a terminal through the real agent: size, modes, job control, draining, end of input, hang-up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Agent, in_loop, module_agent, run, shell, start, wait_for
from workspaces.guest.client import ExitStatus, SpawnRequest, TermSize

pytestmark = pytest.mark.slow

SIZE = TermSize(91, 33)
ECHO, OPOST, VINTR, VEOF, OSPEED = 53, 70, 1, 5, 129


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


def on_terminal(command: str, size: TermSize = SIZE, modes: tuple[tuple[int, int], ...] = ()) -> SpawnRequest:
    return SpawnRequest(command=command.encode(), pty=size, modes=modes, env={b"TERM": b"dumb"})


@in_loop
async def test_size_and_name(agent: Agent) -> None:
    status, out, _ = await run(agent, on_terminal("stty size; tty; echo $SSH_TTY; exit 7"))
    size, tty, variable = out.split()[0:2], out.split()[2], out.split()[3]
    assert (status, size) == (ExitStatus(code=7), [b"33", b"91"])
    assert tty == variable
    assert tty.startswith(b"/dev/pts/")


@pytest.mark.parametrize(("size", "seen"), [(TermSize(0, 0), b"0 0"), (TermSize(2**32 - 1, -5), b"0 65535")])
@in_loop
async def test_odd_sizes(agent: Agent, size: TermSize, seen: bytes) -> None:
    assert (await run(agent, on_terminal("stty size", size)))[1].strip() == seen


@in_loop
async def test_resize_is_told(agent: Agent) -> None:
    running = await start(agent, on_terminal("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"))
    await running.read_until(b"ready")
    for columns in range(40, 140):
        running.process.resize(TermSize(columns, 50))
    assert b"50 " in await running.read_all()
    assert (await running.process.wait()).code == 0
    running.process.resize(SIZE)  # after the end: nothing
    running.close()


@in_loop
async def test_modes_of_rfc_4254(agent: Agent) -> None:
    modes = ((ECHO, 0), (OPOST, 0), (VINTR, 7), (VEOF, 255), (OSPEED, 9600), (222, 1), (0, 0))
    _, out, _ = await run(agent, on_terminal("stty -a", modes=modes))
    text = out.decode()
    for setting in ("-echo ", "-opost", "intr = ^G;", "eof = <undef>;", "speed 9600 baud", "icanon", "isig"):
        assert setting in text, setting


@in_loop
async def test_raw_bytes_both_ways(agent: Agent) -> None:
    raw = tuple((opcode, 0) for opcode in (*range(30, 43), 50, 51, 53, 59, 70))
    data = random.Random(3).randbytes(300_000)
    running = await start(agent, on_terminal("echo ready; head -c 300000 | tee /dev/stderr | sha256sum >&2", modes=raw))
    await running.read_until(b"ready\n")
    _, out = await asyncio.gather(running.write(data), running.read_all())
    assert out[: len(data)] == data
    assert hashlib.sha256(data).hexdigest().encode() in out[len(data) :]
    running.close()


@in_loop
async def test_interrupt_goes_to_the_foreground(agent: Agent) -> None:
    running = await start(agent, on_terminal("trap 'echo caught; exit 5' INT; sh -c 'echo ready; exec sleep 100'"))
    await running.read_until(b"ready")
    await running.write(b"\x03")
    assert b"caught" in await running.read_all()
    assert await running.process.wait() == ExitStatus(code=5)
    running.close()


@in_loop
async def test_a_login_shell_has_job_control_and_ends_with_its_input(agent: Agent) -> None:
    status, out, _ = await run(
        agent, SpawnRequest(pty=SIZE, env={b"TERM": b"dumb"}), b"tty -s; echo tty=$? $-\nsleep 0.3\n"
    )
    assert b"tty=0" in out
    assert b"no job control" not in out
    assert status.code == 0


@in_loop
async def test_end_of_input_is_end_of_file(agent: Agent) -> None:
    status, out, _ = await run(agent, on_terminal("sleep 0.2; cat; echo done", modes=((ECHO, 0),)), b"line\n")
    assert (status.code, out) == (0, b"line\r\ndone\r\n")


@in_loop
async def test_all_output_comes_before_the_end(agent: Agent) -> None:
    for _ in range(5):
        _, out, _ = await run(agent, on_terminal("seq 20000; echo last"))
        assert out.split() == [b"%d" % n for n in range(1, 20001)] + [b"last"]


@in_loop
async def test_output_waits_for_a_slow_reader(agent: Agent) -> None:
    running = await start(agent, on_terminal("seq 50000; echo last"))
    assert await shell(agent, "echo others go on") == (ExitStatus(code=0), b"others go on\n", b"")
    assert (await running.read_all()).split()[-1] == b"last"
    running.close()


@in_loop
async def test_a_background_process_does_not_keep_the_session(agent: Agent) -> None:
    status, out, _ = await run(agent, on_terminal("trap '' HUP; sleep 107 & echo $!"))
    assert status.code == 0
    os.kill(int(out), 9)
    status, out, _ = await run(agent, on_terminal("trap '' HUP; yes & echo end $!"))
    assert status.code == 0
    wait_for(
        lambda: not Path(f"/proc/{int(out.split(b'end ')[1].split()[0])}").exists(), "writing to no terminal goes on"
    )


@in_loop
async def test_closing_hangs_up_the_foreground_job(agent: Agent) -> None:
    running = await start(agent, SpawnRequest(pty=SIZE, env={b"TERM": b"dumb"}))
    await running.write(b"sh -c 'echo pid $$; exec sleep 108'\n")
    seen = await running.read_until(b"pid ")
    while b"\r" not in seen.rpartition(b"pid ")[2] or not seen.rpartition(b"pid ")[2][:1].isdigit():
        seen += await running.read()
    job = int(seen.rpartition(b"pid ")[2].split()[0])
    running.close()
    wait_for(lambda: not Path(f"/proc/{job}").exists(), "the job still runs")


@in_loop
async def test_a_closed_output_hangs_up_too(agent: Agent) -> None:
    running = await start(agent, on_terminal("while :; do echo more; done"))
    await running.read_until(b"more")
    os.close(running.outputs.pop())
    assert await running.process.wait() == ExitStatus(signal="HUP")
    running.close()


@in_loop
async def test_a_session_that_lets_go_of_its_terminal(agent: Agent) -> None:
    running = await start(agent, on_terminal("exec <&- >&- 2>&-; sleep 0.2; exit 6"))
    assert await running.read_all() == b""
    assert await running.process.wait() == ExitStatus(code=6)
    running.close()


@in_loop
async def test_a_session_that_takes_its_terminal_back(agent: Agent) -> None:
    away = "exec <&- >&- 2>&-; sleep 0.2; "
    running = await start(agent, on_terminal(f"{away} seq 20000 >/dev/tty; {away} read line </dev/tty; exit $line"))
    out = await running.read_until(b"20000\r\n")
    assert out.split() == [b"%d" % n for n in range(1, 20001)]
    await running.write(b"6\n")
    await running.read_all()
    assert await running.process.wait() == ExitStatus(code=6)
    running.close()
