"""File contents that a delta needs, in one file without a name: a kill leaves nothing of it behind."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from workspaces.errors import NoSpace
from workspaces.layers.reading import CHUNK


class Spool:
    """Contents by their SHA-256, each once. `directory` is on the disk that has room for them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by `close`
        self._places: dict[bytes, tuple[int, int]] = {}  # digest → offset, size
        self._start = self._end = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes to the content that is being written. Raises NoSpace."""
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._file.fileno(), view, self._end)
                self._end += done
                view = view[done:]
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(f"The disk of {self._directory} is full.", "Make room there, then retry.") from exc
            raise

    def keep(self, digest: bytes) -> None:
        """The content written since the last call is whole, and this is its SHA-256."""
        if digest in self._places:
            self._end = self._start
        else:
            self._places[digest] = self._start, self._end - self._start
            self._start = self._end

    def read(self, digest: bytes) -> Iterator[bytes]:
        """A content in chunks. KeyError when it is not here."""
        offset, left = self._places[digest]
        while left:
            chunk = os.pread(self._file.fileno(), min(left, CHUNK), offset)
            if not chunk:
                raise EOFError("the spool was cut")
            offset, left = offset + len(chunk), left - len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
