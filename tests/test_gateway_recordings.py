"""Recordings of terminals: what is in them, who is told, and that nothing about them holds up or ends a session."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sshgate import recorder, tape
from sshgate.recorder import Bounds, Recorder
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal
from workspaces import casts, messages
from workspaces.casts import CastEvent
from workspaces.model import Recorded, Session, Severity


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        made.store.set_challenge("als", record=Recorded.TERMINALS, actor="chief")
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


def last(stage: GatewayStage) -> Session:
    """The latest session, once all about it is written down."""

    def done() -> bool:
        latest = stage.store.sessions(ended=True, limit=1)[0]
        found = stage.store.recordings_of([latest.id]).get(latest.id)
        return latest.ended_at is not None and (found is None or found.ended_at is not None)

    until(lambda: stage.gateway.gate.empty)
    stage.gateway.gate.records._pool.submit(lambda: None).result(10)
    until(done)
    return stage.store.sessions(ended=True, limit=1)[0]


def file_of(stage: GatewayStage, session: Session) -> Path:
    return stage.home / "recordings" / stage.store.recorded_file(session.id)


def text_of(path: Path) -> str:
    return "".join(event.data for event in casts.events(path) if event.kind == "o")


def test_a_terminal_is_recorded_and_the_person_reads_so_first(stage: GatewayStage, alice: Person) -> None:
    with Terminal(alice.line("-tt"), columns=100, rows=30) as terminal:
        seen = terminal.expect(rb"[#$] $")
        assert seen.index(b"This terminal is recorded") < seen.index(b"als/alice")
        terminal.send("printf 'caf\\303\\251 \\377\\n'; stty -echo\n")
        terminal.expect("café".encode())
        terminal.expect(rb"[#$] $")
        terminal.send("read secret\n")
        terminal.send("hunter2\n")
        terminal.expect(rb"[#$] $")
        terminal.resize(columns=120, rows=40)
        terminal.send("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.02; done; stty echo; echo $((40 + 2))\n")
        terminal.expect(rb"42\r\n")
        terminal.send("exit 7\n")
        assert terminal.wait() == 7
    session = last(stage)
    path = file_of(stage, session)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    head = json.loads(path.read_bytes().splitlines()[0])
    assert (head["version"], head["width"], head["height"]) == (2, 100, 30)
    assert head["title"] == "alice in als/alice"
    shown = text_of(path)
    assert shown.startswith("This terminal is recorded")
    assert "café �" in shown  # bytes that are no text
    assert "42\r\n" in shown
    assert "hunter2" not in shown
    assert [event.data for event in casts.events(path) if event.kind == "r"] == ["120x40"]
    times = [event.at for event in casts.events(path)]
    assert times == sorted(times)
    found = stage.store.recording(session.id)
    assert (found.size, found.left_out) == (path.stat().st_size, 0)
    assert found.seconds == times[-1]


def test_what_is_no_terminal_is_not_recorded(stage: GatewayStage, alice: Person) -> None:
    done = alice.run("echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert stage.store.recordings_of([last(stage).id]) == {}
    with Terminal(alice.line("-tt"), "echo with a terminal") as terminal:
        assert b"This terminal is recorded" in terminal.expect(b"with a terminal")
        terminal.wait()
    assert "with a terminal\r\n" in text_of(file_of(stage, last(stage)))


def test_challenges_are_not_recorded_unless_they_say_so(stage: GatewayStage, alice: Person) -> None:
    stage.store.set_challenge("als", record=Recorded.NONE, actor="chief")
    try:
        with Terminal(alice.line("-tt"), "echo plain") as terminal:
            assert b"recorded" not in terminal.expect(b"plain")
            terminal.wait()
        assert stage.store.recordings_of([last(stage).id]) == {}
    finally:
        stage.store.set_challenge("als", record=Recorded.TERMINALS, actor="chief")


def test_a_session_that_came_to_nothing_leaves_no_file(stage: GatewayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    person = stage.person("nobody")
    before = set((stage.home / "recordings").glob("*"))

    def broken(*_: object) -> Any:
        raise OSError("anything")

    monkeypatch.setattr(stage.gateway.gate.starter, "ensure", broken)
    with Terminal(person.line("-tt")) as terminal:
        assert terminal.wait() == 254
    until(lambda: not stage.gateway.gate.recorder._files)  # type: ignore[union-attr]
    assert set((stage.home / "recordings").glob("*")) == before


def test_a_flood_arrives_whole_and_its_recording_is_bounded_and_says_so(stage: GatewayStage, alice: Person) -> None:
    with Terminal(alice.line("-tt"), "stty raw; head -c 60000000 /dev/zero | tr '\\0' x; echo; echo over") as terminal:
        count = 0
        while b"over" not in terminal.seen:
            assert terminal._more(20)
            count += terminal.seen.count(b"x")
            terminal.seen = terminal.seen[-8:].replace(b"x", b"")
        assert count == 60_000_000
        terminal.wait()
    session = last(stage)
    found, path = stage.store.recording(session.id), file_of(stage, session)
    shown = text_of(path).count("x")
    assert found.left_out + shown >= 60_000_000
    assert found.size == path.stat().st_size < tape.BURST + 20 * tape.RATE
    assert sum(casts.gap_size(event) or 0 for event in casts.events(path)) == found.left_out > 0


# --- the recorder by itself ---


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path / "recordings", Bounds(session=1 << 20, reserve=0))
    yield made
    made.close()


def ended(made: tape.Tape) -> tuple[int, float, int]:
    """Close a tape and wait until it is written: size, seconds, left out."""
    over = threading.Event()
    told: list[tuple[int, float, int]] = []

    def done(*what: Any) -> None:
        told.append(what)
        over.set()

    made.close(done)
    assert over.wait(10)
    return told[0]


def events(writer: Recorder, made: tape.Tape) -> list[CastEvent]:
    return list(casts.events(writer.directory / made.name))


def test_characters_cut_by_the_pipe_are_whole_in_the_recording(writer: Recorder) -> None:
    made = writer.begin(80, 24, "xterm", "t")
    for byte in 'a€😀\u2028"\\\x1b[0m'.encode():
        made.output(bytes([byte]))
    ended(made)
    assert "".join(event.data for event in events(writer, made)) == 'a€😀\u2028"\\\x1b[0m'


def test_impossible_sizes_and_hostile_titles(writer: Recorder) -> None:
    made = writer.begin(0, 2**31, "x\x1b", 'a"\n\x1b]0;')
    made.resize(65535, 0)
    ended(made)
    head = json.loads((writer.directory / made.name).read_bytes().splitlines()[0])
    assert (head["width"], head["height"], head["title"]) == (80, 1000, 'a"\n\x1b]0;')
    assert [(e.kind, e.data) for e in events(writer, made)] == [("r", "1000x24")]


def test_one_recording_is_bounded(writer: Recorder) -> None:
    made = writer.begin(80, 24, "xterm", "t")
    for _ in range(40):
        made.output(b"\x00" * 10_000)  # six bytes each in JSON
    made.resize(90, 30)
    size, _, left_out = ended(made)
    assert size == (writer.directory / made.name).stat().st_size <= 1 << 20
    shown = sum(len(event.data) for event in events(writer, made) if event.kind == "o")
    assert shown + left_out == 400_000
    assert left_out > 0
    assert casts.gap_size(events(writer, made)[-1]) == left_out


def test_a_slow_disk_costs_bounded_memory_and_no_time(writer: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "BURST", 1 << 30)
    monkeypatch.setattr(tape, "WAITING_MAX", 100_000)
    stuck, go = threading.Event(), threading.Event()
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        stuck.set()
        assert go.wait(20)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    made = writer.begin(80, 24, "xterm", "t")
    assert stuck.wait(10)
    began = time.monotonic()
    for _ in range(2000):
        made.output(b"y" * 1000)
    assert time.monotonic() - began < 10
    assert made._put - made.taken <= 100_000
    go.set()
    _, _, left_out = ended(made)
    found = events(writer, made)
    kept = 100_000 // (1000 + tape.ENTRY) * 1000
    assert left_out == sum(casts.gap_size(event) or 0 for event in found) == 2_000_000 - kept
    assert sum(event.data.count("y") for event in found if event.kind == "o") == kept


def test_a_full_disk_leaves_whole_lines_and_a_mark_and_it_goes_on(
    writer: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "AGAIN_SECONDS", 0.05)
    full = threading.Event()
    tried = threading.Event()
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if not full.is_set():
            return write(fd, data)
        tried.set()
        if len(data) > 20:
            return write(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    made = writer.begin(80, 24, "xterm", "t")
    path = writer.directory / made.name
    made.output(b"before")
    until(lambda: path.exists() and b"before" in path.read_bytes())
    whole = path.read_bytes()
    full.set()
    made.output(b"lost")
    assert tried.wait(10)
    until(lambda: path.read_bytes() == whole)
    full.clear()
    time.sleep(0.06)
    made.output(b"after")
    size, _, left_out = ended(made)
    assert (size, left_out) == (path.stat().st_size, 4)
    assert [(e.kind, e.data) for e in events(writer, made)] == [
        ("o", "before"),
        ("m", "LEFT OUT 4 BYTES"),
        ("o", "\x18"),
        ("o", "after"),
    ]
    assert caplog.text.count("terminals are not recorded") == 1


def test_one_that_breaks_gives_back_what_it_held(writer: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would leave less for all others that wait for the disk, and a descriptor."""
    broken = writer.begin(80, 24, "xterm", "als/alice")
    broken.output(b"one")
    until(lambda: (writer.directory / broken.name).exists())
    fds = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(casts, "line", lambda *_: 1 / 0)
        broken.output(b"two")
        until(lambda: broken.ended)
    broken.output(b"three")
    until(lambda: writer._put == writer._taken)
    assert len(os.listdir("/proc/self/fd")) == fds - 1
    other = writer.begin(80, 24, "xterm", "als/bob")
    other.output(b"and on")
    ended(other)
    assert "and on" in text_of(writer.directory / other.name)


