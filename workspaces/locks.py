"""Locks that hold across threads and processes: one for each workspace.

    take ─► the thread lock of this process ─► flock on a file in the state directory ─► held

The thread lock comes first, so that threads of one process wake one another at once; only other processes poll. A
killed process holds nothing: the kernel lets go of its file locks. The files stay, since removing one would let
two processes lock two different files of one name.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from workspaces.errors import HostError, NoSpace

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    lock: threading.RLock = field(default_factory=threading.RLock)
    depth: int = 0
    fd: int = -1


class Locks:
    """One lock for each number; thread-safe. Processes that share `directory` share the locks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[int, _Entry] = {}
        self._guard = threading.Lock()

    def take(self, number: int, wait: float) -> bool:
        """Whether it could be had within `wait` seconds. The same thread may have it several times over.

        Raises NoSpace or HostError when there can be none, in words that hide this host's paths.
        """
        deadline = time.monotonic() + wait
        with self._guard:
            entry = self._entries.setdefault(number, _Entry())
        if not entry.lock.acquire(timeout=wait):
            return False
        try:
            if entry.depth == 0:
                entry.fd = self._take_file(number, deadline)
            if entry.fd >= 0:
                entry.depth += 1
                return True
        except BaseException:
            entry.lock.release()
            raise
        entry.lock.release()
        return False

    def release(self, number: int) -> None:
        entry = self._entries[number]
        entry.depth -= 1
        if entry.depth == 0:
            os.close(entry.fd)
            entry.fd = -1
        entry.lock.release()

    def _take_file(self, number: int, deadline: float) -> int:
        """A descriptor that holds the lock, or -1. The kernel lets go of it when its process dies.

        Raises NoSpace or HostError, for a participant's eyes.
        """
        path = self._directory / f"workspace-{number}.lock"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _failure(path, exc) from exc
        pause = 0.005
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    return -1
            except OSError as exc:
                os.close(fd)
                raise _failure(path, exc) from exc
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def _failure(path: Path, exc: OSError) -> NoSpace | HostError:
    """What people read of it; the path is for the log."""
    log.error("%s cannot be locked: %s", path, exc.strerror)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("The host's disk is full.", "Tell an administrator.")
    return HostError("The host cannot lock the workspace.", "The log tells administrators why.")
