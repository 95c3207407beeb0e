"""A delta as the tar of a layer. The same delta gives the same bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator

from workspaces.layers.delta import Delta
from workspaces.layers.node import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SECOND, Node, join, parent, place
from workspaces.layers.reading import WHITEOUT, XATTR

_TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    LINK: tarfile.SYMTYPE,
    CHARACTER: tarfile.CHRTYPE,
    BLOCK: tarfile.BLKTYPE,
    FIFO: tarfile.FIFOTYPE,
}


def tar(delta: Delta, content: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
    """The layer, uncompressed, in chunks. `content` gives a file's bytes by their SHA-256."""
    for path in sorted((*delta.entries, *delta.whiteouts), key=place):
        if path in delta.whiteouts:
            yield _header(tarfile.TarInfo(join(parent(path), WHITEOUT + path.rpartition("/")[2])))
            continue
        node, group = delta.entries[path], delta.groups.get(path, path)
        info = member(path, node)
        if group != path:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, group, 0
            yield _header(info)
            continue
        yield _header(info)
        if node.kind == FILE:
            yield from content(node.digest)
            yield bytes(-node.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def member(path: str, node: Node) -> tarfile.TarInfo:
    """The header of one path; names of owners are left out, since they mean nothing outside the image."""
    info = tarfile.TarInfo(path or ".")
    info.type, info.mode, info.uid, info.gid, info.size = _TYPES[node.kind], node.mode, node.uid, node.gid, node.size
    info.mtime, fraction = divmod(node.mtime, SECOND)
    info.pax_headers = {XATTR + key: value for key, value in node.xattrs}
    if fraction:
        info.pax_headers["mtime"] = f"{'-' if node.mtime < 0 else ''}{abs(node.mtime) // SECOND}." + (
            f"{abs(node.mtime) % SECOND:09}"
        )
    if node.kind == LINK:
        info.linkname = node.target
    elif node.kind in (CHARACTER, BLOCK):
        info.devmajor, info.devminor = map(int, node.target.split(":"))
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
