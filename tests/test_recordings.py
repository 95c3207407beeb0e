"""Recordings in the store and on the disk: their rows, who looked, how long and how many of them are kept."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.stores import empty, path, store
from tests.support.web import make_settings
from workspaces import casts, recordings
from workspaces.cli.playing import RESTORE, Filter, follow, play
from workspaces.errors import NotFound
from workspaces.recordings import Keeper, Played
from workspaces.settings import Settings
from workspaces.store import Store, sessions
from workspaces.store import recordings as rows

LINE = casts.line(1.5, "o", "hello\r\n")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = make_settings(tmp_path)
    made.recordings.mkdir()
    return made


def record(
    store: Store, settings: Settings, name: str, *, user: str = "alice", size: int = 0, ended: float | None = None
) -> int:
    """A session of `user` with a recording that ended so many seconds ago (None: goes on), `size` bytes long."""
    space = store.workspace(f"als/{user}").id
    number = store.begin_session(user, space, "shell", "192.0.2.7", "p", time.time() - (ended or 0) - 10)
    store.begin_recording(number, name, time.time() - (ended or 0) - 10)
    data = casts.header(80, 24, 0.0, "xterm", "t") + LINE
    (settings.recordings / name).write_bytes(data)
    if ended is not None:
        at = time.time() - ended
        store.end_session(number, at)
        store.end_recording(number, size or len(data), 1.5, 0)
        store._db().execute("UPDATE recordings SET ended_at = ? WHERE session_id = ?", [at, number])
    return number


def test_a_recording_from_begin_to_end(store: Store) -> None:
    number = store.begin_session("alice", store.workspace("als/alice").id, "shell", "::1", "p", 1000.0)
    with pytest.raises(NotFound, match=f"Session {number} was not recorded"):
        store.recording(number)
    with pytest.raises(NotFound, match="no session 99"):
        store.recording(99)
    store.begin_recording(number, "a.cast", 1000.0)
    assert store.recording(number).ended_at is None
    store.end_recording(number, 10, 2.5, 3)
    store.end_recording(number, 99, 9.9, 9)
    found = store.recording(number)
    assert (found.file, found.size, found.seconds, found.left_out) == ("a.cast", 10, 2.5, 3)
    other = store.begin_session("alice", store.workspace("als/alice").id, "shell", "::1", "p", 1001.0)
    assert set(store.recordings_of([number, other])) == {number}
    assert [s.id for s in store.sessions(recorded=True)] == [number]
    store.end_session(number, 1002.0)
    assert [s.id for s in store.sessions(ended=True, recorded=True)] == [number]
    store.forget_recordings([number])
    assert store.sessions(ended=True, recorded=True) == []
    with pytest.raises(NotFound, match="not kept any more"):
        store.recorded_file(number)


def test_many_sessions_do_not_push_a_recording_out_of_the_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "KEPT", 1)
    monkeypatch.setattr(sessions, "TIDY_EVERY", 1)
    space = store.workspace("als/alice").id

    def one(at: float) -> int:
        number = store.begin_session("alice", space, "shell", "::1", "p", at)
        store.end_session(number, at + 0.5)
        return number

    recorded = one(1.0)
    store.begin_recording(recorded, "a.cast", 1.0)
    for at in range(2, 6):
        one(float(at))
    assert recorded in {s.id for s in store.sessions(ended=True)}
    store.note_look(recorded, "replay", actor="chief")
    store.forget_recordings([recorded])
    one(9.0)
    assert recorded not in {s.id for s in store.sessions(ended=True)}
    assert store.looks([recorded]) == {}
    assert [event.actor for event in store.events(kind="session.replayed")] == ["chief"]


def test_who_looks_is_in_the_record_once_for_each_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    number = store.begin_session("alice", store.workspace("als/alice").id, "shell", "::1", "p", 1000.0)
    clock = [5000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for seconds in (0.0, 1.0, 40.0, 300.0):
        clock[0] += seconds
        store.note_look(number, "watch", actor="chief")
    (look,) = store.looks([number])[number]
    assert (look.actor, look.how, look.at, look.last_at) == ("chief", "watch", 5000.0, 5341.0)
    store.note_look(number, "watch", actor="deputy")
    store.note_look(number, "replay", actor="chief")
    clock[0] += rows.LOOK_SECONDS
    store.note_look(number, "watch", actor="chief")
    for _ in range(2):
        store.note_look(number, "export", actor="chief")
    seen = [event for event in reversed(store.events()) if event.kind.startswith("session.")]
    assert [(event.actor, event.kind, event.workspace, event.data["user"]) for event in seen] == [
        ("chief", "session.watched", "als/alice", "alice"),
        ("deputy", "session.watched", "als/alice", "alice"),
        ("chief", "session.replayed", "als/alice", "alice"),
        ("chief", "session.watched", "als/alice", "alice"),
        ("chief", "session.exported", "als/alice", "alice"),
        ("chief", "session.exported", "als/alice", "alice"),
    ]
    with pytest.raises(NotFound):
        store.note_look(99, "watch", actor="chief")


# --- what is kept ---


def test_old_ones_go_and_leave_their_row(store: Store, settings: Settings) -> None:
    old = record(store, settings, "old.cast", ended=31 * 86400)
    young = record(store, settings, "young.cast", ended=29 * 86400)
    live = record(store, settings, "live.cast")
    assert Keeper(store, settings).step() == [old]
    assert sorted(path.name for path in settings.recordings.iterdir()) == ["live.cast", "young.cast"]
    assert store.recording(old).removed_at is not None
    assert Keeper(store, replace(settings, recording_days=0)).step() == []
    assert {s.id for s in store.sessions(ended=True, recorded=True)} == {young, live}


def test_of_too_many_who_has_most_loses_the_oldest(store: Store, settings: Settings) -> None:
    mine = [record(store, settings, f"a{n}.cast", size=100_000, ended=1000 - n) for n in range(5)]
    hers = record(store, settings, "b.cast", user="bob", size=150_000, ended=5000)
    assert Keeper(store, replace(settings, recording_total=460_000)).step() == mine[:2]
    assert store.recording(hers).removed_at is None
    assert Keeper(store, replace(settings, recording_total=1)).step() != []
    assert store.sessions(ended=True, recorded=True) == []


def test_one_whose_gateway_was_killed_is_measured(store: Store, settings: Settings) -> None:
    number = record(store, settings, "a.cast")
    with (settings.recordings / "a.cast").open("ab") as file:
        file.write(b'[2.000, "o", "torn')
    gone = record(store, settings, "gone.cast")
    (settings.recordings / "gone.cast").unlink()
    Keeper(store, settings).step()
    assert store.recording(number).ended_at is None
    for session in (number, gone):
        store.end_session(session, time.time() - 60)
    Keeper(store, settings).step()
    found = store.recording(number)
    assert (found.seconds, found.ended_at is not None) == (1.5, True)
    assert found.size == (settings.recordings / "a.cast").stat().st_size - len(b'[2.000, "o", "torn')
    assert store.recording(gone).size == 0


def test_files_that_nothing_names_go_after_a_day(store: Store, settings: Settings) -> None:
    for name, age in (("new.cast", 100.0), ("old.cast", 90_000.0)):
        (settings.recordings / name).touch()
        os.utime(settings.recordings / name, (time.time() - age,) * 2)
    Keeper(store, settings).step()
    assert [path.name for path in settings.recordings.iterdir()] == ["new.cast"]


def test_a_part_of_one_that_is_written(store: Store, settings: Settings) -> None:
    number = record(store, settings, "a.cast")
    path = settings.recordings / "a.cast"
    first = recordings.part(store, settings.recordings, number, 0)
    assert first == Played(path.read_bytes(), path.stat().st_size, live=True)
    assert recordings.part(store, settings.recordings, number, first.next) == Played(b"", first.next, live=True)
    assert recordings.part(store, settings.recordings, number, 10**30).data == b""
    store.end_session(number, time.time())
    assert recordings.part(store, settings.recordings, number, first.next).live is True, "its last words may come yet"
    store.end_recording(number, path.stat().st_size, 1.5, 0)
    assert recordings.part(store, settings.recordings, number, first.next).live is False
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="cannot be read"):
        recordings.part(store, settings.recordings, number, 0)


def test_nobody_waits_for_a_gateway_that_was_killed(store: Store, settings: Settings) -> None:
    number = record(store, settings, "a.cast")
    store.end_session(number, time.time() - recordings.LAST_SECONDS - 1)
    assert recordings.is_written(store, number)
    assert store.recording(number).ended_at is None


# --- on the reader's terminal ---


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("plain \x1b[1;31mred\x1b[0m café\r\n\ttab\b", "plain \x1b[1;31mred\x1b[0m café\r\n\ttab\b"),
        ("a\x1b[2J\x1b[10;20H\x1b[?25l\x1b[?1049h\x1b7\x1b8b", "a\x1b[2J\x1b[10;20H\x1b[?25l\x1b[?1049h\x1b7\x1b8b"),
        ("a\x1b[c\x1b[>c\x1b[6n\x1b[?6n\x1b[18t\x1bZ\x05\x1b[?1$pb", "ab"),  # what makes a terminal answer
        ("a\x1b[?1000h\x1b[?1003;1006h\x1b[?2004h\x1b[>4;2m\x1b[>1u\x1b[ qb", "ab"),  # what makes it send
        ("a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c\x1bP+q544e\x1b\\d\x1b_x\x1b\\e", "abcde"),
        ("a\x1b]8;;http://x\x07link\x1b]8;;\x07\x9b6n\x90q\x9c", "alink6nq"),
        ("a\x1b]never ended \x18b\x1b]0;\x1b[1mc", "ab\x1b[1mc"),
        ("a\x1b[" + "1;" * 300 + "mb", None),
        ("\x1b[3\n1mx\x1b(0y\x1b(B\x07\x00\x7f", "\n\x1b[31mx\x1b(0y\x1b(B"),
    ],
)
def test_a_hostile_recording_on_a_terminal(sent: str, shown: str | None) -> None:
    whole, piecewise = Filter(), Filter()
    found = whole(sent)
    assert found == shown or (shown is None and "\x1b" not in found)
    assert "".join(piecewise(char) for char in sent) == found


def test_replaying_keeps_time_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("workspaces.cli.playing.time.sleep", slept.append)
    said = [
        casts.CastEvent(1.0, "o", "a"),
        casts.CastEvent(61.0, "o", "b"),
        casts.CastEvent(61.0, "m", casts.gap(2 << 20)),
        casts.CastEvent(60.0, "r", "90x30"),
    ]
    play(said, (500, 200), speed=2.0, idle=4.0)
    out, err = capsys.readouterr()
    assert slept == [0.5, 2.0, 0.0, 0.0]
    assert out == f"ab\x1b[0m\r\n[2.0 MiB left out]\r\n{RESTORE}"
    assert "It was 500 × 200 characters" in err


def test_watching_shows_what_comes_until_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    parts = iter([Played(LINE, 10, live=True), Played(b"junk\n" + LINE, 20, live=False)])
    asked: list[int] = []

    def more(start: int) -> Played:
        asked.append(start)
        return next(parts)

    follow(more)
    assert asked == [0, 10]
    assert capsys.readouterr().out == f"hello\r\nhello\r\n{RESTORE}"


def test_what_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"
    path.write_bytes(b'[1, "o"]\nnull\n{"version": 2}\n[1, "i", "typed"]\n[-1, "o", "x"]\n[1e999, "o", "x"]\n\xff\n')
    assert list(casts.events(path)) == []
    assert casts.first_size(path) == (80, 24)
    assert casts.measure(path) == (path.stat().st_size, 0.0)
    path.write_bytes(b"x" * (3 << 20))
    assert casts.read(path, 0) == (b"", casts.READ_MAX)
    with pytest.raises(NotFound):
        casts.read(tmp_path / "b.cast", 0)
