"""Copies bytes between a pipe, or half a socket, and a channel, without blocking and without a buffer that grows.

    process ──stdout pipe──► Output ──► channel.write()   paused: nothing is read, the pipe fills, the process waits
    channel ──► Input ──stdin pipe──► process             pipe full: the channel is paused, its window closes,
                                                          the client waits

Neither end owns the channel: the session says when to pause and is told of the end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress

READ_SIZE = 64 << 10  # bytes read at a time
PIPE_SIZE = 256 << 10  # bytes that the kernel holds for one pipe, when it allows


def pipe() -> tuple[int, int]:
    """A pipe (read end, write end), large where the kernel allows, both ends close-on-exec and blocking."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # the user's share of pipe memory is used up: the usual 64 KiB will do
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return read_end, write_end


class Output:
    """Reads `fd` and hands every piece to `write`, then calls `ended` once.

    `fd` is owned from now on and given to `close` at the end, which for half a socket is another than os.close.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        write: Callable[[bytes], None],
        ended: Callable[[], None],
        close: Callable[[int], None] = os.close,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._write = write
        self._ended = ended
        self._close = close
        self._reading = False
        self.size = READ_SIZE  # bytes read at a time
        os.set_blocking(fd, False)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def resume(self) -> None:
        if not self._reading and self._fd >= 0:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def close(self) -> None:
        """Stop and close the pipe; the process that goes on writing gets SIGPIPE. Does not call `ended`."""
        self.pause()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._close(fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, self.size)
        except BlockingIOError:
            return
        except OSError:  # a socket whose other end went away with bytes unread
            data = b""
        if data:
            self._write(data)
        else:
            self.close()
            self._ended()


class Input:
    """Writes what it is fed to `fd`, which is given to `close` at the end.

    `hold(True)` asks the feeder to stop, False to go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        hold: Callable[[bool], None],
        close: Callable[[int], None] = os.close,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._hold = hold
        self._close = close
        self._waiting: deque[memoryview] = deque()
        self._eof = False
        os.set_blocking(fd, False)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def feed(self, data: bytes) -> None:
        """Take all of `data`; what comes after the process closed its input is dropped, as in sshd."""
        if self._fd < 0 or self._eof:
            return
        if self._waiting:
            self._waiting.append(memoryview(data))
            return
        rest = self._put(memoryview(data))
        if rest:
            self._waiting.append(rest)
            self._loop.add_writer(self._fd, self._writable)
            self._hold(True)

    def end(self) -> None:
        """No more will come: close the pipe when all is written."""
        self._eof = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close the pipe now; what was not written is dropped."""
        if self._fd < 0:
            return
        if self._waiting:
            self._loop.remove_writer(self._fd)
            self._waiting.clear()
        fd, self._fd = self._fd, -1
        self._close(fd)

    def _put(self, data: memoryview) -> memoryview | None:
        """Write what goes; returns the rest, or None when there is none or nobody to read it."""
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            return data
        except OSError:  # EPIPE: the process reads no more
            self.close()
            return None
        return data[written:] if written < len(data) else None

    def _writable(self) -> None:
        while self._waiting:
            rest = self._put(self._waiting[0])
            if self._fd < 0:
                break
            if rest:
                self._waiting[0] = rest
                return
            self._waiting.popleft()
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            if self._eof:
                self.close()
        self._hold(False)
