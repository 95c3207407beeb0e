"""Changes since an earlier version of a container, from those since the image that it was made from. Pure.

An engine only tells what differs from the image. Where the earlier version differed from it too, what is there now is
compared with what that version had: by type, mode, owner, size and time, without reading contents.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from workspaces.engine.base import Earlier


def since_earlier(kind: str, status: os.stat_result | None, was: Earlier, root: tuple[int, int]) -> str | None:
    """What kind of change a path is since the earlier version, that is of `kind` since the image; None: it is none.

    `status` is of what is there now, owned by the host's users; `root` are uid and gid of root inside.
    """
    if kind == "removed":
        return "removed" if was.mode else None
    if not was.mode:
        return "added"
    return "changed" if status is None or _differs(status, was, root) else None


def _differs(status: os.stat_result, was: Earlier, root: tuple[int, int]) -> bool:
    if (status.st_mode, status.st_uid - root[0], status.st_gid - root[1]) != (was.mode, was.uid, was.gid):
        return True
    if stat.S_ISDIR(status.st_mode):
        return False  # its time changes with what lies in it
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    if size != was.size or status.st_mtime_ns // 1_000_000_000 != was.mtime:
        return True
    return status.st_ctime > was.captured


def put_back(changed: Mapping[str, str], earlier: Mapping[str, Earlier]) -> Iterator[tuple[str, str]]:
    """Path and kind of what the earlier version had changed and is as in the image again, so that no engine tells it.

    `changed` has the kind of each path that differs from the image. Of a removed directory only itself is given.
    """
    gone = {path for path, was in earlier.items() if was.mode and not was.in_source and path not in changed}
    for path, was in earlier.items():
        if path in changed:
            continue
        above = path.rpartition("/")[0]
        if path in gone:
            if above not in gone and not _removed(above, changed):
                yield path, "removed"
        elif was.in_source and not stat.S_ISDIR(was.mode) and not _removed(above, changed):
            yield path, "changed" if was.mode else "added"


def _removed(path: str, changed: Mapping[str, str]) -> bool:
    """Whether `path` or a directory above it is listed as removed."""
    while path:
        if changed.get(path) == "removed":
            return True
        path = path.rpartition("/")[0]
    return False
