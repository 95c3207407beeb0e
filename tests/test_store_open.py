"""Opening the database: new, old, newer, damaged, busy, full; from two processes at once."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlite_utils import Database

from tests.support.stores import empty, fill, path, store
from workspaces.errors import Conflict, InvalidInput, NotFound, StoreBusy, StoreError, StoreTooNew
from workspaces.model import SnapshotState
from workspaces.store import Store, connection, migrations

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("migrated")]


def pragma(store: Store, name: str) -> object:
    return store._rows(f"PRAGMA {name}")[0][name]


def test_a_new_database_is_private_and_set_to_lose_nothing(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.add_user("alice", actor="test")
        for file in path.parent.glob("workspaces.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert pragma(store, "journal_mode") == "wal"
        assert pragma(store, "foreign_keys") == 1
        assert pragma(store, "synchronous") == 2  # FULL
        assert len(store.instance) == 12
        assert int(store.instance, 16) >= 0


def test_what_is_written_is_there_after_reopening(path: Path) -> None:
    with closing(Store.open(path)) as store:
        fill(store)
        instance, users = store.instance, store.users()
    with closing(Store.open(path)) as store:
        assert (store.instance, store.users()) == (instance, users)


def test_each_state_directory_has_an_instance_of_its_own(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "a")) as a, closing(Store.open(tmp_path / "b")) as b:
        assert a.instance != b.instance


def test_jobs_of_an_older_version_get_their_kinds_priority(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", migrations.STEPS[:3])
        with closing(Store.open(path)) as old:
            old._db().executescript(
                "INSERT INTO challenges (slug, image, cpus, memory, pids, network, login_user, created_at) "
                "VALUES ('als', 'base:1', 1, 1, 1, 'none', 'root', 0);"
                "INSERT INTO workspaces (challenge_id, name, state, state_at, created_at) "
                "VALUES (1, 'alice', 'absent', 0, 0);"
                "INSERT INTO jobs (kind, state, workspace_id, requested_by, created_at) "
                "VALUES ('archive', 'queued', 1, 'chief', 0), ('start', 'done', 1, 'chief', 0);"
            )
    with closing(Store.open(path)) as new:
        assert [(job.kind, job.priority) for job in new.jobs()] == [("start", 80), ("archive", 20)]
        claimed = new.claim_job()
        assert claimed is not None
        assert new.job_log(claimed.id)[0].line == "Begun."


def m0002_colour(db: Database) -> None:
    """A step that rebuilds a table which others refer to, the hardest kind."""
    db.table("users").transform(defaults={"disabled": 1})
    db.execute("ALTER TABLE users ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")


def test_an_old_database_is_migrated_and_then_too_new_for_the_old_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(path)) as old:
        fill(old).add_key("alice", "SHA256:a", "ssh-ed25519 AAAA", actor="test")
        before = old.users(), old.keys("alice"), old.workspaces(), old.instance
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, m0002_colour))
        for _ in range(2):
            with closing(Store.open(path)) as new:
                assert new._rows("SELECT DISTINCT colour FROM users") == [{"colour": "blue"}]
                assert (new.users(), new.keys("alice"), new.workspaces(), new.instance) == before
                assert pragma(new, "foreign_keys") == 1
    with pytest.raises(StoreTooNew, match="newer version of this program: m0002_colour"):
        Store.open(path)


def test_a_step_that_fails_leaves_the_old_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def m0002_breaks(db: Database) -> None:
        db.execute("DELETE FROM challenges")  # the workspaces would refer to nothing

    with closing(Store.open(path)) as store:
        fill(store)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, m0002_breaks))
        with pytest.raises(StoreError, match=r"2 row.* nothing was changed"):
            Store.open(path)
    with closing(Store.open(path)) as store:
        assert [challenge.slug for challenge in store.challenges()] == ["als"]


def _open_at_once(path: Path, barrier: Barrier, number: int) -> None:
    barrier.wait(10)
    with closing(Store.open(path)) as store:
        store.add_user(f"user-{number}", actor="test")


def test_processes_that_open_a_new_database_at_once_all_succeed(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    children = [context.Process(target=_open_at_once, args=(path, barrier, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 4
    with closing(Store.open(path)) as store:
        assert len(store.users()) == 4
        assert len(store._rows("SELECT name FROM _sqlite_migrations")) == len(migrations.STEPS)


def _write_until_killed(path: Path, acknowledged: Connection) -> None:
    store = Store.open(path)
    workspace = store.workspace("als/alice").id
    while True:
        snapshot = store.request_snapshot(workspace, "m", actor="alice", via="ssh")
        store.approve_snapshot(snapshot.id, actor="chief")
        version = store.begin_commit(snapshot.id).version
        store.finish_commit(snapshot.id, f"als/alice:v{version}", f"sha256:{version}", [], 0)
        acknowledged.send(version)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    with closing(Store.open(path)) as store:
        fill(store)
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    last = 0
    for _ in range(3):
        child = context.Process(target=_write_until_killed, args=(path, writer))
        child.start()
        for _ in range(10):
            last = reader.recv()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(10)
        while reader.poll():
            last = reader.recv()
        with closing(Store.open(path)) as store:
            workspace = store.workspace("als/alice").id
            versions = [s.version for s in store.snapshots(workspace, [SnapshotState.COMMITTED])]
            assert versions[:1] in ([last], [last + 1])  # one may have been written and not yet been acknowledged
            assert sorted(versions, key=str) == sorted(range(1, len(versions) + 1), key=str)
            for snapshot in store.snapshots(workspace, [SnapshotState.REQUESTED]):
                store.withdraw_snapshot(snapshot.id, actor="alice")
            for snapshot in store.snapshots(workspace, [SnapshotState.APPROVED, SnapshotState.COMMITTING]):
                done = store.begin_commit(snapshot.id)
                store.finish_commit(done.id, f"als/alice:v{done.version}", f"sha256:{done.version}", [], 0)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at it" * 100, b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is not a database"):
        Store.open(path)
    assert path.read_bytes() == content


def test_a_damaged_database_is_told_with_what_to_do(path: Path) -> None:
    with closing(Store.open(path)) as store:
        for number in range(200):
            store.add_event("test", "test.filled", data={"number": number, "text": "x" * 200})
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged") as caught:
        Store.open(path).events()
    assert "backup" in caught.value.hint


def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE notes (text)")
    content = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store.open(path)
    assert path.read_bytes() == content


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent/w\.db cannot be opened: No such file or directory"):
        Store.open(tmp_path / "absent" / "w.db")
    with pytest.raises(StoreError, match="Is a directory"):
        Store.open(tmp_path)


def test_a_writer_waits_a_bounded_time_for_another_and_writes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.02)
    with closing(Store.open(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        fill(store)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="nothing was written"):
            store.add_user("carol", actor="test")
        assert store.find_user("carol") is None  # reading goes on meanwhile
        other.execute("COMMIT")
        store.add_user("carol", actor="test")


def test_a_writer_gets_its_turn_when_the_other_is_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(connection, "BUSY_ATTEMPTS", 200)
    with closing(Store.open(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=store.add_user, args=("carol",), kwargs={"actor": "test"})
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        other.execute("COMMIT")
        thread.join(10)
        assert store.user("carol").name == "carol"


def test_a_full_disk_is_told_and_nothing_is_half_written(store: Store) -> None:
    pages = store._rows("PRAGMA page_count")[0]["page_count"]
    store._rows(f"PRAGMA max_page_count = {pages}")
    before = len(store.events(10_000))

    def fill_up() -> None:
        with store.transaction():
            for number in range(10_000):
                store.add_event("test", "test.filled", data={"number": number, "text": "x" * 500})

    with pytest.raises(StoreError, match=r"disk .* is full; nothing was written"):
        fill_up()
    assert len(store.events(10_000)) == before
    store._rows("PRAGMA max_page_count = 1000000")
    store.add_event("test", "test.after")


def test_several_calls_are_one_change(store: Store) -> None:
    with suppress(Conflict), store.transaction():
        store.add_user("carol", actor="test")
        store.add_user("alice", actor="test")
    assert store.find_user("carol") is None
    with store.transaction():
        store.add_user("carol", actor="test")
        with pytest.raises(Conflict):  # a part that fails takes back itself only
            store.add_workspace("als", "alice", ["carol"], actor="test")
        store.add_workspace("als", "carol", ["carol"], actor="test")
    assert store.workspace("carol").members == ("carol",)


def test_each_thread_reads_and_writes_and_its_connection_goes_with_it(store: Store) -> None:
    def work(number: int) -> None:
        store.add_user(f"user-{number}", actor="test")
        assert store.find_user(f"user-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(store.users()) == 11
    assert len(store._all) == 2  # this thread's and the watcher


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.users()
    with pytest.raises(StoreError, match="closed"):
        store.add_user("carol", actor="test")
    caught: list[Exception] = []

    def other_thread() -> None:
        try:
            store.users()
        except StoreError as exc:
            caught.append(exc)

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join(5)
    assert len(caught) == 1


def test_the_data_version_tells_of_every_change_by_anybody(store: Store, path: Path) -> None:
    versions = [store.data_version()]
    assert store.data_version() == versions[0]
    store.users()
    assert store.data_version() == versions[0]
    store.add_user("carol", actor="test")
    versions.append(store.data_version())
    with closing(Store.open(path)) as other:
        other.touch_login(1)
    versions.append(store.data_version())
    thread = threading.Thread(target=store.touch_login, args=(1,))
    thread.start()
    thread.join(5)
    versions.append(store.data_version())
    assert len(set(versions)) == 4


def test_numbers_and_text_that_sqlite_cannot_hold_are_the_callers_mistake(store: Store) -> None:
    for ask in (store.snapshot, store.job, store.workspace):
        with pytest.raises(NotFound):
            ask(10**30)
    with pytest.raises(InvalidInput):
        store.events(actor="\udcff")


def test_every_query_of_a_growing_table_uses_an_index(store: Store) -> None:
    seen: list[str] = []
    db = store._db()
    with db.tracer(lambda sql, params: seen.append(sql)):
        store.claim_job()
        store.workspaces_of("alice")
        store.keys("alice")
        store.key_owner("SHA256:a")
        store.snapshots(workspace_id=1)
        store.snapshots(states=[SnapshotState.REQUESTED])
        store.jobs(workspace_id=1)
        store.events(workspace="als/alice")
        store.events(actor="alice")
        store.events(kind="user.added")
        snapshot = store.request_snapshot(1, "m", actor="alice", via="ssh")
        store.approve_snapshot(snapshot.id, actor="chief")
        store.begin_commit(snapshot.id)
    tables = ("keys", "snapshots", "jobs", "events", "members", "workspaces")
    for sql in seen:
        if sql.lstrip().startswith(("SELECT", "UPDATE")):
            count = sql.count("?")
            for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", ["[]"] * count):
                detail = row[3]
                assert not any(detail.startswith(f"SCAN {table}") for table in tables), (sql, detail)
