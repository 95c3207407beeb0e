"""Waiting for the agent's socket, from outside and without trust: the container may put anything in its place."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

SHORTEST, LONGEST = 0.002, 0.05  # seconds between two looks


def accepts(path: Path) -> bool:
    """Whether `path` is a socket, not a link to one, and its owner accepts a connection now. Never waits."""
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            # Nothing can be sent to it: a descriptor whose last holder is this process may take for ever to close.
            probe.shutdown(socket.SHUT_RD)
            probe.connect(f"/proc/self/fd/{handle}")
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def clear(directory: Path) -> None:
    """Delete what a container that is stopped left beside its socket, if its tmpfs is still there.

    That happens after a restart of the daemon only; a participant may have left no room for a new socket.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for entry in os.scandir(handle):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.name, dir_fd=handle)
                else:
                    os.unlink(entry.name, dir_fd=handle)
    finally:
        os.close(handle)


def wait(path: Path, seconds: float, alive: Callable[[], bool]) -> bool:
    """Wait until `path` accepts; False after `seconds`, or as soon as `alive` says that nobody will make it accept.

    `alive` may be slow: it is asked at most once in LONGEST seconds.
    """
    deadline = time.monotonic() + seconds
    pause = SHORTEST
    while not accepts(path):
        if time.monotonic() >= deadline:
            return False
        if pause >= LONGEST and not alive():
            return accepts(path)
        time.sleep(pause)
        pause = min(LONGEST, pause * 1.5)
    return True
