"""How often programs may ask: buckets for what each person's read and write, and for wrong tokens by address.

Kept in memory, for one process. What those of one person use up, however many tokens they have, leaves the others' and
the pages as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from workspaces.throttle import Buckets, Rate, network

READ = Rate(300, 0.1)  # of one person, with all tokens
WRITE = Rate(60, 0.5)
WRONG = Rate(30, 2)  # tokens that are none, from one address
STREAMS = 8  # at once, of one person
STREAMS_ALL = 200


class Limits:
    """Thread-safe. `clock` is in seconds and only ever grows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._read, self._write, self._wrong = Buckets(READ, clock), Buckets(WRITE, clock), Buckets(WRONG, clock)
        self._under_way: set[Hashable] = set()
        self._streams: dict[int, int] = {}

    def take(self, user_id: int, *, writes: bool) -> float:
        """Count one request. Returns 0 when it may be answered, else how many seconds to wait."""
        buckets = self._write if writes else self._read
        with self._lock:
            wait = buckets.wait(user_id)
            if wait <= 0:
                buckets.take(user_id)
            return wait

    def wrong(self, address: str) -> float:
        """A token from there was none. Returns 0, or how many seconds to wait when there were too many."""
        key = network(address)
        with self._lock:
            wait = self._wrong.wait(key)
            if wait <= 0:
                self._wrong.take(key)
            return wait

    def begin(self, what: Hashable) -> bool:
        """Whether `what` was not under way; it is now, until `end`."""
        with self._lock:
            if what in self._under_way:
                return False
            self._under_way.add(what)
            return True

    def end(self, what: Hashable) -> None:
        with self._lock:
            self._under_way.discard(what)

    def full(self, user_id: int) -> bool:
        """Whether there are as many streams as there may be, of that person or in all."""
        with self._lock:
            return self._streams.get(user_id, 0) >= STREAMS or sum(self._streams.values()) >= STREAMS_ALL

    @contextmanager
    def stream(self, user_id: int) -> Iterator[None]:
        """Count one for as long as it goes on."""
        self.open_stream(user_id)
        try:
            yield
        finally:
            self.close_stream(user_id)

    def open_stream(self, user_id: int) -> None:
        """Count one, until `close_stream`."""
        with self._lock:
            self._streams[user_id] = self._streams.get(user_id, 0) + 1

    def close_stream(self, user_id: int) -> None:
        with self._lock:
            left = self._streams.get(user_id, 1) - 1
            if left:
                self._streams[user_id] = left
            else:
                self._streams.pop(user_id, None)
