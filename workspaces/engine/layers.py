"""Layers as tars, made and taken apart in Python: the file system half of the in-memory engine.

    layer tars ─► unpack() ─► directory ─► index() … compare() ─► entries ─► pack() ─► layer tar

Whiteouts are those of the OCI image specification: `.wh.NAME` deletes NAME of the layers below.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

from workspaces.errors import EngineError
from workspaces.model import Change

WHITEOUT = ".wh."
Index = dict[str, tuple[int, int, int, str]]  # path → mode, size, time of change in ns, target of a link


def index(top: Path) -> Index:
    """Every path below `top`, as `/a/b`, with what tells whether it was changed."""
    found: Index = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            target = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else ""
            changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found[f"/{path.relative_to(top)}"] = (status.st_mode, size, changed, target)
    return found


def compare(before: Index, top: Path) -> list[Change]:
    """What is different below `top`, sorted by path. Of a removed directory only itself is listed; sockets never."""
    after = {path: entry for path, entry in index(top).items() if not stat.S_ISSOCK(entry[0])}
    changes = [
        Change("changed" if path in before else "added", path, entry[1] if stat.S_ISREG(entry[0]) else 0, entry[0])
        for path, entry in after.items()
        if before.get(path) != entry
    ]
    gone = before.keys() - after.keys()
    changes += [Change("removed", path) for path in gone if path.rpartition("/")[0] not in gone]
    return sorted(changes, key=lambda change: change.path)


def pack(top: Path, changes: Sequence[Change]) -> bytes:
    """A layer with `changes`, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for change in changes:
            if change.kind == "removed":
                parent, _, name = change.path.lstrip("/").rpartition("/")
                tar.addfile(tarfile.TarInfo(f"{parent}/{WHITEOUT}{name}".lstrip("/")))
                continue
            path = top / change.path.lstrip("/")
            info = tar.gettarinfo(path, arcname=change.path.lstrip("/"))
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return buffer.getvalue()


def unpack(layer: Path, top: Path) -> None:
    """Put a layer on top of what is below `top`. Owners are ignored; nothing is written outside."""
    with tarfile.open(layer) as tar:
        for member in tar:
            parent, _, name = member.name.strip("/").rpartition("/")
            if {"..", ""} & {*member.name.strip("/").split("/"), name.removeprefix(WHITEOUT)}:
                raise EngineError(f"{member.name!r} is no path in a layer.")
            if name.startswith(WHITEOUT):
                _delete(top / parent / name.removeprefix(WHITEOUT))
                continue
            place = top / parent / name
            if not member.isdir() and (place.is_symlink() or place.exists()):
                _delete(place)
            tar.extract(member, top, filter="tar", numeric_owner=True, set_attrs=True)


def read(layer: Path, path: str) -> bytes | None:
    """The content of the regular file at `path` in a layer; nothing for one that it deletes, None when it has none."""
    parent, _, name = path.strip("/").rpartition("/")
    with tarfile.open(layer) as tar:
        for member in tar:
            place = member.name.removeprefix("./").strip("/")
            if place == f"{parent}/{WHITEOUT}{name}".lstrip("/"):
                return b""
            if place == path.strip("/"):
                file = tar.extractfile(member) if member.isreg() else None
                return file.read() if file else b""
    return None


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
