"""The command line about sessions: who is on, ending one, limits of a challenge, disk use."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.test_cli import Run, engine, ready, run
from workspaces.challengeforms import parse_duration
from workspaces.errors import InvalidInput
from workspaces.store import Store


@pytest.fixture
def store(ready: Run, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "home" / "workspaces.db")
    yield opened
    opened.close()


def begin(store: Store, kind: str = "shell") -> int:
    return store.begin_session("alice", store.workspace("als/alice").id, kind, "192.0.2.7", "p", 1_800_000_000.0)


@pytest.mark.slow
def test_who_is_on(ready: Run, store: Store) -> None:
    assert ready("session", "list").err == "Nobody is on.\n"
    first = begin(store)
    second = begin(store, "sftp")
    listed = ready("session", "list", "--workspace", "als/alice", "--user", "alice").out.splitlines()
    assert listed[0].split() == ["ID", "USER", "WORKSPACE", "KIND", "FROM", "SINCE", "FOR"]
    assert [line.split()[:5] for line in listed[1:]] == [
        [str(second), "alice", "als/alice", "sftp", "192.0.2.7"],
        [str(first), "alice", "als/alice", "shell", "192.0.2.7"],
    ]
    rows = cast(list[dict[str, Any]], ready("session", "list", "--json").json)
    assert rows[0]["started_at"] == "2027-01-15T08:00:00.000+00:00"
    assert rows[0]["ended_at"] is None
    shown = ready("show", "als/alice").out
    assert "on: alice, sftp from 192.0.2.7 since 2027-01-15 08:00:00" in shown


@pytest.mark.slow
def test_killing(ready: Run, store: Store) -> None:
    number = begin(store)
    done = ready("session", "kill", str(number))
    assert (done.status, done.out) == (0, f"Session {number} of alice in als/alice ends within two seconds.\n")
    assert store.session(number).ended_at is not None
    again = ready("session", "kill", str(number))
    assert (again.status, again.err) == (1, f"workspaces: Session {number} has ended already.\n")
    assert ready("session", "kill", "99").status == 1
    assert ready("session", "list").out == ""
    ended = ready("session", "list", "--all").out
    assert "ENDED" in ended
    assert "alice" in ended
    assert "session.killed" in ready("audit", "list").out


@pytest.mark.slow
def test_limits_of_a_challenge(ready: Run, store: Store) -> None:
    assert "sessions: no limit of idle time, no limit in all\n" in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--idle", "2h", "--session", "1d").status == 0
    found = store.challenge("als")
    assert (found.idle_seconds, found.session_seconds) == (7200.0, 86400.0)
    assert "sessions: 2 h of idle time, 1 day in all\n" in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--idle", "never").status == 0
    assert store.challenge("als").idle_seconds is None
    for bad, sentence in (("2", "not a length of time"), ("10s", "a minute or more"), ("-1h", "not a length of time")):
        done = ready("challenge", "set", "als", f"--idle={bad}")
        assert done.status == 1
        assert sentence in done.err
    added = ready("challenge", "add", "b", "--image", "debian-ds:12", "--idle", "30m", "--session", "12h")
    assert added.status == 0
    assert (store.challenge("b").idle_seconds, store.challenge("b").session_seconds) == (1800.0, 43200.0)


@pytest.mark.slow
def test_disk_use(ready: Run, store: Store) -> None:
    assert "has written" not in ready("show", "als/alice").out
    store.set_workspace_disk(store.workspace("als/alice").id, 5 << 30)
    assert "its container has written 5.0 GiB, seen " in ready("show", "als/alice").out
    assert " 5.0 GiB " in ready("list").out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("30m", 1800.0), ("1.5 H", 5400.0), ("1d", 86400.0), ("Never", None)]
)
def test_lengths_of_time(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "1w", "1h30m", "-1h", "1e9d", "٣h", "1" * 10 + "d"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_duration(text)
