"""The files of recordings: finding one, and keeping them within their bounds.

    every minute: ended without a word ─► size and length from the file
                  older than `days` ─► removed      more than `total` in all ─► who has most loses the oldest, in turns
                  a file that no row names, for a day ─► removed

Who has most loses first, so that nobody gets rid of other people's recordings by making many of their own. What is
removed leaves its row: that there was a recording, and who looked at it, stays known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workspaces import casts
from workspaces.errors import WorkspacesError
from workspaces.model import Recording
from workspaces.rounds import go_on
from workspaces.settings import Settings
from workspaces.store import Store

log = logging.getLogger(__name__)

TIDY_SECONDS = 60.0
STRAY_SECONDS = 86400.0  # that a file without a row is kept: its row may not be written yet
LAST_SECONDS = 5.0  # after its session for the last of a recording, where its gateway does not say that it is written
BLOCK = 4096  # bytes of the disk that even a short recording takes


@dataclass(frozen=True, slots=True)
class Played:
    """A part of a recording: whole lines, where to go on, and whether more will come."""

    data: bytes
    next: int
    live: bool


def find(store: Store, directory: Path, session_id: int) -> Path:
    """Where the recording of a session is. NotFound when there is none, or none any more."""
    return directory / store.recorded_file(session_id)


def is_written(store: Store, session_id: int) -> bool:
    """Whether all that there will be of a recording is in its file: its session has ended, and its gateway said so.

    The row of a session that is killed ends before the session does. NotFound.
    """
    over = store.session(session_id).ended_at
    if over is None:
        return False
    return store.recording(session_id).ended_at is not None or time.time() - over > LAST_SECONDS


def part(store: Store, directory: Path, session_id: int, start: int) -> Played:
    """What a recording has from byte `start` on, as far as it is handed out at once. NotFound, Conflict."""
    live = not is_written(store, session_id)
    path = find(store, directory, session_id)
    if live and not path.exists():
        return Played(b"", 0, live=True)  # its gateway makes the file in a moment
    data, following = casts.read(path, start)
    return Played(data, following, live=live or bool(data))


class Keeper:
    """Keeps the recordings of one state directory within the bounds of its settings."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._directory = settings.recordings
        self._days = settings.recording_days
        self._total = settings.recording_total

    def run(self, stop: threading.Event) -> None:
        """Tidy every minute until `stop` is set."""
        go_on({"recordings cannot be tidied": self.step}, stop, TIDY_SECONDS)

    def step(self) -> list[int]:
        """Tidy once; the sessions whose recordings are gone. Raises StoreError, OSError."""
        if not self._directory.exists():
            return []
        for recording in self._store.unfinished_recordings():
            self._finish(recording)
        kept = self._store.kept_recordings()
        gone = list(self._surplus([(one, user, self._size(one)) for one, user in kept]))
        for recording in gone:
            with suppress(FileNotFoundError):
                (self._directory / recording.file).unlink()
        numbers = [recording.session_id for recording in gone]
        if numbers:
            self._store.forget_recordings(numbers)
            log.info("%d recordings are removed: too old, or too many", len(numbers))
        self._sweep({recording.file for recording, _ in kept})
        return numbers

    def _finish(self, recording: Recording) -> None:
        """Note what a recording has come to whose gateway was killed."""
        try:
            size, seconds = casts.measure(self._directory / recording.file)
        except WorkspacesError:
            size, seconds = 0, 0.0
        self._store.end_recording(recording.session_id, size, seconds, 0)

    def _size(self, recording: Recording) -> int:
        try:
            size = recording.size or (self._directory / recording.file).stat().st_size
        except FileNotFoundError:
            size = 0
        return -(-max(size, 1) // BLOCK) * BLOCK

    def _surplus(self, kept: list[tuple[Recording, str, int]]) -> Iterator[Recording]:
        """Those that have to go. `kept`: the oldest first, with owner and size. One that is written stays."""
        oldest = time.time() - self._days * 86400 if self._days else 0.0
        of_user: dict[str, deque[tuple[Recording, int]]] = defaultdict(deque)
        held: dict[str, int] = defaultdict(int)
        for recording, user, size in kept:
            if recording.ended_at is not None and recording.ended_at < oldest:
                yield recording
                continue
            held[user] += size
            if recording.ended_at is not None:
                of_user[user].append((recording, size))
        total = sum(held.values())
        while total > self._total and of_user:
            most = max(of_user, key=lambda user: held[user])
            recording, size = of_user[most].popleft()
            held[most] -= size
            total -= size
            if not of_user[most]:
                del of_user[most]
            yield recording

    def _sweep(self, named: set[str]) -> None:
        """Files of sessions that never came to a row, or whose rows went."""
        for path in self._directory.glob("*.cast"):
            if path.name not in named and time.time() - path.lstat().st_mtime > STRAY_SECONDS:
                path.unlink(missing_ok=True)
