"""Forwards last no longer than sessions: the challenge closes, nothing moves, or they have lasted long enough."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import asyncssh
import pytest

from sshgate.clocks import Clocks
from tests.support.forwards import all_gone, answer_at_end, listens, stage, tcp_service, through
from tests.support.gateway import GatewayStage, Person, until

pytestmark = pytest.mark.slow

__all__ = ["all_gone", "stage"]


@pytest.fixture
def alice(stage: GatewayStage) -> Person:
    """Somebody in a challenge of this test's own, named as they are."""
    name = f"alice{len(stage.store.challenges())}"
    stage.store.add_challenge(name, stage.image, actor="chief")
    person = stage.person(name, challenge=name)
    assert person.run("true").returncode == 0
    return person


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute becomes half a second."""

    def make(*args: Any, idle: float | None, longest: float | None) -> Clocks:
        return Clocks(*args, idle=idle and idle / 120, longest=longest and longest / 120)

    monkeypatch.setattr("sshgate.stay.Clocks", make)


def limit(person: Person, **changes: float) -> None:
    person.stage.store.set_challenge(person.name, **changes, actor="chief")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)


@pytest.mark.parametrize("with_session", [False, True])
def test_forwards_end_when_the_challenge_closes(alice: Person, with_session: bool) -> None:
    async def run() -> None:
        async with tcp_service(echo) as port:
            client = await alice.connect()
            process = await client.create_process("cat") if with_session else None
            local, _ = await client.open_connection("127.0.0.1", port)
            listener = await client.start_server(lambda *_: echo, "127.0.0.1", 0, encoding=None)
            remote, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            await asyncio.to_thread(limit, alice, closes_at=time.time() + 0.3)
            assert await local.read() == b""
            assert await remote.read() == b""
            writer.close()
            await asyncio.to_thread(until, lambda: not listens(listener.get_port()))
            if process:
                assert (await process.wait()).exit_status == 254
                client.close()
            await client.wait_closed()

    asyncio.run(run())


def test_a_forward_that_was_opened_before_a_known_closing_ends_then(alice: Person) -> None:
    limit(alice, closes_at=time.time() + 1)

    async def run() -> None:
        async with tcp_service(echo) as port:
            client = await alice.connect()
            reader, _ = await client.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            await client.wait_closed()

    asyncio.run(run())


@pytest.mark.usefixtures("hasty")
def test_forwards_without_a_session_end_when_idle(alice: Person) -> None:
    limit(alice, idle_seconds=60.0)

    async def run() -> None:
        client = await alice.connect()
        listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
        await client.wait_closed()
        await asyncio.to_thread(until, lambda: not listens(listener.get_port()))

    asyncio.run(run())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("with_session", [False, True])
def test_busy_forwards_end_after_the_longest_time(alice: Person, with_session: bool) -> None:
    limit(alice, session_seconds=90.0, idle_seconds=60.0)

    async def run() -> None:
        async with tcp_service(echo) as port:
            client = await alice.connect()
            process = await client.create_process("cat") if with_session else None
            reader, writer = await client.open_connection("127.0.0.1", port)
            echoed = 0
            writer.write(b"x")
            with suppress(asyncssh.Error, BrokenPipeError):
                while await reader.read(1):
                    writer.write(b"x")
                    echoed += 1
            assert echoed
            if process:
                process.stdin.write_eof()
                assert (await process.wait()).exit_status == 0
                client.close()
            await client.wait_closed()

    asyncio.run(run())


@pytest.mark.usefixtures("hasty")
def test_a_session_keeps_a_port_that_nobody_uses(alice: Person) -> None:
    """The session's own clock says when the person is idle, and that is not made hasty here."""
    limit(alice, idle_seconds=60.0)

    async def run() -> None:
        async with alice.connect() as client:
            process = await client.create_process("echo up; sleep 1")
            await process.stdout.readline()
            listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            assert (await process.wait()).exit_status == 0
            assert await through(listener.get_port(), b"x") == b"got x"

    asyncio.run(run())
