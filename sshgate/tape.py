"""One terminal's recording, as the session sees it: numbers are compared and a queue is appended to, nothing blocks.

    session ──► output, resize ──► queue ──► recorder.py's thread ──► file
                  └─ more than RATE for long, or too much waiting: counted instead, and a mark tells how much

A flood is recorded as far as somebody could have read of it; it costs the gateway no more than that.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from workspaces import casts

RATE = 512 << 10  # bytes a second of one terminal, for long
BURST = 4 << 20  # …and at once
WAITING_MAX = 8 << 20  # bytes of one terminal that wait for the disk
ENTRY = 128  # bytes that each entry of the queue counts for besides its own, as pieces may be single bytes

Done = Callable[[int, float, int], None]


class Recorder(Protocol):
    """Whoever writes tapes."""

    def wake(self, tape: Tape) -> None: ...

    def take(self, cost: int) -> bool: ...


class Tape:
    """For the event loop, but for `next`, `taken` and `ended`, which are the writing thread's.

    `name` is that of its file. Entries of the queue: seconds since it began, kind (`o`, `r`, or `m` for a gap), bytes.
    """

    def __init__(self, recorder: Recorder, width: int, height: int, term: str, title: str) -> None:
        self.began_at = time.time()
        moment = datetime.fromtimestamp(self.began_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        self.name = f"{moment}-{secrets.token_hex(8)}.cast"
        self.head = casts.header(width, height, self.began_at, term, title)
        self.queued = False  # for the thread's next round
        self.closed = False
        self.done: Done | None = None
        self.ended = False  # all that there will be is written
        self.taken = 0  # bytes that the thread has dealt with
        self._recorder = recorder
        self._waiting: deque[tuple[float, str, bytes]] = deque()
        self._put = 0
        self._start = self._refilled = time.monotonic()
        self._tokens = float(BURST)
        self._gap = 0  # bytes left out since the last that were not
        self._size = casts.clamp(width, 80), casts.clamp(height, 24)
        recorder.wake(self)

    def output(self, data: bytes) -> None:
        """What the person sees."""
        if not self._add("o", data):
            self._gap += len(data)

    def resize(self, width: int, height: int) -> None:
        """The terminal has another size; one that is recorded already is no news."""
        size = casts.clamp(width, 80), casts.clamp(height, 24)
        if size != self._size and self._add("r", b"%dx%d" % size):
            self._size = size

    def close(self, done: Done | None) -> None:
        """No more comes. The thread calls `done` with size, seconds and what was left out; None: keep nothing of it."""
        if not self.closed:
            self._mark()
            self.done = done
            self.closed = True
            self._recorder.wake(self)

    def next(self) -> tuple[float, str, bytes] | None:
        """The oldest entry that waits."""
        return self._waiting.popleft() if self._waiting else None

    def _add(self, kind: str, data: bytes) -> bool:
        now, cost = time.monotonic(), len(data) + ENTRY
        self._tokens = min(float(BURST), self._tokens + (now - self._refilled) * RATE)
        self._refilled = now
        if self.closed or cost > self._tokens or self._put - self.taken + cost > WAITING_MAX:
            return False
        if not self._recorder.take(cost):
            return False
        self._mark()
        self._tokens -= cost
        self._put += cost
        self._waiting.append((now - self._start, kind, data))
        self._recorder.wake(self)
        return True

    def _mark(self) -> None:
        if self._gap:
            self._waiting.append((time.monotonic() - self._start, "m", b"%d" % self._gap))
            self._gap = 0