def test_a_directory_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = Recorder(tmp_path / "file" / "recordings", Bounds(reserve=0))
    made = writer.begin(80, 24, "xterm", "t")
    made.output(b"lost")
    assert ended(made) == (0, 0.0, 4)
    writer.close()


def test_others_keep_their_share_of_the_disk(tmp_path: Path) -> None:
    writer = Recorder(tmp_path, Bounds(reserve=1 << 62))
    made = writer.begin(80, 24, "xterm", "t")
    made.output(b"lost")
    assert ended(made)[2] == 4
    assert list(tmp_path.iterdir()) == []
    writer.close()


def test_what_waits_is_written_when_the_gateway_ends(tmp_path: Path) -> None:
    writer = Recorder(tmp_path, Bounds(reserve=0))
    made = writer.begin(80, 24, "xterm", "t")
    made.output(b"last words")
    writer.close()
    assert [event.data for event in events(writer, made)] == ["last words"]


def test_a_torn_last_line_is_no_line(writer: Recorder) -> None:
    made = writer.begin(80, 24, "xterm", "t")
    made.output(b"one")
    ended(made)
    path = writer.directory / made.name
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'[9.000, "o", "tor')
    assert [event.data for event in casts.events(path)] == ["one"]
    assert casts.measure(path)[0] == size
    data, following = casts.read(path, 0)
    assert (len(data), following) == (size, size)
    assert casts.read(path, size) == (b"", size)


# --- what the organisers have to say ---


def test_announcements_are_in_the_greeting_and_reach_open_terminals(stage: GatewayStage) -> None:
    person = stage.person("reader")
    store = stage.store
    long = store.add_announcement("word " * 150 + "\u202egnp", Severity.WARNING, actor="chief")
    with Terminal(person.line("-tt")) as terminal:
        seen = terminal.expect(rb"[#$] $").decode()
        shown = seen[seen.index("Warning: word") :].splitlines()
        assert "\u202e" not in seen
        assert [len(line) <= 80 for line in shown[:4]] == [True] * 4
        assert shown[3].endswith("… (more on your page)")
        until(lambda: [s.user for s in store.sessions()] == ["reader"])
        store.end_announcement(long.id, actor="chief")
        store.add_announcement("down at six", Severity.URGENT, challenge="als", actor="chief")
        terminal.expect(rb"\r\nURGENT: down at six\r\n")
        assert messages.send(store, ["als/reader"], "hello\nthere", actor="chief")[0].people == ("reader",)
        terminal.expect(rb"\r\nMessage from the organisers: hello there\r\n")
        terminal.send("exit\n")
        assert terminal.wait() == 0
    assert "URGENT: down at six" in text_of(file_of(stage, last(stage)))
