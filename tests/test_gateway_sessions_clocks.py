"""Idle and longest times of sessions, and the closing of a challenge: by a clock of the test's own, and live."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from sshgate import clocks as clocks_module
from sshgate.clocks import Clocks
from sshgate.session import Session
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal

pytestmark = pytest.mark.slow

WALL = 1_800_000_000.0


class Loop:
    """An event loop's clock and timers; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0
        self.calls: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()
        self.looks = 0

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now - 50.0

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        assert delay >= 0
        handle = Handle(callback)
        heapq.heappush(self.calls, (self.now + delay, next(self._order), handle))
        return handle

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.calls and self.calls[0][0] <= end:
            self.now, _, handle = heapq.heappop(self.calls)
            if not handle.cancelled:
                self.looks += 1
                handle.callback()
        self.now = end

    @property
    def waits(self) -> bool:
        return any(not handle.cancelled for _, _, handle in self.calls)


class Handle:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """Clocks with a counter of bytes; `said` is what was told and when, in seconds since the begin."""

    def __init__(self, idle: float | None = None, longest: float | None = None, closes: float | None = None) -> None:
        self.loop = Loop()
        self.bytes = 0
        self.said: list[tuple[int, str, str]] = []
        self.clocks = Clocks(
            cast(asyncio.AbstractEventLoop, self.loop),
            lambda: self.bytes,
            lambda text: self.note("warn", text),
            lambda text: self.note("end", text),
            idle=idle,
            longest=longest,
            wall=self.loop.wall,
        )
        self.clocks.closes(None if closes is None else WALL + closes, "als")

    def note(self, what: str, text: str) -> None:
        self.said.append((round(self.loop.now - 50), what, text))

    def times(self) -> list[tuple[int, str]]:
        return [(at, what) for at, what, _ in self.said]


def test_without_limits_there_is_no_timer() -> None:
    stage = Stage()
    assert not stage.loop.waits


def test_idle_is_warned_of_and_ends() -> None:
    stage = Stage(idle=7200)
    stage.loop.run(10_000)
    assert stage.times() == [(6900, "warn"), (7200, "end")]
    assert stage.said[0][2] == ("Nothing has moved here for a while: this session ends in 5 min unless something does.")
    assert stage.said[1][2] == "This session ended: nothing moved in it for 2 h."
    assert not stage.loop.waits


def test_a_short_limit_is_warned_of_at_four_fifths() -> None:
    stage = Stage(idle=60)
    stage.loop.run(100)
    assert stage.times() == [(48, "warn"), (60, "end")]
    assert "ends in 12 s unless" in stage.said[0][2]


def test_any_byte_begins_idle_anew_also_after_the_warning() -> None:
    stage = Stage(idle=1000)
    for _ in range(50):
        stage.loop.run(100)
        stage.bytes += 1
    assert stage.said == []
    stage.loop.run(850)
    assert [what for _, what in stage.times()] == ["warn"]
    stage.bytes += 1
    stage.loop.run(790)
    assert len(stage.said) == 1
    stage.loop.run(300)
    assert [what for _, what in stage.times()] == ["warn", "warn", "end"]
    last_byte = 50 * 100 + 850
    assert last_byte + 1000 <= stage.said[-1][0] <= last_byte + 1000 * (1 + 1 / clocks_module.LOOKS)


def test_bytes_cost_no_timer() -> None:
    stage = Stage(idle=3600)
    for _ in range(1000):
        stage.bytes += 1 << 16
        stage.loop.run(3.6)
    assert stage.loop.looks <= 3600 / clocks_module.LOOK_MAX + 1


def test_the_longest_time_ends_a_busy_session() -> None:
    stage = Stage(longest=43_200)
    for _ in range(60):
        stage.bytes += 1
        stage.loop.run(1000)
    assert stage.times() == [(42_900, "warn"), (43_200, "end")]
    assert stage.said[0][2].startswith("This session ends in 5 min: it has reached the longest time")
    assert stage.said[1][2] == "This session ended: sessions last 12 h at most here. Connect again to go on."


def test_the_first_limit_counts() -> None:
    stage = Stage(idle=600, longest=900, closes=5000)
    stage.loop.run(10_000)
    assert stage.times() == [(480, "warn"), (600, "end")]


def test_the_challenge_closes() -> None:
    stage = Stage(closes=100_000)
    stage.loop.run(200_000)
    assert stage.times() == [(99_700, "warn"), (100_000, "end")]
    assert stage.said[0][2] == "The challenge als closes in 5 min; this session ends then."
    assert stage.said[1][2] == (
        "The challenge als has closed, and this session with it. Your files and versions are kept."
    )


def test_who_comes_minutes_before_the_closing_is_not_warned_again() -> None:
    stage = Stage(closes=100)
    stage.loop.run(1000)
    assert stage.times() == [(100, "end")]


def test_the_organisers_move_the_closing() -> None:
    stage = Stage(closes=1000)
    stage.loop.run(800)
    assert stage.times() == [(700, "warn")]
    stage.clocks.closes(WALL + 5000, "als")
    stage.loop.run(3000)
    assert len(stage.said) == 1
    stage.clocks.closes(None, "als")
    assert not stage.loop.waits
    stage.clocks.closes(WALL + 3900, "als")
    stage.loop.run(200)
    assert stage.times()[1:] == [(3800, "warn"), (3900, "end")]
    assert "als closes in 2 min;" in stage.said[1][2]
    stage.clocks.closes(WALL + 9000, "als")
    assert not stage.loop.waits


def test_the_same_closing_told_again_costs_nothing() -> None:
    stage = Stage(closes=1000)
    for _ in range(100):
        stage.clocks.closes(WALL + 1000, "als")
    assert len(stage.loop.calls) == 1


