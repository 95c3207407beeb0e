"""Input that nobody has read when its session is over: it takes a bounded part of the gateway's memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from sshgate import unread
from sshgate.pump import pipe
from sshgate.unread import Unread, reading_end
from tests.support.gateway import GatewayStage, Person, descriptors, memory_stage, until


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


async def whole(person: Person, command: str) -> None:
    async with person.connect() as connection:
        await connection.run(command)


def full_pipe() -> tuple[int, int]:
    """What holds the reading end, as a process inside would, and what the gateway has once its session is over."""
    theirs, ours = pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    os.write(ours, bytes(60_000))
    kept = reading_end(ours)
    os.close(ours)
    assert kept is not None
    return theirs, kept


def left(fd: int) -> int:
    with os.fdopen(fd, "rb", buffering=0) as file:
        return sum(map(len, iter(lambda: file.read(1 << 16), b"")))


def test_the_latest_pipes_of_a_workspace_are_left_to_their_readers_and_older_ones_emptied() -> None:
    async def run() -> tuple[list[int], int]:
        holder = Unread(asyncio.get_running_loop())
        pipes = [full_pipe() for _ in range(unread.KEPT + 3)]
        other = full_pipe()
        for _, kept in pipes:
            holder.add(1, kept)
        holder.add(2, other[1])
        lengths = [left(theirs) for theirs, _ in pipes], left(other[0])
        holder.close()
        return lengths

    assert asyncio.run(run()) == ([0, 0, 0] + [60_000] * unread.KEPT, 60_000)


def test_a_pipe_is_emptied_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "LOOKS", (0.0, 0.0))

    async def run() -> int:
        holder = Unread(asyncio.get_running_loop())
        theirs, kept = full_pipe()
        holder.add(1, kept)
        while os.path.exists(f"/proc/self/fd/{kept}"):  # noqa: ASYNC110, ASYNC240 - closed by the loop's next turns
            await asyncio.sleep(0)
        return left(theirs)

    assert asyncio.run(run()) == 0


def test_a_pipe_that_nobody_reads_any_more_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "LOOKS", (0.0, 1000.0))

    async def run() -> None:
        holder = Unread(asyncio.get_running_loop())
        theirs, kept = full_pipe()
        os.close(theirs)
        holder.add(1, kept)
        while os.path.exists(f"/proc/self/fd/{kept}"):  # noqa: ASYNC110, ASYNC240 - closed by the loop's next turns
            await asyncio.sleep(0)

    asyncio.run(run())


def test_whoever_reads_on_sees_the_end_after_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "LOOKS", (0.0, 0.0, 0.0, 1000.0))

    async def run() -> int:
        holder = Unread(asyncio.get_running_loop())
        theirs, kept = full_pipe()
        holder.add(1, kept)
        for _ in range(10):
            await asyncio.sleep(0)
        length = left(theirs)
        holder.close()
        return length

    assert asyncio.run(run()) == 60_000


def test_an_empty_pipe_is_not_kept() -> None:
    theirs, ours = pipe()
    assert reading_end(ours) is None
    os.close(theirs)
    os.close(ours)


def test_what_a_session_left_unread_can_still_be_read_behind_it(stage: GatewayStage) -> None:
    alice = stage.person("alice")
    asyncio.run(whole(alice, "true"))
    out = stage.home / "out"
    before = descriptors()
    behind = f"setsid --fork sh -c 'while [ ! -e {out}.go ]; do sleep 0.01; done; wc -c > {out}' <&3 >/dev/null 2>&1"

    wait = f"while [ ! -e {out}.end ]; do sleep 0.01; done"

    async def run() -> None:
        async with alice.connect() as connection:
            process = await connection.create_process(f"exec 3<&0; {behind}; {wait}")
            process.stdin.write("x" * 50_000)
            process.stdin.write_eof()
            await connection.run("true")  # so the gateway has had all that was sent before
            (stage.home / "out.end").touch()
            await process.wait()

    asyncio.run(run())
    (stage.home / "out.go").touch()
    until(lambda: out.exists() and out.read_text() == "50000\n")
    until(lambda: descriptors() <= before)


def test_the_input_of_killed_clients_is_let_go(stage: GatewayStage) -> None:
    alice = stage.person("alice")
    asyncio.run(whole(alice, "true"))
    before = descriptors()

    async def run() -> None:
        connection = await alice.connect()
        for _ in range(3):
            process = await connection.create_process("echo there; sleep 1000")
            assert await process.stdout.readline() == "there\n"
            process.stdin.write("x" * 200_000)
        connection.abort()
        await connection.wait_closed()

    asyncio.run(run())
    until(lambda: descriptors() <= before)
