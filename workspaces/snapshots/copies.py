"""Files of a challenge's data mounts that a container holds a copy of, byte for byte.

    host directory of a mount ─► size → paths (kept for some minutes) ─┐
    changed file of such a size ─► digest of its begin, then of all ───┴─► the same as that of a path?

The digests of mounted files are kept by path, size and time of change, so that each is read once for all workspaces.
A copy that was cut, unpacked or converted is another file and is not found.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from workspaces.model import Mount

SIZE_MIN = 64  # bytes; below that files are the same by chance
HEAD = 64 << 10
CHUNK = 1 << 20
FILES_MAX = 500_000  # of one mount
WALK_SECONDS = 30.0
KEEP_SECONDS = 300.0
DIGESTS_MAX = 200_000

Spend = Callable[[int], None]
"""Told how many bytes are about to be read; raises what ends the search."""


class MountIndex:
    """Files below one host directory by their size, from SIZE_MIN. `whole` is False when not all could be listed."""

    def __init__(self, top: Path) -> None:
        self.by_size: dict[int, list[str]] = {}
        self.whole = True
        self.made_at = time.monotonic()
        deadline = self.made_at + WALK_SECONDS
        count, todo = 0, [top]
        while todo:
            try:
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(Path(entry.path))
                        elif entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            if size >= SIZE_MIN:
                                self.by_size.setdefault(size, []).append(entry.path)
                                count += 1
            except OSError:
                self.whole = False  # a part that is away for now
            if count >= FILES_MAX or time.monotonic() > deadline:
                self.whole = not todo and self.whole
                return


Indexed = Sequence[tuple[Mount, MountIndex]]


class Mounts:
    """Indexes and digests of mounted files, for all jobs of a worker. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: dict[str, MountIndex] = {}
        self._digests: OrderedDict[tuple[str, int, int, int, int], bytes] = OrderedDict()

    def indexed(self, mounts: Iterable[Mount]) -> Indexed:
        """Each mount with what lies below its directory now, or did some minutes ago."""
        return [(mount, self._index(mount.source)) for mount in mounts]

    def original(self, file: BinaryIO, size: int, mounts: Indexed, spend: Spend) -> str | None:
        """The path, as the container sees it, of a mounted file with the content of `file`, which has `size` bytes."""
        candidates = [(mount, path) for mount, index in mounts for path in index.by_size.get(size, ())]
        for length in dict.fromkeys((min(size, HEAD), size)):
            if candidates:
                digest = _digest(file, length, spend)
                candidates = [c for c in candidates if self._digest_of(c[1], size, length, spend) == digest]
        if not candidates:
            return None
        mount, path = candidates[0]
        return f"{mount.target.rstrip('/')}/{os.path.relpath(path, mount.source)}"

    def _index(self, source: str) -> MountIndex:
        with self._lock:
            found = self._indexes.get(source)
        if found is None or time.monotonic() - found.made_at > KEEP_SECONDS:
            found = MountIndex(Path(source))
            with self._lock:
                self._indexes[source] = found
        return found

    def _digest_of(self, path: str, size: int, length: int, spend: Spend) -> bytes | None:
        """Digest of a mounted file's first `length` bytes; None when it is not there any more, or another size."""
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return None
                key = (path, size, status.st_mtime_ns, status.st_ino, length)
                with self._lock:
                    if key in self._digests:
                        self._digests.move_to_end(key)
                        return self._digests[key]
                digest = _digest(file, length, spend)
        except OSError:
            return None
        with self._lock:
            self._digests[key] = digest
            while len(self._digests) > DIGESTS_MAX:
                self._digests.popitem(last=False)
        return digest


def _digest(file: BinaryIO, size: int, spend: Spend) -> bytes:
    """Of the first `size` bytes; what is shorter by now has another digest than what it was."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0:
        spend(min(size, CHUNK))
        data = file.read(min(size, CHUNK))
        if not data:
            break
        digest.update(data)
        size -= len(data)
    return digest.digest()
