"""Announcements and messages: whom they reach, from when until when, and what hostile text becomes."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.stores import empty, path, store
from workspaces import messages
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Severity
from workspaces.store import Store

HOSTILE = '<script>alert(1)</script> \u202egnp\u202c it\'s "x"\nsecond\tline'


def on(store: Store, name: str, kind: str = "shell") -> int:
    return store.begin_session(name, store.workspace(f"als/{name}").id, kind, "192.0.2.7", "p", time.time())


def notices(store: Store) -> list[tuple[int, str]]:
    return [(notice.workspace_id, notice.text) for notice in store.notices(0)]


def test_one_is_shown_from_its_moment_until_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    made = store.add_announcement("text", Severity.WARNING, from_at=1010.0, until_at=1020.0, actor="chief")
    assert (made.text, made.challenge, made.created_by) == ("text", None, "chief")
    shown = {}
    for moment in (1009.0, 1010.0, 1019.0, 1020.0):
        clock[0] = moment
        shown[moment] = ([a.id for a in store.announcements_for("alice")], [a.id for a in store.announcements()])
    assert shown == {1009.0: ([], [1]), 1010.0: ([1], [1]), 1019.0: ([1], [1]), 1020.0: ([], [])}
    assert [a.id for a in store.announcements(ended=True)] == [1]
    event = store.events(limit=1)[0]
    assert (event.actor, event.kind, event.data["severity"]) == ("chief", "announcement.added", "warning")


def test_whom_it_concerns(store: Store) -> None:
    store.add_challenge("other", "base:1", actor="chief")
    for_all = store.add_announcement("for all", actor="chief")
    als = store.add_announcement("for als", Severity.URGENT, challenge="als", actor="chief")
    store.add_announcement("for others", challenge="other", actor="chief")
    assert [a.id for a in store.announcements_for("alice")] == [als.id, for_all.id]
    assert [a.id for a in store.announcements_for("chief")] == [for_all.id]
    assert store.company("alice", 1).announced == [(Severity.URGENT, "for als"), (Severity.INFO, "for all")]
    store.dismiss_announcement(als.id, "alice")
    store.dismiss_announcement(als.id, "alice")
    assert [a.id for a in store.announcements_for("alice")] == [for_all.id]
    assert [a.id for a in store.announcements_for("bob")] == [als.id, for_all.id]
    assert len(store.company("alice", 1).announced) == 2, "a login says it all the same"
    with pytest.raises(NotFound):
        store.dismiss_announcement(99, "alice")


def test_ending_one(store: Store) -> None:
    made = store.add_announcement("text", actor="chief")
    store.end_announcement(made.id, actor="deputy")
    assert store.announcements_for("alice") == store.announcements() == []
    with pytest.raises(Conflict, match="ended already"):
        store.end_announcement(made.id, actor="deputy")
    assert [event.actor for event in store.events(kind="announcement.ended")] == ["deputy"]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", {}),
        ("x" * 1001, {}),
        ("\x1b[31m", {}),
        ("a", {"until_at": 1.0}),
        ("a", {"from_at": 9e9, "until_at": 9e9}),
        ("a", {"from_at": float("nan")}),
    ],
)
def test_what_cannot_be_announced(store: Store, text: str, times: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        store.add_announcement(text, actor="chief", **times)
    with pytest.raises(NotFound):
        store.add_announcement("a", challenge="none", actor="chief")
    assert store.announcements(ended=True) == []


def test_open_terminals_are_told_once_and_those_of_its_challenge_only(store: Store) -> None:
    store.add_challenge("other", "base:1", actor="chief")
    store.add_workspace("other", "alice", ["alice"], actor="chief")
    on(store, "alice")
    there = store.workspace("other/alice").id
    store.begin_session("alice", there, "shell", "::1", "p", time.time())
    store.add_announcement(HOSTILE, Severity.URGENT, challenge="als", actor="chief")
    assert notices(store) == [
        (1, 'URGENT: <script>alert(1)</script> \\u202egnp\\u202c it\'s "x" second line'),
    ]
    assert store.tell_announcements() == 0
    store.add_announcement("later", from_at=time.time() + 0.05, actor="chief")
    assert len(notices(store)) == 1
    time.sleep(0.06)
    assert store.tell_announcements() == 2
    assert {text for _, text in notices(store)[1:]} == {"Announcement: later"}


def test_no_query_reads_what_is_over(store: Store) -> None:
    plans: list[str] = []
    found = store._rows

    def explain(sql: str, params: object = ()) -> list[dict[str, object]]:
        plans.extend(str(row["detail"]) for row in found(f"EXPLAIN QUERY PLAN {sql}", params))  # type: ignore[arg-type]
        return found(sql, params)  # type: ignore[arg-type]

    store._rows = explain  # type: ignore[method-assign]
    store.announcements_for("alice")
    store.company("alice", 1)
    store.tell_announcements()
    store.announcements()
    assert len([plan for plan in plans if "announcements_until" in plan]) == 3
    assert [plan for plan in plans if "announcements_untold" in plan]
    on(store, "alice")
    plans.clear()
    store._occupied("als")
    assert any("INDEX sessions_open" in plan for plan in plans)
    store.recordings_of([1])
    store.looks([1])
    store.unfinished_recordings()
    store.kept_recordings()
    assert not [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan and "json_each" not in plan]


def test_a_message_reaches_who_is_on_and_says_of_each_workspace_what_became_of_it(store: Store) -> None:
    on(store, "alice")
    on(store, "alice", "sftp")
    results = messages.send(store, ["als/alice", 2, "als/none"], HOSTILE, actor="chief")
    assert [(r.workspace, r.people, r.said) for r in results] == [
        ("als/alice", ("alice",), "told alice"),
        ("als/bob", (), "nobody has a terminal open"),
        ("als/none", (), "There is no workspace 'als/none'."),
    ]
    ((space, text),) = notices(store)
    assert space == 1
    assert text.startswith("Message from the organisers: <script>")
    assert "\n" not in text
    assert "\u202e" not in text
    assert [(e.actor, e.workspace) for e in store.events(kind="workspace.message")] == [("chief", "als/alice")]
    with pytest.raises(InvalidInput):
        messages.send(store, ["als/alice"], " \n", actor="chief")
    assert len(notices(store)) == 1
