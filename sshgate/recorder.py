"""Writes the recordings of terminals. One thread does it for all of a gateway process: no disk holds up the loop.

    tapes with something new ──► every 0.1 s: lines of each, written as one ──► recordings/NAME, whole lines only
                                  └─ no room, or an error: cut back to the last whole line, counted, tried again later

A slow disk makes the queues of tape.py fill up, and they drop; a full one makes this thread drop. Either way a mark in
the recording tells how many bytes are missing, and the session goes on as if nothing were.
"""

from __future__ import annotations

import codecs
import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sshgate.tape import ENTRY, Tape
from workspaces import casts

log = logging.getLogger(__name__)

WAITING_ALL = 64 << 20  # bytes of all terminals of this process that wait for the disk
PIECE = 16 << 10  # bytes of output in one line
LINES = 128 << 10  # bytes of lines that are written before there are more
TOGETHER_SECONDS = 0.01  # within which pieces of output become one line
PAUSE_SECONDS = 0.1  # between two rounds of writing
AGAIN_SECONDS = 5.0  # between two looks at a disk that has no room
RESERVE = 512 << 20  # bytes of the disk that are left to the database and to others
CLOSE_SECONDS = 3.0  # for what waits to be written when the gateway ends
END = 256  # bytes of a recording that are kept for its last mark


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of one recording, and bytes that the disk must have free."""

    session: int = 64 << 20
    reserve: int = RESERVE


class Recorder:
    """`begin`, `wake` and `take` are called from the event loop and never block."""

    def __init__(self, directory: Path, bounds: Bounds = Bounds()) -> None:
        self.directory = directory
        self.bounds = bounds
        self._put = self._taken = 0  # the loop's and the thread's
        self._waiting: deque[Tape] = deque()
        self._files: dict[Tape, _File] = {}
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = -AGAIN_SECONDS
        self._has_room = False
        self._said = ""

    def begin(self, width: int, height: int, term: str, title: str) -> Tape:
        """Record a terminal."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()
        return Tape(self, width, height, term, title)

    def wake(self, tape: Tape) -> None:
        """There is something new on `tape`."""
        if not tape.queued:
            tape.queued = True
            self._waiting.append(tape)
            self._wake.set()

    def take(self, cost: int) -> bool:
        """Whether so many bytes more may wait; they count as waiting then."""
        if self._put - self._taken + cost > WAITING_ALL:
            return False
        self._put += cost
        return True

    def close(self) -> None:
        """Write what waits, as far as the disk takes it in time."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                tape = self._waiting.popleft()
                tape.queued = False
                try:
                    self._write(tape)
                except Exception:
                    log.exception("a recording ends early")
                    tape.closed = tape.ended = True
                    self._drop(tape)
            if self._ending.is_set():
                return
            self._ending.wait(PAUSE_SECONDS)

    def _drop(self, tape: Tape) -> None:
        """Give back what a tape holds that nothing more is written of."""
        while entry := tape.next():
            self._account(tape, entry)
        if file := self._files.pop(tape, None):
            file.abandon()

    def _account(self, tape: Tape, entry: tuple[float, str, bytes]) -> None:
        _at, kind, data = entry
        if kind != "m":
            tape.taken += len(data) + ENTRY
            self._taken += len(data) + ENTRY

    def _write(self, tape: Tape) -> None:
        if tape.ended:
            self._drop(tape)
            return
        over = tape.closed  # asked first: nothing is put on the tape after that
        if tape not in self._files:
            self._files[tape] = _File(self, tape)
        file = self._files[tape]
        begun, together = 0.0, list[bytes]()
        while entry := tape.next():
            self._account(tape, entry)
            at, kind, data = entry
            if together and (kind != "o" or at - begun > TOGETHER_SECONDS):
                file.output(begun, b"".join(together))
                together.clear()
            if kind == "o":
                begun = begun if together else at
                together.append(data)
            elif kind == "m":
                file.lose(int(data), at)
            else:
                file.add(at, kind, data.decode("ascii"))
        if together:
            file.output(begun, b"".join(together))
        file.flush()
        if over:
            tape.ended = True
            del self._files[tape]
            if tape.done is None:
                file.remove()
            else:
                tape.done(*file.close())

    def has_room(self) -> bool:
        """Whether the disk has space for recordings, by a look every few seconds."""
        if time.monotonic() - self._looked >= AGAIN_SECONDS:
            self._looked = time.monotonic()
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                disk = os.statvfs(self.directory)
                self._has_room = disk.f_bavail * disk.f_frsize > self.bounds.reserve
                self._complain("" if self._has_room else "there is too little space on the disk")
            except OSError as error:
                self.failed(error)
        return self._has_room

    def failed(self, error: OSError) -> None:
        """The disk did not take something: nothing is tried for a while."""
        self._looked, self._has_room = time.monotonic(), False
        self._complain(error.strerror or str(error))

    def _complain(self, what: str) -> None:
        if what and what != self._said:  # told once, not every five seconds
            log.error("terminals are not recorded in %s: %s", self.directory, what)
        self._said = what


class _File:
    """The file of one tape. `size` are the bytes of its whole lines."""

    def __init__(self, recorder: Recorder, tape: Tape) -> None:
        self._recorder = recorder
        self._path = recorder.directory / tape.name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fd = -1
        self._head = tape.head
        self._lines: list[bytes] = []
        self._pending = 0  # bytes in them
        self._holds = 0  # bytes of output in _lines
        self._lost = 0  # bytes that were left out since the last mark
        self._marked = 0  # …that marks in _lines tell of
        self._left_out = 0
        self._size = 0
        self._last = self._written = 0.0  # seconds
        self._full = False

    def output(self, at: float, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._holds += len(piece)
            if text := self._decoder.decode(piece):
                self.add(at, "o", text)
            if self._pending > LINES:
                self.flush()

    def add(self, at: float, kind: str, data: str) -> None:
        if self._lost and not self._full:
            self._lines += self._mark(at)
            self._decoder.reset()
        self._lines.append(casts.line(at, kind, data))
        self._pending += len(self._lines[-1])
        self._last = round(at, 3)

    def lose(self, count: int, at: float) -> None:
        """So many bytes are missing here."""
        self._left_out += count
        self._lost += count
        self._last = max(self._last, round(at, 3))

    def _mark(self, at: float) -> list[bytes]:
        lost, self._lost = self._lost, 0
        self._marked += lost
        # CAN ends a control sequence that lost its end, which would swallow what comes after the gap.
        return [casts.line(at, "m", casts.gap(lost)), casts.line(at, "o", "\x18")]

    def flush(self) -> None:
        """Write what was added, or count it as lost."""
        if not self._lines and self._fd >= 0:
            return
        lines, self._lines, self._pending = self._lines, [], 0
        (holds, marked), self._holds, self._marked = (self._holds, self._marked), 0, 0
        data = b"".join(lines)
        if self._size + len(data) > self._recorder.bounds.session - END:
            self._full = True
        if self._full or not self._recorder.has_room() or not self._put(data):
            self.lose(holds, self._last)
            self._lost += marked
        else:
            self._written = self._last

    def _put(self, data: bytes) -> bool:
        try:
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            if not self._size:
                data = self._head + data
            written = os.write(self._fd, data)
        except OSError as error:
            self._recorder.failed(error)
            return False
        if written < len(data):  # the disk is full by now: a line is there as a whole or not at all
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._recorder.failed(OSError(28, "No space left on device"))
            return False
        self._size += len(data)
        return True

    def close(self) -> tuple[int, float, int]:
        """Write the last mark; bytes and seconds of the file, and how many bytes are missing in all."""
        if self._lost and self._fd >= 0 and self._put(b"".join(self._mark(self._last)[:1])):
            self._written = self._last
        if self._fd >= 0:
            os.close(self._fd)
        return self._size, self._written, self._left_out

    def abandon(self) -> None:
        """Leave it as it is: the worker notes what it has come to."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with suppress(OSError):
                os.close(fd)

    def remove(self) -> None:
        """Leave nothing of it."""
        if self._fd >= 0:
            os.close(self._fd)
            with suppress(OSError):
                self._path.unlink()
