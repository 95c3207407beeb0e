"""Indexes of layers on disk, by diffID: a layer is read once on a host.

    <diffID>.index     gzip of JSON lines: a head, then a row for each path; written beside and renamed

A file that is missing or damaged is made again from the layer; nothing else depends on it.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Set
from pathlib import Path
from typing import Any

from workspaces.layers.node import MAX_PATHS, Layer, Node

FORM = 1  # of the rows; a file of another form is made again


def load(directory: Path, diff_id: str) -> Layer | None:
    """The index kept for a layer; None when there is none that is whole."""
    try:
        with gzip.open(_path(directory, diff_id), "rt", encoding="ascii") as file:
            head = json.loads(file.readline())
            if head["form"] != FORM or head["diff_id"] != diff_id or not 0 <= head["paths"] <= MAX_PATHS:
                return None
            layer = Layer({}, {}, set(head["whiteouts"]), set(head["opaque"]))
            for line in file:
                path, group, kind, mode, uid, gid, size, mtime, target, xattrs, digest = json.loads(line)
                pairs = tuple((str(key), str(value)) for key, value in xattrs)
                node = Node(kind, mode, uid, gid, size, mtime, target, pairs, bytes.fromhex(digest))
                layer.entries[path] = node
                if group is not None:
                    layer.groups[path] = group
            return layer if len(layer.entries) == head["paths"] else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error):
        return None


def save(directory: Path, diff_id: str, layer: Layer) -> None:
    """Keep an index. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=directory, prefix=".")
    try:
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile("", "wb", 1, raw, 0) as file:
            for row in _rows(diff_id, layer):
                file.write(json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n")
        Path(name).replace(_path(directory, diff_id))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def clean(directory: Path, known: Set[str]) -> None:
    """Delete all but the indexes of `known` layers. A writer who loses an unfinished one does without."""
    names = {_path(directory, diff_id).name for diff_id in known}
    for path in directory.glob("*.index"):
        if path.name not in names:
            path.unlink(missing_ok=True)
    for path in directory.glob(".*"):
        path.unlink(missing_ok=True)


def _rows(diff_id: str, layer: Layer) -> Any:
    yield {
        "form": FORM,
        "diff_id": diff_id,
        "paths": len(layer.entries),
        "whiteouts": sorted(layer.whiteouts),
        "opaque": sorted(layer.opaque),
    }
    for path, node in layer.entries.items():
        yield [path, layer.groups.get(path), *node[:-1], node.digest.hex()]


def _path(directory: Path, diff_id: str) -> Path:
    return directory / f"{diff_id.removeprefix('sha256:')}.index"
