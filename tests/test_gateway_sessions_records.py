"""What the gateway writes down of sessions, and what it reads back: ends, kills, processes that died."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sshgate.records import Record, Records, end_sessions, end_sessions_of, show_alive
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal
from workspaces.errors import StoreBusy
from workspaces.model import Session
from workspaces.store import Store


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    until(lambda: any(row.ended_at for row in stage.store.sessions(ended=True)))  # it is written down a moment later
    return person


@pytest.fixture
def settled(stage: GatewayStage, alice: Person) -> GatewayStage:
    """Nothing of an earlier test is open."""
    until(lambda: not stage.store.sessions())
    return stage


def latest(stage: GatewayStage) -> Session:
    return stage.store.sessions(ended=True, limit=1)[0]


def test_every_kind_is_written_down_with_its_end(settled: GatewayStage, alice: Person) -> None:
    async def run() -> list[tuple[str, bool]]:
        loop = asyncio.get_running_loop()
        seen = []
        async with alice.connect() as connection:
            for kind, arguments in (("exec", {"command": "cat"}), ("shell", {}), ("sftp", {"subsystem": "sftp"})):
                process = await connection.create_process(**arguments)
                await loop.run_in_executor(None, until, settled.store.sessions)
                (row,) = settled.store.sessions()
                seen.append((row.kind, row.kind == kind))
                assert (row.user, row.workspace, row.address) == ("alice", "als/alice", "127.0.0.1")
                assert row.process == settled.gateway.gate.records.process
                process.stdin.write_eof()
                await process.wait()
                await loop.run_in_executor(None, until, lambda: not settled.store.sessions())
                ended = latest(settled)
                assert ended.id == row.id
                assert ended.ended_at is not None
                assert ended.started_at <= ended.ended_at
        return seen

    assert asyncio.run(run()) == [("exec", True), ("shell", True), ("sftp", True)]


def test_sessions_of_a_client_that_vanishes_end(settled: GatewayStage, alice: Person) -> None:
    async def run() -> None:
        async with alice.connect() as connection:
            for _ in range(5):
                await connection.create_process("cat")
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, until, lambda: len(settled.store.sessions()) == 5)
            connection.abort()

    asyncio.run(run())
    until(lambda: not settled.store.sessions())


def test_one_that_is_killed_is_told_and_the_others_are_not(settled: GatewayStage, alice: Person) -> None:
    with Terminal(alice.line("-tt")) as one:
        one.expect(rb"[#$] $")
        until(lambda: len(settled.store.sessions()) == 1)
        number = settled.store.sessions()[0].id
        with Terminal(alice.line("-tt")) as other:
            other.expect(rb"[#$] $")
            until(lambda: len(settled.store.sessions()) == 2)
            settled.store.kill_session(number, actor="chief")
            one.expect(rb"\r\nThis session was ended by an administrator, or by you on your page\.\r\n")
            assert one.wait() == 254
            other.send("echo still $((40 + 2))\n")
            other.expect(rb"still 42")
            assert len(settled.store.sessions()) == 1


def test_a_kill_is_not_missed_when_the_store_cannot_be_read_at_first(
    settled: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, tries = settled.store.users, iter(range(3))

    def busy() -> Any:
        if next(tries, None) is not None:
            raise StoreBusy("The database is busy.")
        return users()

    with Terminal(alice.line("-tt")) as terminal:
        terminal.expect(rb"[#$] $")
        until(settled.store.sessions)
        monkeypatch.setattr(settled.store, "users", busy)
        settled.store.kill_session(settled.store.sessions()[0].id, actor="chief")
        terminal.expect(rb"ended by an administrator")
        assert terminal.wait() == 254


def test_a_process_that_died_left_rows_and_the_next_gateway_ends_them(
    settled: GatewayStage, alice: Person, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert alice.workspace
    caplog.set_level(logging.INFO)
    show_alive(tmp_path, "mine")
    (tmp_path / "gateway-long-gone.lock").touch()
    mine = settled.store.begin_session("alice", alice.workspace.id, "exec", "::1", "mine", 1.0)
    dead = settled.store.begin_session("alice", alice.workspace.id, "exec", "::1", "dead", 1.0)
    end_sessions(settled.store, tmp_path)
    assert [s.id for s in settled.store.sessions()] == [mine]
    assert settled.store.session(dead).ended_at is not None
    assert "1 sessions of a gateway that is gone are ended" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["gateway-mine.lock"]
    end_sessions_of(settled.store, tmp_path, "mine")
    assert settled.store.sessions() == []
    assert list(tmp_path.iterdir()) == []


# --- the queue by itself ---


class Slow:
    """A store whose next write waits until it is let go, and that counts transactions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.go = threading.Event()
        self.begun = threading.Event()
        self.transactions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def transaction(self) -> Any:
        self.transactions += 1
        self.begun.set()
        assert self.go.wait(10)
        return self._store.transaction()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "workspaces.db")
    store.add_user("alice", actor="test")
    store.add_challenge("als", "base:1", actor="test")
    store.add_workspace("als", "alice", ["alice"], actor="test")
    yield store
    store.close()


