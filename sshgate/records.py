"""What the gateway writes down after the fact: logins, and sessions from begin to end. Nobody waits for it.

    session ──► begin, end ─┐
    login   ──► add ────────┴─► queue ──► one thread: all that waits ──► one transaction ──► store

The rows of sessions name this process, by a word that no other start has. A session whose row somebody else has ended
is to be hung up; a row that is open although its session is gone, because its end could not be written, is ended.
While a process lives it holds a lock that is named by its word, so the next gateway ends only what nobody carries.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workspaces.errors import WorkspacesError
from workspaces.store import Store

log = logging.getLogger(__name__)

BATCH = 256  # writes in one transaction
_PREFIX = "gateway-"


class Record:
    """One session as it is written down. `id` is that of its row, once there is one; it is the thread's business.

    `recording` is the name of its file, and when that began.
    """

    def __init__(
        self, user: str, workspace_id: int, kind: str, address: str, recording: tuple[str, float] | None = None
    ) -> None:
        self.user = user
        self.workspace_id = workspace_id
        self.kind = kind
        self.address = address
        self.recording = recording
        self.started_at = time.time()
        self.id: int | None = None
        self.ended = False


def _nothing() -> None:
    """What most writes need before and after."""


@dataclass(frozen=True, slots=True)
class _Write:
    """`write` in a transaction, then `done` once that is on disk, or `undo` when it is not."""

    write: Callable[[], None]
    done: Callable[[], None] = _nothing
    undo: Callable[[], None] = _nothing


class Records:
    """The queue and its thread. `add`, `begin` and `end` are called from the event loop: they only queue."""

    def __init__(self, store: Store) -> None:
        self.process = secrets.token_hex(8)
        self._store = store
        self._pool = ThreadPoolExecutor(1, "record")
        self._waiting: deque[_Write] = deque()
        self._open: set[Record] = set()  # the thread's: those whose rows are open, as far as it knows

    def add(self, write: Callable[[], None]) -> None:
        """Have `write` done, together with what else waits."""
        self._queue(_Write(write))

    def begin(self, record: Record) -> None:
        def write() -> None:
            self._store.touch_login(record.workspace_id)
            record.id = self._store.begin_session(
                record.user, record.workspace_id, record.kind, record.address, self.process, record.started_at
            )
            if record.recording is not None:
                self._store.begin_recording(record.id, *record.recording)

        def done() -> None:
            if not record.ended:
                self._open.add(record)

        def undo() -> None:
            record.id = None  # the number may become another row's

        self._queue(_Write(write, done, undo))

    def end(self, record: Record) -> None:
        ended_at = time.time()

        def write() -> None:
            record.ended = True
            self._open.discard(record)
            if record.id is not None:
                self._store.end_session(record.id, ended_at)

        self._queue(_Write(write))

    def killed(self) -> list[Record]:
        """Sessions whose rows somebody else has ended. Blocks on the store; raises StoreError."""
        return self._pool.submit(self._compare).result()

    def close(self) -> None:
        """Write what waits, and end."""
        self._pool.shutdown(wait=True)

    def _queue(self, write: _Write) -> None:
        self._waiting.append(write)
        with suppress(RuntimeError):  # shutting down
            self._pool.submit(self._flush)

    def _flush(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        if not batch:
            return  # it went with an earlier one
        try:
            self._together(batch)
        except Exception:
            for one in batch:  # that at fault must not take the others with it
                self._alone(one)

    def _alone(self, one: _Write) -> None:
        try:
            self._together([one])
        except WorkspacesError as error:
            log.error("not recorded: %s", error.message)
        except Exception:
            log.exception("not recorded")

    def _together(self, batch: Sequence[_Write]) -> None:
        try:
            with self._store.transaction():
                for one in batch:
                    one.write()
        except BaseException:
            for one in batch:
                one.undo()
            raise
        for one in batch:
            one.done()

    def _compare(self) -> list[Record]:
        rows = self._store.open_session_ids(self.process)
        for stale in rows - {record.id for record in self._open}:
            self._store.end_session(stale, time.time())
        killed = [record for record in self._open if record.id not in rows]
        self._open.difference_update(killed)
        return killed


def show_alive(locks: Path, process: str) -> None:
    """Let others see that this process, by its word, is alive: until it ends, it holds a lock in directory `locks`."""
    path = _lock(locks, process)
    draft = path.with_suffix(".new")  # whoever finds the file finds it locked
    try:
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(path)
    except OSError as error:
        log.error("%s cannot be locked, so another gateway may end these sessions: %s", path, error.strerror)


def end_sessions_of(store: Store, locks: Path, process: str) -> None:
    """End the sessions of a gateway process that is gone, by its word (`Records.process`). Blocks on the store."""
    with suppress(OSError):
        _lock(locks, process).unlink()
    try:
        count = store.end_sessions_of(process)
    except WorkspacesError as error:
        log.error("sessions of a gateway that is gone stay open in the record: %s", error.message)
    else:
        if count:
            log.info("%d sessions of a gateway that is gone are ended", count)


def end_sessions(store: Store, locks: Path) -> None:
    """The same for all that are gone. Another gateway may live: one that drains, while this one starts already."""
    try:
        left = {session.process for session in store.sessions(limit=sys.maxsize)}
    except WorkspacesError as error:
        log.error("sessions of a gateway that is gone stay open in the record: %s", error.message)
        return
    left.update(path.stem.removeprefix(_PREFIX) for path in locks.glob(f"{_PREFIX}*.lock"))
    for process in left:
        if not _lives(locks, process):
            end_sessions_of(store, locks, process)


def _lives(locks: Path, process: str) -> bool:
    try:
        with _lock(locks, process).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            log.error("whether gateway process %s is alive cannot be told: %s", process, error.strerror)
        return True
    return False


def _lock(locks: Path, process: str) -> Path:
    return locks / f"{_PREFIX}{process}.lock"
