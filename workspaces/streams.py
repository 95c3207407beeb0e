"""Iterables of bytes: as a file to read, for libraries that want one, and checked against a digest on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import Any


def checked(chunks: Iterable[bytes], digest: str, size: int | None, wrong: Exception) -> Iterator[bytes]:
    """`chunks` as they are. Raises `wrong`, after the last one at the latest, unless they are those bytes.

    `digest` is `sha256:` and hexadecimal digits; with a `size`, no more than so many bytes come out.
    """
    sha, seen = hashlib.sha256(), 0
    for chunk in chunks:
        seen += len(chunk)
        if size is not None and seen > size:
            break
        sha.update(chunk)
        yield chunk
    if (size is not None and seen != size) or f"sha256:{sha.hexdigest()}" != digest:
        raise wrong


class Chunks(io.RawIOBase):
    """Reads `chunks` one after the other, and goes forward only. Without copying where `pieces` is used."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._place = 0

    def readable(self) -> bool:
        return True

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, as they come; fewer at the end only."""
        while size > 0:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._rest = memoryview(chunk)
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            self._place += len(piece)
            yield piece

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end only."""
        return b"".join(self.pieces(size))

    def readinto(self, buffer: Any) -> int:
        """For io.BufferedReader."""
        count = 0
        for piece in self.pieces(len(buffer)):
            buffer[count : count + len(piece)] = piece
            count += len(piece)
        return count

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Skip to `place`, counted from the start. Raises io.UnsupportedOperation for any other way."""
        if whence != io.SEEK_SET or place < self._place:
            raise io.UnsupportedOperation("this stream goes forward only")
        for _ in self.pieces(place - self._place):
            pass
        return self._place
