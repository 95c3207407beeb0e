"""An iterable of bytes as a file to read, for libraries that want one."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any


class Chunks(io.RawIOBase):
    """Reads `chunks` one after the other."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end only."""
        parts: list[memoryview] = []
        wanted = size
        while wanted > 0:
            if not self._rest:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                self._rest = memoryview(chunk)
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        """For io.BufferedReader."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
