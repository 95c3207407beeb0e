"""A client on a real terminal: type, look, resize."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from types import TracebackType


class Terminal:
    """Runs `command` on a pseudo-terminal of its own. `seen` is all that it showed."""

    def __init__(self, command: list[str], *more: str, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns=columns, rows=rows)
        self.seen = b""
        # by a program, because Python code between fork and exec may wait for ever for a lock of another thread
        own_terminal = ["setsid", "--ctty"]
        self._process = subprocess.Popen([*own_terminal, *command, *more], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: bytes, seconds: float = 30) -> bytes:
        """All that was seen, once `pattern` is in it; what comes later is looked for in what comes later."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert self._more(end - time.monotonic()), f"{pattern!r} is not in {self.seen!r}"
        seen, self.seen = self.seen, b""
        return seen

    def wait(self, seconds: float = 30) -> int:
        """The exit status, after the terminal was read to its end."""
        end = time.monotonic() + seconds
        while self._more(end - time.monotonic()):
            pass
        return self._process.wait(max(0.1, end - time.monotonic()))

    def _more(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other side is gone
            return False
        self.seen += data
        return bool(data)