def test_writes_that_queue_up_go_in_one_transaction(quiet: Store) -> None:
    slow = Slow(quiet)
    records = Records(slow)  # type: ignore[arg-type]
    made = [Record("alice", 1, "exec", "::1") for _ in range(50)]
    records.begin(made[0])
    assert slow.begun.wait(10)
    for record in made[1:]:
        records.begin(record)
    for record in made[:20]:
        records.end(record)
    slow.go.set()
    records.close()
    assert slow.transactions == 2
    assert len(quiet.sessions()) == 30
    assert len(quiet.sessions(ended=True)) == 50


def test_one_that_cannot_be_written_does_not_take_the_others_with_it(
    quiet: Store, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(quiet)
    records = Records(slow)  # type: ignore[arg-type]
    records.add(slow.begun.set)
    good, bad, after = Record("alice", 1, "exec", "::1"), Record("alice", 1, "x11", "::1"), Record("a", 1, "sftp", "")
    for record in (good, bad, after):
        records.begin(record)
    records.end(bad)

    def broken() -> None:
        raise RuntimeError("a mistake")

    records.add(broken)
    slow.go.set()
    records.close()
    assert [s.kind for s in reversed(quiet.sessions())] == ["exec", "sftp"]
    assert bad.id is None
    assert "not recorded" in caplog.text
    assert "a mistake" in caplog.text


def test_a_row_whose_end_was_not_written_is_ended_at_the_next_look(
    quiet: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(quiet)
    record = Record("alice", 1, "exec", "::1")
    records.begin(record)
    with monkeypatch.context() as broken:

        def busy(*_: object) -> None:
            raise StoreBusy("The database is busy; nothing was written.")

        assert records.killed() == []  # and what came before is written
        broken.setattr(quiet, "end_session", busy)
        records.end(record)
        records.add(lambda: None)
        until(lambda: record.ended)
        until(lambda: not records._waiting)
        assert records._pool.submit(lambda: None).result(10) is None
    assert [s.id for s in quiet.sessions()] == [record.id]
    assert records.killed() == []
    assert quiet.sessions() == []
    records.close()


def test_a_session_killed_elsewhere_is_named_once(quiet: Store) -> None:
    records = Records(quiet)
    one, other = Record("alice", 1, "exec", "::1"), Record("alice", 1, "exec", "::1")
    records.begin(one)
    records.begin(other)
    assert records.killed() == []
    assert one.id is not None
    quiet.kill_session(one.id, actor="chief")
    assert records.killed() == [one]
    assert records.killed() == []
    assert [s.id for s in quiet.sessions()] == [other.id]
    records.close()


def test_two_processes_do_not_end_each_other_s(quiet: Store) -> None:
    one, other = Records(quiet), Records(quiet)
    assert one.process != other.process
    records = [Record("alice", 1, "exec", "::1") for _ in range(2)]
    one.begin(records[0])
    other.begin(records[1])
    assert one.killed() == other.killed() == []
    assert len(quiet.sessions()) == 2
    one.close()
    other.close()


def test_a_begin_and_its_end_in_one_batch(quiet: Store) -> None:
    slow = Slow(quiet)
    records = Records(slow)  # type: ignore[arg-type]
    records.add(lambda: None)
    assert slow.begun.wait(10)
    record = Record("alice", 1, "exec", "::1")
    records.begin(record)
    records.end(record)
    slow.go.set()
    assert records.killed() == []
    assert quiet.sessions() == []
    assert len(quiet.sessions(ended=True)) == 1
    records.close()
    records.add(lambda: None)  # after the end: nothing happens
