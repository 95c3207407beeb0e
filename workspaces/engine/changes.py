"""What a container changed, from Docker's list of paths and the directory that holds its writes.

    chunks ─► read ─► [(path, kind), …]  +  upper directory ─► lstat of each, never through a link ─► ChangeReport

Anybody can make a million empty files before asking for a snapshot: a list longer than LIST_MAX is not read.
The upper directory is the container's: each step into it is taken with O_NOFOLLOW from the step before.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from workspaces.engine.base import Earlier
from workspaces.engine.since import put_back, since_earlier
from workspaces.errors import EngineError
from workspaces.model import Change, ChangeReport

ENTRIES_MAX = 5000
LIST_MAX = 32 << 20  # bytes of Docker's list, about 400,000 paths
KINDS = {0: "changed", 1: "added", 2: "removed"}
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class _Walker:
    """lstat below one directory for paths that come sorted: the directories of the last path stay open."""

    def __init__(self, top: Path) -> None:
        self._stack: list[tuple[str, int]] = [("", os.open(top, _STEP))]

    def lstat(self, path: str) -> os.stat_result | None:
        """None when there is no such path, or a link stands in its way."""
        *parents, name = [part for part in path.split("/") if part]
        if ".." in (*parents, name):
            return None
        depth = 0
        while depth < len(parents) and depth + 1 < len(self._stack) and self._stack[depth + 1][0] == parents[depth]:
            depth += 1
        self._close_down_to(depth)
        try:
            for part in parents[depth:]:
                self._stack.append((part, os.open(part, _STEP, dir_fd=self._stack[-1][1])))
            return os.stat(name, dir_fd=self._stack[-1][1], follow_symlinks=False)
        except (OSError, ValueError):
            return None

    def _close_down_to(self, depth: int) -> None:
        while len(self._stack) > depth + 1:
            os.close(self._stack.pop()[1])

    def close(self) -> None:
        self._close_down_to(-1)


Paths = list[tuple[str, str]]  # path, kind of change


def read(chunks: Iterable[bytes]) -> Paths | None:
    """Docker's answer to `diff`, sorted by path; None when it is longer than LIST_MAX. Raises EngineError."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > LIST_MAX:
            return None
    try:
        # One object at a time becomes a tuple: a list of a dictionary each would take five times the memory.
        paths = json.loads(body, object_hook=lambda item: (item["Path"], KINDS.get(item["Kind"], "changed"))) or []
        if type(paths) is not list or any(type(path) is not tuple for path in paths):
            raise TypeError("not a list of objects")
        paths.sort()
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise EngineError("The engine's list of changes makes no sense.") from exc
    return list(paths)


def report(
    paths: Paths | None,
    upper: Path | None,
    since: str,
    written: int,
    earlier: Mapping[str, Earlier] | None = None,
    root: tuple[int, int] = (0, 0),
) -> ChangeReport:
    """What `read` gave as a ChangeReport; without its paths when those are too many.

    With `earlier` it is what differs from that version (since.py); `root` are the host's uid and gid of root inside.

    `upper` is None when the storage driver shows no such directory: sizes and modes are 0 then. `written` is what
    Docker measured of the whole, in bytes; it counts a hard-linked file once, and names that are not UTF-8 too.
    A directory that is only "changed" because of what lies in it is left out.
    """
    if paths is None:
        text = f"More than about {LIST_MAX // 80:,} paths changed: they are neither counted nor listed."
        return ChangeReport(time.time(), since, 0, 0, 0, max(written, 0), warnings=(text,))
    parents = {path.rpartition("/")[0] for path, _ in paths}
    totals = dict.fromkeys(KINDS.values(), 0)
    entries: list[Change] = []
    size = 0
    walker = _Walker(upper) if upper is not None else None
    try:
        for path, kind in paths:
            status = walker.lstat(path) if walker and kind != "removed" and path.strip("/") else None
            is_directory = status is not None and stat.S_ISDIR(status.st_mode)
            if kind == "changed" and path in parents and (is_directory or status is None):
                continue
            if earlier is not None and path in earlier:
                kind = since_earlier(kind, status, earlier[path], root) or ""
                if not kind:
                    continue
            length = status.st_size if status is not None and stat.S_ISREG(status.st_mode) else 0
            totals[kind] += 1
            size += length
            if len(entries) < ENTRIES_MAX:
                entries.append(Change(kind, path, length, status.st_mode if status is not None else 0))
    finally:
        if walker:
            walker.close()
    if earlier is not None:
        written = -1  # Docker's measure is of all that was ever written over the image
        for path, kind in put_back(dict(paths), earlier):
            totals[kind] += 1
            if len(entries) < ENTRIES_MAX:
                entries.append(Change(kind, path))
        entries.sort(key=lambda entry: entry.path)
    return ChangeReport(
        at=time.time(),
        since=since,
        added=totals["added"],
        changed=totals["changed"],
        removed=totals["removed"],
        bytes=written if written >= 0 else size,
        entries=tuple(entries),
    )
