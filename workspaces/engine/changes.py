"""What a container changed, from Docker's list of paths and the directory that holds its writes.

    chunks ─► read ─► [(path, kind), …]  +  upper directory ─► lstat of each, never through a link ─► ChangeReport

Anybody can make a million empty files before asking for a snapshot: a list longer than LIST_MAX is not read.
The upper directory is the container's: no link in it is followed (written.py).
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from workspaces.engine.base import Earlier
from workspaces.engine.since import put_back, since_earlier
from workspaces.engine.written import Walker
from workspaces.errors import EngineError
from workspaces.model import Change, ChangeReport

ENTRIES_MAX = 100_000  # more than a report keeps: what matters in them is chosen above the engine
LIST_MAX = 32 << 20  # bytes of Docker's list, about 400,000 paths
KINDS = {0: "changed", 1: "added", 2: "removed"}


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
        return ChangeReport(time.time(), since, 0, 0, 0, max(written, 0), warnings=(text,), countless=True)
    parents = {path.rpartition("/")[0] for path, _ in paths}
    totals = dict.fromkeys(KINDS.values(), 0)
    entries: list[Change] = []
    size = 0
    counted: set[tuple[int, int]] = set()  # files of several names
    walker = Walker(upper) if upper is not None else None
    try:
        for path, kind in paths:
            status = walker.lstat(path) if walker and kind != "removed" and path.strip("/") else None
            is_directory = status is not None and stat.S_ISDIR(status.st_mode)
            compared = earlier is not None and path in earlier
            if kind == "changed" and path in parents and (status is None or (is_directory and not compared)):
                continue
            if earlier is not None and path in earlier:
                kind = since_earlier(kind, status, earlier[path], root) or ""
                if not kind:
                    continue
            length = status.st_size if status is not None and stat.S_ISREG(status.st_mode) else 0
            totals[kind] += 1
            if status is not None and status.st_nlink > 1:
                size += 0 if (status.st_dev, status.st_ino) in counted else length
                counted.add((status.st_dev, status.st_ino))
            else:
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
