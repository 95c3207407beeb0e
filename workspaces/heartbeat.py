"""The worker's sign of life: the time of its lock file, set anew every few seconds, read by whoever wants to know.

A file and not a row: a write to the store makes every open page look whether something is new.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

LOCK = "worker.lock"
ENGINE = "engine.answered"  # its time is when the worker last had an answer from the engine
BEAT_SECONDS = 5.0
LATE_SECONDS = 30.0  # without a beat; a store that is busy holds one up for some seconds


def beat(locks: Path) -> None:
    """Show life in the directory of locks. A disk that is full does not keep the worker from its work."""
    with suppress(OSError):
        os.utime(locks / LOCK)


def engine_answered(locks: Path) -> None:
    """Show that the engine answers."""
    with suppress(OSError):
        (locks / ENGINE).touch()


def engine_answers(locks: Path) -> bool | None:
    """Whether the engine answered the worker just now; None when nobody can tell, as no worker lives."""
    if trouble(locks) is not None:
        return None
    try:
        return time.time() - (locks / ENGINE).stat().st_mtime <= LATE_SECONDS
    except OSError:
        return None


def age(locks: Path) -> float | None:
    """Seconds since the last beat; None when no worker ever was here."""
    try:
        return max(0.0, time.time() - (locks / LOCK).stat().st_mtime)
    except OSError:
        return None


def trouble(locks: Path) -> str | None:
    """What is wrong with the worker in a sentence, None when it lives."""
    try:
        with (locks / LOCK).open("rb") as file:
            beaten = os.fstat(file.fileno()).st_mtime
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                late = time.time() - beaten
                return f"The worker has shown no life for {late:.0f} s." if late > LATE_SECONDS else None
    except OSError:
        pass
    return "No worker runs, so nothing is committed, archived, started or stopped."
