"""The command line about recordings, announcements and messages."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli import Run, engine, ready, run
from workspaces import casts
from workspaces.cli import playing
from workspaces.model import Recorded
from workspaces.store import Store

pytestmark = pytest.mark.slow

LINES = casts.line(0.5, "o", "hello\x1b[6n\r\n") + casts.line(1.0, "m", casts.gap(1 << 20))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(ready: Run, home: Path) -> Iterator[Store]:
    opened = Store.open(home / "workspaces.db")
    yield opened
    opened.close()


@pytest.fixture
def recorded(store: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A session that has ended, with a recording whose last line is torn."""
    monkeypatch.setattr(playing, "LOOK_SECONDS", 0.01)
    number = store.begin_session("alice", store.workspace("als/alice").id, "shell", "192.0.2.7", "p", time.time() - 60)
    store.begin_recording(number, "a.cast", time.time() - 60)
    (home / "recordings").mkdir()
    (home / "recordings/a.cast").write_bytes(casts.header(80, 24, 0.0, "xterm", "t") + LINES + b'[2.0, "o", "to')
    store.end_session(number, time.time())
    store.end_recording(number, 1 << 20, 83.0, 5)
    return number


def test_what_a_challenge_records(ready: Run, store: Store) -> None:
    assert "recorded" not in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--record", "terminals").status == 0
    assert store.challenge("als").record is Recorded.TERMINALS
    assert "recorded: terminals\n" in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--record", "input").status == 2
    assert ready("challenge", "set", "als", "--record", "none").status == 0


def test_replaying_watching_and_exporting(ready: Run, store: Store, home: Path, recorded: int) -> None:
    plain = store.begin_session("alice", store.workspace("als/alice").id, "sftp", "192.0.2.7", "p", time.time())
    listed = ready("session", "list", "--recorded").out.splitlines()
    assert listed[0].split()[-2:] == ["SIZE", "LENGTH"]
    assert [line.split()[0] for line in listed[1:]] == [str(recorded)]
    assert listed[1].endswith("1.0 MiB  1 min 23 s")
    replayed = ready("session", "replay", str(recorded), "--speed", "1000")
    assert replayed.out == f"hello\r\n\x1b[0m\r\n[1.0 MiB left out]\r\n{playing.RESTORE}"
    watched = ready("session", "watch", str(recorded))
    assert watched.out == replayed.out
    target = home.parent / "out.cast"
    assert ready("session", "export", str(recorded), "-o", str(target)).status == 0
    assert target.read_bytes().endswith(LINES)
    again = ready("session", "export", str(recorded), "-o", str(target))
    assert (again.status, "cannot be written" in again.err) == (1, True)
    kinds = [event.kind for event in reversed(store.events()) if event.kind.startswith("session.")]
    assert kinds == ["session.replayed", "session.watched", "session.exported", "session.exported"]
    for command in ("replay", "watch", "export"):
        refused = ready("session", command, str(plain))
        assert (refused.status, refused.err) == (1, f"workspaces: Session {plain} was not recorded.\n")
        assert ready("session", command, "99").status == 1
    (home / "recordings/a.cast").unlink()
    assert "not kept any more" in ready("session", "replay", str(recorded)).err


def test_announcing(ready: Run, store: Store) -> None:
    assert ready("announcement", "list").err == "Nothing is announced.\n"
    done = ready("announcement", "add", "-m", "down at\n\u202esix", "--severity", "urgent", "--challenge", "als")
    assert (done.status, done.out) == (0, "Announcement 1 is there. End it with: workspaces announcement end 1\n")
    assert ready("announcement", "add", "-m", "later", "--from", "2099-05-01", "--until", "2099-05-02").status == 0
    listed = ready("announcement", "list").out.splitlines()
    assert listed[1].split()[:4] == ["2", "info", "all", "2099-05-01"]
    assert listed[2].endswith("down at \\u202esix")
    assert [a.text for a in store.announcements_for("alice")] == ["down at\n\u202esix"]
    assert ready("announcement", "end", "1").out == "Announcement 1 has ended.\n"
    assert ready("announcement", "end", "1").status == 1
    assert len(ready("announcement", "list", "--all").out.splitlines()) == 3
    assert ready("announcement", "add", "-m", "x", "--challenge", "none").status == 1
    assert ready("announcement", "add", "-m", " ").err == "workspaces: The announcement is empty.\n"


def test_a_message_to_workspaces(ready: Run, store: Store) -> None:
    nobody = ready("message", "als/alice", "-m", "hello")
    assert (nobody.status, nobody.out) == (0, "als/alice: nobody has a terminal open\n")
    store.begin_session("alice", store.workspace("als/alice").id, "shell", "::1", "p", time.time())
    done = ready("message", "als/alice", "als/none", "-m", "hello")
    assert (done.status, done.out) == (1, "als/alice: told alice\n")
    assert done.err == "als/none: There is no workspace 'als/none'.\n"
    assert [notice.text for notice in store.notices(0)] == ["Message from the organisers: hello"]
