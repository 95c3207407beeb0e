"""Sessions in the store: who is on, who was, and what ends them."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import time

import pytest

from tests.support.stores import empty, path, store
from workspaces.errors import Conflict, NotFound
from workspaces.store import Store, sessions
from workspaces.store.sessions import Company


def begin(store: Store, user: str = "alice", *, kind: str = "shell", at: float = 1000.0, process: str = "one") -> int:
    space = store.workspace("als/alice").id
    return store.begin_session(user, space, kind, "192.0.2.7", process, at)


def test_a_session_from_begin_to_end(store: Store) -> None:
    number = begin(store)
    found = store.session(number)
    assert (found.user, found.workspace, found.kind, found.address) == ("alice", "als/alice", "shell", "192.0.2.7")
    assert (found.started_at, found.ended_at, found.process) == (1000.0, None, "one")
    assert store.sessions() == [found]
    store.end_session(number, 1100.0)
    store.end_session(number, 1200.0)
    assert store.session(number).ended_at == 1100.0
    assert store.sessions() == []
    assert [s.id for s in store.sessions(ended=True)] == [number]


def test_a_session_that_is_not_there(store: Store) -> None:
    store.end_session(99, 1.0)
    for ask in (store.session, lambda number: store.kill_session(number, actor="chief")):
        with pytest.raises(NotFound, match="no session 99"):
            ask(99)


def test_lists_are_of_a_workspace_and_of_a_user_latest_first(store: Store) -> None:
    first, second = begin(store, at=1.0), begin(store, "bob", at=2.0)
    other = store.begin_session("bob", store.workspace("als/bob").id, "sftp", "::1", "one", 3.0)
    space = store.workspace("als/alice").id
    assert [s.id for s in store.sessions()] == [other, second, first]
    assert [s.id for s in store.sessions(space)] == [second, first]
    assert [s.id for s in store.sessions(user="bob")] == [other, second]
    assert [s.id for s in store.sessions(space, "bob")] == [second]
    store.end_session(second, 4.0)
    assert [s.id for s in store.sessions(space, "bob")] == []
    assert [s.id for s in store.sessions(space, "bob", ended=True)] == [second]
    assert [s.id for s in store.sessions(ended=True, limit=2)] == [other, second]


def test_killing_ends_it_once_and_is_recorded(store: Store) -> None:
    number = begin(store)
    assert store.kill_session(number, actor="chief").ended_at is not None
    event = store.events(limit=1)[0]
    assert (event.actor, event.kind, event.workspace) == ("chief", "session.killed", "als/alice")
    assert event.data == {"session": str(number), "user": "alice", "kind": "shell", "address": "192.0.2.7"}
    with pytest.raises(Conflict, match="ended already"):
        store.kill_session(number, actor="chief")
    assert len(store.events(kind="session.killed")) == 1


def test_sessions_of_dead_processes_end_and_those_of_live_ones_stay(store: Store) -> None:
    dead, live, done = begin(store, process="dead"), begin(store, process="live"), begin(store, process="dead")
    store.end_session(done, 1001.0)
    before = time.time()
    assert store.end_sessions_of("dead") == 1
    ended = store.session(dead).ended_at
    assert ended is not None
    assert ended >= before
    assert store.session(done).ended_at == 1001.0
    assert store.open_session_ids("live") == {live}
    assert store.open_session_ids("dead") == set()


def test_company_is_the_last_shell_and_who_else_is_on(store: Store) -> None:
    space = store.workspace("als/alice").id
    assert store.company("alice", space) == Company(None, [], [])
    begin(store, at=10.0)
    store.begin_session("alice", space, "shell", "2001:db8::9", "one", 30.0)
    begin(store, kind="exec", at=40.0)
    for _ in range(2):
        begin(store, "bob", at=50.0)
    gone = begin(store, "carol", at=60.0)
    store.end_session(gone, 61.0)
    store.begin_session("dave", store.workspace("als/bob").id, "shell", "::1", "one", 70.0)
    assert store.company("alice", space) == Company((30.0, "2001:db8::9"), ["bob"], [])


@pytest.mark.parametrize(
    ("call", "index"), [("company", "sessions_shell"), ("company", "sessions_live"), ("sessions", "sessions_live")]
)
def test_ended_sessions_do_not_slow_a_login(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, index: str
) -> None:
    plans: list[str] = []
    rows = store._rows

    def explain(sql: str, params: list[object]) -> list[dict[str, object]]:
        plans.extend(str(row["detail"]) for row in rows(f"EXPLAIN QUERY PLAN {sql}", params))
        return rows(sql, params)

    monkeypatch.setattr(store, "_rows", explain)
    store.company("alice", 1) if call == "company" else store.sessions(1, "alice")
    assert any(plan.startswith("SEARCH") and index in plan for plan in plans)
    assert not [plan for plan in plans if plan.startswith(("SCAN sessions", "SCAN s"))]


def test_the_latest_of_all_are_found_without_sorting_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (10.0, 20.0, 30.0):
        store.end_session(begin(store, at=at), at + 1)
    plans: list[str] = []
    rows = store._rows

    def explain(sql: str, params: list[object]) -> list[dict[str, object]]:
        plans.extend(str(row["detail"]) for row in rows(f"EXPLAIN QUERY PLAN {sql}", params))
        return rows(sql, params)

    monkeypatch.setattr(store, "_rows", explain)
    assert [s.started_at for s in store.sessions(ended=True, limit=2)] == [30.0, 20.0]
    assert plans[0] == "SCAN s"
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]


def test_the_latest_ended_ones_of_each_user_and_kind_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "KEPT", 3)
    monkeypatch.setattr(sessions, "TIDY_EVERY", 1)
    shell = begin(store, at=1.0)
    store.end_session(shell, 2.0)
    other = begin(store, "bob", kind="exec", at=1.0)
    store.end_session(other, 2.0)
    still_on = begin(store, kind="exec", at=1.0)
    numbers = []
    for at in range(10, 20):
        numbers.append(begin(store, kind="exec", at=float(at)))
        store.end_session(numbers[-1], at + 0.5)
    last = begin(store, kind="exec", at=30.0)
    kept = {s.id for s in store.sessions(ended=True)}
    assert kept == {shell, other, still_on, *numbers[-3:], last}
    assert store.company("alice", 1).last == (1.0, "192.0.2.7")


def test_a_removed_workspace_s_sessions_stay_readable(store: Store) -> None:
    number = begin(store)
    store.remove_workspace(store.workspace("als/alice").id, actor="chief")
    assert store.session(number).workspace == "als/alice"


def test_disk_use_is_noted_and_a_removed_workspace_is_no_error(store: Store) -> None:
    space = store.workspace("als/alice")
    assert (space.disk_bytes, space.disk_at) == (None, None)
    before = time.time()
    store.set_workspace_disk(space.id, 5 << 30)
    seen = store.workspace(space.id)
    assert seen.disk_bytes == 5 << 30
    assert seen.disk_at is not None
    assert seen.disk_at >= before
    store.set_workspace_disk(10_000, 1)
