"""Reading the tar of a layer, as engines and the archive give it, into its index. In one pass, with bounded memory.

The tar holds a participant's files: names are only compared, and a tar that no engine writes (`..` in a path, a sparse
file, a hard link to what the layer lacks) is refused. Whiteouts are those of the OCI image specification, `.wh.NAME`
and `.wh..wh..opq`, which are Docker's as well.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import IO, cast

from workspaces.errors import Conflict, Corrupt
from workspaces.layers.node import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    MAX_NAMES,
    MAX_PATHS,
    SECOND,
    Layer,
    Node,
    join,
)
from workspaces.streams import Chunks

CHUNK = 1 << 20
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
RESERVED = ".wh..wh."  # other names of AUFS, which say nothing about files
XATTR = "SCHILY.xattr."
MAX_SECONDS = 1 << 62
MAX_XATTRS = 64 << 10  # bytes of one path's extended attributes
_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.CONTTYPE: FILE,
    tarfile.DIRTYPE: DIRECTORY,
    tarfile.SYMTYPE: LINK,
    tarfile.CHRTYPE: CHARACTER,
    tarfile.BLKTYPE: BLOCK,
    tarfile.FIFOTYPE: FIFO,
}

Sink = Callable[[bytes | memoryview], None]
Take = Callable[[str, Node], Sink | None]
"""Asked for each file, before its content is read (`digest` is not known yet): who wants its bytes, None: nobody."""


def read(chunks: Iterable[bytes], take: Take | None = None, kept: Callable[[bytes], None] = lambda _: None) -> Layer:
    """The index of the layer whose uncompressed tar is `chunks`, which are read to their end.

    What `take` returns gets a file's bytes; after the last of them `kept` is called with their SHA-256. Raises Corrupt
    for what is no layer, Conflict when it has more than MAX_PATHS paths or MAX_NAMES, and what `chunks` raises.
    """
    stream = Chunks(chunks)
    layer = Layer()
    names = 0
    try:
        # Not tarfile's own mode for streams, which copies every byte several times.
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                path = _add(layer, stream, member, take, kept)
                names += len(member.name) + (layer.entries[path].names if path is not None else 0)
                if len(layer.entries) + len(layer.whiteouts) > MAX_PATHS or names > MAX_NAMES:
                    raise Conflict(f"A layer has more than {MAX_PATHS:,} paths, or too long ones.")
    except (tarfile.TarError, EOFError, OverflowError, ValueError, io.UnsupportedOperation) as exc:
        raise Corrupt(f"A layer's tar cannot be read: {exc}.") from exc
    while rest := stream.read(CHUNK):
        if rest.strip(b"\0"):
            raise Corrupt("A layer's tar has something after its end.")
    return layer


def _add(
    layer: Layer, stream: Chunks, member: tarfile.TarInfo, take: Take | None, kept: Callable[[bytes], None]
) -> str | None:
    """Put one entry into `layer`; its path, None for a mark that deletes."""
    path = _path(member.name)
    directory, _, name = path.rpartition("/")
    if name == OPAQUE:
        layer.opaque.add(directory)
        return None
    if name.startswith(WHITEOUT):
        if not name.startswith(RESERVED):
            layer.whiteouts.add(join(directory, name.removeprefix(WHITEOUT)))
        return None
    if member.islnk():
        _link(layer, path, _path(member.linkname))
        return path
    kind = _KINDS.get(member.type)
    if kind is None or member.issparse():
        raise Corrupt(f"A layer has an entry {path[:100]!r} of an unknown kind.")
    node = Node(
        kind,
        member.mode & 0o7777,
        member.uid,
        member.gid,
        member.size if kind == FILE else 0,
        _mtime(member),
        member.linkname
        if kind == LINK
        else f"{member.devmajor}:{member.devminor}"
        if kind in (CHARACTER, BLOCK)
        else "",
        _xattrs(member),
    )
    if kind == FILE:
        sink = take(path, node) if take else None
        digest = _digest(stream, member.size, sink)
        if sink is not None:
            kept(digest)
        node = node._replace(digest=digest)
    if path in layer.entries:
        _forget(layer, path, node)
    layer.entries[path] = node
    return path


def _digest(stream: Chunks, size: int, sink: Sink | None) -> bytes:
    sha = hashlib.sha256()
    for piece in stream.pieces(size):
        size -= len(piece)
        sha.update(piece)
        if sink is not None:
            sink(piece)
    if size:
        raise Corrupt("A layer's tar ends too early.")
    return sha.digest()


def _link(layer: Layer, path: str, target: str) -> None:
    node = layer.entries.get(target)
    if node is None or node.kind == DIRECTORY or path == target:
        raise Corrupt(f"A layer has a hard link {path[:100]!r} to what it lacks.")
    if path in layer.entries:
        _forget(layer, path, node)
    group = layer.groups.setdefault(target, target)
    layer.groups[path] = group
    layer.entries[path] = node


def _forget(layer: Layer, path: str, node: Node) -> None:
    """A path occurs twice: the later one counts, as on disk."""
    if layer.entries[path].kind == DIRECTORY and node.kind != DIRECTORY:
        for below in [other for other in layer.entries if other.startswith(f"{path}/")]:
            del layer.entries[below]
            layer.groups.pop(below, None)
    layer.groups.pop(path, None)


def _path(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # A directory of such a name is one that deletes as well, and what lies in it has no place in an image.
    if ".." in parts or "\0" in name or any(part.startswith(WHITEOUT) for part in parts[:-1]):
        raise Corrupt(f"{name[:100]!r} is no path in a layer.")
    return "/".join(parts)


def _mtime(member: tarfile.TarInfo) -> int:
    """Nanoseconds; tarfile's own number is a float, which is not exact."""
    try:
        seconds = Decimal(member.pax_headers.get("mtime", str(member.mtime)))
        return int(seconds * SECOND) if abs(seconds) < MAX_SECONDS else 0
    except ArithmeticError:  # not a number, or none that a clock shows
        return 0


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[str, str], ...]:
    found = [(key.removeprefix(XATTR), value) for key, value in member.pax_headers.items() if key.startswith(XATTR)]
    if sum(len(key) + len(value) for key, value in found) > MAX_XATTRS:
        raise Corrupt(f"{member.name[:100]!r} has too many extended attributes.")
    return tuple(sorted(found))
