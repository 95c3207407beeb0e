"""What nobody has read of a session's input when the session is over.

    session ends ──► its stdin pipe, not empty ──► kept: the latest few of each workspace ──► emptied

The bytes in a pipe are the gateway's memory for as long as anybody holds its reading end, whatever the limits of the
container are: a thousand of `setsid sleep` with a full input would be a quarter of a gigabyte. A process that stays
behind may go on reading what it was given, so the pipes are not emptied at once but after some minutes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import struct
import termios
from contextlib import suppress
from dataclasses import dataclass

KEPT = 8  # pipes of one workspace, each of pump.PIPE_SIZE
LOOKS = (0.2, 6.0, 60.0, 600.0)  # seconds after which it is seen whether anybody reads still; the last one ends it


def reading_end(write_end: int) -> int | None:
    """Another reading end of a pipe, or None when it is empty or nobody reads it. `write_end` stays the caller's."""
    if _waiting(write_end) and _read(write_end):
        with suppress(OSError):
            return _open(write_end, os.O_RDONLY)
    return None


@dataclass(eq=False)
class _Pipe:
    fd: int
    timer: asyncio.TimerHandle | None = None


class Unread:
    """Reading ends of pipes of sessions that are over. On the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: dict[int, list[_Pipe]] = {}

    def add(self, workspace_id: int, fd: int) -> None:
        """Take over `fd`."""
        kept = self._kept.setdefault(workspace_id, [])
        pipe = _Pipe(fd)
        kept.append(pipe)
        self._later(workspace_id, pipe, LOOKS)
        if len(kept) > KEPT:
            _empty(kept[0].fd)
            self._forget(workspace_id, kept[0])

    def close(self) -> None:
        """Let go of all, as they are."""
        for workspace_id, kept in tuple(self._kept.items()):
            for pipe in tuple(kept):
                self._forget(workspace_id, pipe)

    def _later(self, workspace_id: int, pipe: _Pipe, looks: tuple[float, ...]) -> None:
        pipe.timer = self._loop.call_later(looks[0], self._look, workspace_id, pipe, looks[1:])

    def _look(self, workspace_id: int, pipe: _Pipe, looks: tuple[float, ...]) -> None:
        if not looks:
            _empty(pipe.fd)
        if looks and _waiting(pipe.fd) and self._still_read(pipe):
            self._later(workspace_id, pipe, looks)
        else:
            self._forget(workspace_id, pipe)

    def _still_read(self, pipe: _Pipe) -> bool:
        """Only a writing end can tell, and only while the gateway has no reading end itself."""
        try:
            write_end = _open(pipe.fd, os.O_WRONLY)
        except OSError:
            return False
        os.close(pipe.fd)
        try:
            pipe.fd = _open(write_end, os.O_RDONLY) if _read(write_end) else -1
        except OSError:
            pipe.fd = -1
        os.close(write_end)
        return pipe.fd >= 0

    def _forget(self, workspace_id: int, pipe: _Pipe) -> None:
        if pipe.timer:
            pipe.timer.cancel()
        if pipe.fd >= 0:
            os.close(pipe.fd)
        kept = self._kept[workspace_id]
        kept.remove(pipe)
        if not kept:
            del self._kept[workspace_id]


def _open(fd: int, way: int) -> int:
    """The other end of a pipe, or the same one once more."""
    return os.open(f"/proc/self/fd/{fd}", way | os.O_NONBLOCK | os.O_CLOEXEC)


def _waiting(fd: int) -> int:
    """Bytes in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])


def _read(write_end: int) -> bool:
    """Whether somebody has a reading end of the pipe."""
    poll = select.poll()
    poll.register(write_end, 0)
    return not poll.poll(0)


def _empty(fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(fd, 1 << 16):
            pass
