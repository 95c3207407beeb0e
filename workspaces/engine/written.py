"""What a container wrote and what its image has, opened for reading on the host.

    path ─► directory below the top, one step at a time, never through a link ─► O_PATH ─► a regular file? ─► O_RDONLY

The container may be running, and its root may do what it likes there meanwhile: a name is only ever followed by
descriptor, nothing but a regular file is opened, and O_NONBLOCK keeps a lease on the file from holding the reader up.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

STEP = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
METACOPY = ("trusted.overlay.metacopy", "user.overlay.metacopy")


class Walker:
    """Steps below one directory for paths that come sorted: the directories of the last path stay open.

    Raises OSError when `top` cannot be opened.
    """

    def __init__(self, top: Path) -> None:
        self._stack: list[tuple[str, int]] = [("", os.open(top, STEP))]

    def lstat(self, path: str) -> os.stat_result | None:
        """None when there is no such path, or a link stands in its way."""
        try:
            name, directory = self._reach(path)
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (OSError, ValueError):
            return None

    def open(self, path: str) -> BinaryIO | None:
        """The regular file at `path`, unbuffered; None when there is none, or its content lies elsewhere."""
        try:
            name, directory = self._reach(path)
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except (OSError, ValueError):
            return None
        try:
            itself = f"/proc/self/fd/{place}"
            if not stat.S_ISREG(os.fstat(place).st_mode) or _has(itself, METACOPY):
                return None
            return os.fdopen(os.open(itself, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
        except OSError:
            return None
        finally:
            os.close(place)

    def hides(self, path: str) -> bool:
        """Whether `path`, or a directory on the way to it, keeps what lies in lower layers from being seen."""
        parts = [part for part in path.split("/") if part]
        for length in range(1, len(parts) + 1):
            status = self.lstat("/" + "/".join(parts[:length]))
            if status is None:
                return False
            if length == len(parts) or not stat.S_ISDIR(status.st_mode):
                return True
            if _has(f"/proc/self/fd/{self._reach('/'.join([*parts[:length], 'x']))[1]}", OPAQUE):
                return True
        return False

    def close(self) -> None:
        self._close_down_to(-1)

    def _reach(self, path: str) -> tuple[str, int]:
        """The last part of `path`, and a descriptor of the directory that it is in. Raises OSError, ValueError."""
        *parents, name = [part for part in path.split("/") if part] or [""]
        if not name or {"..", "."} & {*parents, name}:
            raise ValueError(path)
        depth = 0
        while depth < len(parents) and depth + 1 < len(self._stack) and self._stack[depth + 1][0] == parents[depth]:
            depth += 1
        self._close_down_to(depth)
        for part in parents[depth:]:
            self._stack.append((part, os.open(part, STEP, dir_fd=self._stack[-1][1])))
        return name, self._stack[-1][1]

    def _close_down_to(self, depth: int) -> None:
        while len(self._stack) > depth + 1:
            os.close(self._stack.pop()[1])


class WrittenFiles:
    """A container's writable directory over its image's layers, topmost first, as an overlay file system has them.

    Raises OSError when a directory cannot be opened. Not for several threads.
    """

    def __init__(self, upper: Path, lower: Sequence[Path]) -> None:
        self._walkers: list[Walker] = []
        try:
            for top in (upper, *lower):
                self._walkers.append(Walker(top))
        except OSError:
            self.close()
            raise

    def open(self, path: str) -> BinaryIO | None:
        """The regular file that the container wrote at `path`; None when there is none that can be opened."""
        return self._walkers[0].open(path)

    def open_base(self, path: str) -> BinaryIO | None:
        """The regular file that the container's image has at `path`; None when there is none."""
        for walker in self._walkers[1:]:
            if (file := walker.open(path)) is not None:
                return file
            if walker.hides(path):
                return None
        return None

    def close(self) -> None:
        while self._walkers:
            self._walkers.pop().close()


def _has(path: str, attributes: Sequence[str]) -> bool:
    for attribute in attributes:
        try:
            os.getxattr(path, attribute)
        except OSError as exc:
            if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                return True
        else:
            return True
    return False
