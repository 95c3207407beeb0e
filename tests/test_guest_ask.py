"""`snapshot` inside, the agent, and the gateway that attends: what is asked arrives, what is answered is printed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from tests.support.guest import ENVIRONMENT, Agent, Raw, in_loop, module_agent, shell, wait_for
from workspaces.errors import GuestError, GuestUnavailable
from workspaces.guest import protocol
from workspaces.guest.client import Ask, Attendance


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


@asynccontextmanager
async def attending(agent: Agent, status: int, text: str) -> AsyncIterator[list[Ask]]:
    """Answer every ask with `status` and `text`; gives the list of them."""
    asks: list[Ask] = []
    attendance = await agent.client().attend()

    async def answer() -> None:
        async for ask in attendance:
            asks.append(ask)
            await attendance.answer(ask.id, status, text)

    task = asyncio.create_task(answer())
    yield asks
    attendance.close()
    await task


@in_loop
async def test_arguments_arrive_and_the_answer_is_printed(agent: Agent) -> None:
    async with attending(agent, 0, "Requested as number 7.\n") as asks:
        status, out, err = await shell(agent, "snapshot -m 'first submission' '' $'\\xff' é")
    assert (status.code, out, err) == (0, b"Requested as number 7.\n", b"")
    assert [(ask.kind, ask.args, ask.uid) for ask in asks] == [
        ("snapshot", ("-m", "first submission", "", "\udcff", "é"), os.getuid())
    ]


@pytest.mark.parametrize("status", [1, 2, 255])
@in_loop
async def test_a_refusal_goes_to_stderr_with_its_status(agent: Agent, status: int) -> None:
    async with attending(agent, status, "Not now."):
        ended, out, err = await shell(agent, "snapshot")
    assert (ended.code, out, err) == (status, b"", b"Not now.\n")


@in_loop
async def test_nobody_attends(agent: Agent) -> None:
    status, out, err = await shell(agent, "snapshot -m x")
    assert (status.code, out) == (1, b"")
    assert err == b"snapshot: No gateway attends this workspace just now; log in again and retry.\n"


@in_loop
async def test_an_answer_is_cut_rather_than_refused(agent: Agent) -> None:
    async with attending(agent, 0, "ü\0" * 20_000):
        _, out, _ = await shell(agent, "snapshot")
    assert out == "ü".encode() * (protocol.ASK_BYTES_MAX // 2) + b"\n"


@in_loop
async def test_too_long_to_ask(agent: Agent) -> None:
    async with attending(agent, 0, "") as asks:
        for command in ("snapshot $(seq 65)", "snapshot $(head -c 16385 /dev/zero | tr '\\0' x)"):
            status, _, err = await shell(agent, command)
            assert (status.code, err) == (2, b"snapshot: the arguments are too long.\n")
        assert (await shell(agent, "snapshot $(head -c 16384 /dev/zero | tr '\\0' x)"))[0].code == 0
    assert len(asks) == 1


@in_loop
async def test_the_latest_gateway_is_asked_and_the_earlier_one_after_it(agent: Agent) -> None:
    async with attending(agent, 0, "old"):
        async with attending(agent, 0, "new"):
            assert (await shell(agent, "snapshot"))[1] == b"new\n"
        wait_for(lambda: agent.descriptors() <= 8, "the later one did not go")
        assert (await shell(agent, "snapshot"))[1] == b"old\n"


@in_loop
async def test_a_gateway_that_goes_away_before_it_answers(agent: Agent) -> None:
    attendance = await agent.client().attend()
    asking = asyncio.create_task(shell(agent, "snapshot"))
    await anext(aiter(attendance))
    attendance.close()
    status, _, err = await asking
    assert (status.code, err) == (1, b"snapshot: The gateway went away before it answered; try again.\n")


@in_loop
async def test_who_asked_may_go_away_and_askers_are_bounded(agent: Agent) -> None:
    attendance = await agent.client().attend()
    askers = [Raw(agent) for _ in range(9)]
    for asker in askers:
        asker.send(protocol.Ask("snapshot", (b"x",)))
    refused = askers[8].receive()
    assert isinstance(refused, protocol.Failed)
    assert refused.text == "8 others wait for an answer already; try again."
    asks = aiter(attendance)
    numbers = [(await anext(asks)).id for _ in range(8)]
    askers[0].close()
    wait_for(lambda: agent.descriptors() <= 7 + 1 + 7, "the one that went is still there")
    for number in (*numbers, 12345):
        await attendance.answer(number, 3, "done")
    assert [asker.receive() for asker in askers[1:8]] == [protocol.Answered(3, "done")] * 7
    for asker in askers:
        asker.close()
    attendance.close()


@in_loop
async def test_only_a_few_gateways_attend(agent: Agent) -> None:
    attendances: list[Attendance] = [await agent.client().attend() for _ in range(4)]
    with pytest.raises(GuestError, match="4 gateways attend this workspace already"):
        await agent.client().attend()
    for attendance in attendances:
        attendance.close()


def test_the_iterator_ends_with_the_agent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = next(agents := module_agent(request, tmp_path_factory))

    async def story() -> None:
        attendance = await own.client().attend()
        own.process.terminate()
        assert [ask async for ask in attendance] == []
        with pytest.raises(GuestUnavailable):
            await attendance.answer(1, 0, "")

    asyncio.run(story())
    assert next(agents, None) is None
    result = subprocess.run(
        [own.guest / "bin" / "snapshot"], capture_output=True, env=ENVIRONMENT | {"WORKSPACES_SOCKET": str(own.socket)}
    )
    assert result.returncode == 1
    assert result.stderr == b"snapshot: this workspace's agent cannot be reached; log in again and retry.\n"


def test_the_same_on_uvloop(agent: Agent) -> None:
    async def story() -> None:
        async with attending(agent, 0, "yes"):
            assert (await shell(agent, "snapshot"))[1] == b"yes\n"

    uvloop.run(story())
    agent.settle()