def test_a_session_that_is_over_hears_nothing_more() -> None:
    stage = Stage(idle=100, longest=100, closes=100)
    stage.clocks.stop()
    stage.clocks.stop()
    stage.clocks.closes(WALL + 50, "als")
    stage.loop.run(1000)
    assert (stage.said, stage.loop.waits) == ([], False)


# --- in the gateway ---


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def alice(stage: GatewayStage) -> Person:
    """Somebody in a challenge of this test's own, named as they are; nobody else is on."""
    until(lambda: not stage.store.sessions())
    name = f"alice{len(stage.store.challenges())}"
    stage.store.add_challenge(name, stage.image, actor="chief")
    person = stage.person(name, challenge=name)
    assert person.run("true").returncode == 0
    until(lambda: not stage.store.sessions())
    return person


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute becomes half a second."""

    def make(*args: Any, idle: float | None, longest: float | None) -> Clocks:
        return Clocks(*args, idle=idle and idle / 120, longest=longest and longest / 120)

    monkeypatch.setattr("sshgate.session.Clocks", make)


def limit(person: Person, **changes: float) -> None:
    """Set what the person's challenge allows sessions."""
    person.stage.store.set_challenge(person.name, **changes, actor="chief")


async def session_of(person: Person) -> Session:
    """The gateway's side of the one session, once it runs."""
    await asyncio.get_running_loop().run_in_executor(None, until, person.stage.store.sessions)
    (session,) = [s for server in person.stage.gateway.gate.servers for s in server.sessions if s.record]
    return session


@pytest.mark.usefixtures("hasty")
def test_an_idle_shell_is_warned_and_ended(stage: GatewayStage, alice: Person) -> None:
    limit(alice, idle_seconds=60.0)
    with Terminal(alice.line("-tt")) as terminal:
        terminal.expect(
            rb"\r\nNothing has moved here for a while: this session ends in \d+ s unless something does\.\r\n"
        )
        terminal.expect(rb"\r\nThis session ended: nothing moved in it for \d+ s\.\r\n")
        assert terminal.wait() == 254
    until(lambda: not stage.store.sessions())


@pytest.mark.usefixtures("hasty")
def test_an_idle_command_is_ended_with_a_line_on_standard_error(alice: Person) -> None:
    limit(alice, idle_seconds=60.0)
    done = alice.run("echo before; exec sleep 100")
    assert (done.returncode, done.stdout) == (254, b"before\n")
    assert done.stderr.startswith(b"This session ended: nothing moved in it for ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.usefixtures("hasty")
def test_a_busy_command_is_ended_after_the_longest_time(alice: Person) -> None:
    limit(alice, session_seconds=60.0)
    done = alice.run("while :; do echo tick; sleep 0.01; done")
    assert done.returncode == 254
    assert set(done.stdout.split(b"\n")) == {b"tick", b""}
    assert done.stderr.startswith(b"This session ended: sessions last ")


@pytest.mark.parametrize("term", [None, "xterm"], ids=["pipes", "terminal"])
def test_bytes_of_both_directions_count(alice: Person, term: str | None) -> None:
    async def run() -> list[int]:
        async with alice.connect() as connection:
            process = await connection.create_process("stty -echo -onlcr 2>/dev/null; echo up; cat", term_type=term)
            await process.stdout.readline()
            session = await session_of(alice)
            before = session._moved()
            process.stdin.write("x" * 99 + "\n")
            await process.stdout.readline()
            return [before, session._moved()]

    before, after = asyncio.run(run())
    assert after - before == 200


def test_open_sessions_end_when_the_challenge_closes(alice: Person) -> None:
    with Terminal(alice.line("-tt")) as terminal:
        terminal.expect(rb"[#$] $")
        limit(alice, closes_at=time.time() + 400)
        limit(alice, closes_at=time.time() + 0.2)
        terminal.expect(rb"\r\nThe challenge alice\d+ has closed, and this session with it\. Your files")
        assert terminal.wait() == 254
    assert b"closed on" in alice.run("true").stderr


def test_a_session_without_a_terminal_hears_of_the_closing_on_standard_error(alice: Person) -> None:
    async def run() -> Any:
        async with alice.connect() as connection:
            process = await connection.create_process("exec sleep 100")
            await session_of(alice)
            limit(alice, closes_at=time.time() - 1)
            return await process.wait()

    done = asyncio.run(run())
    assert done.exit_status == 254
    assert done.stderr.startswith(f"The challenge {alice.name} has closed")


def test_another_challenge_s_limits_are_not_this_one_s(stage: GatewayStage, alice: Person) -> None:
    stage.store.set_challenge("als", idle_seconds=60.0, session_seconds=60.0, actor="chief")

    async def run() -> None:
        async with alice.connect() as connection:
            process = await connection.create_process("cat")
            session = await session_of(alice)
            assert session.clocks is not None
            assert session.clocks._timer is None
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == 0

    asyncio.run(run())


def test_a_client_that_takes_nothing_is_ended_all_the_same(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshgate.session.CLOSED_SECONDS", 0.1)

    async def run() -> None:
        async with alice.connect() as connection:
            process = await connection.create_process("yes", encoding=None)
            process.channel.pause_reading()
            loop = asyncio.get_running_loop()
            session = await session_of(alice)
            channel = session.channel
            await loop.run_in_executor(
                None, until, lambda: channel._send_window == 0 and channel.get_write_buffer_size() > 0
            )
            stage.store.kill_session(stage.store.sessions()[0].id, actor="chief")
            await loop.run_in_executor(None, until, lambda: channel.get_write_buffer_size() == 0)
            assert channel.is_closing()
            assert (await connection.run("echo another")).stdout == "another\n"

    asyncio.run(run())
