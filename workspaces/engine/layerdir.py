"""The directory in which an overlay storage driver keeps a layer, as the tar that an engine would make of it.

    directory ─► each step by descriptor, never through a link ─► tar, in chunks

`docker save` writes a whole image to a temporary directory before the first byte comes; this reads one layer where it
lies. The files are a participant's, but nothing writes there any more. What says that a part of it lies elsewhere
(redirected directories, metadata without content) is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from workspaces.errors import EngineError

CHUNK = 1 << 20
MAX_DEPTH = 256  # each directory on the way is open
XATTRS_PREFIX = "SCHILY.xattr."
CAPABILITY = "security.capability"  # the only one that Docker's layers keep
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def tar(top: Path, root: tuple[int, int]) -> Iterator[bytes]:
    """The layer in `top` as an uncompressed tar; `root` is the host's uid and gid of root in a container.

    Raises EngineError for what is no layer, OSError when it cannot be read.
    """
    links: dict[tuple[int, int], str] = {}
    stack: list[tuple[int, str, Iterator[str]]] = []
    try:
        _step(stack, str(top), "", None)
        while stack:
            handle, prefix, names = stack[-1]
            name = next(names, None)
            if name is None:
                os.close(stack.pop()[0])
                continue
            path = prefix + name
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = _step(stack, name, f"{path}/", handle)
                yield _header(_member(path, status, root))
                _check_here(inner)
                if _xattr(inner, "trusted.overlay.opaque") == b"y":
                    yield _header(tarfile.TarInfo(f"{path}/.wh..wh..opq"))
            else:
                yield from _entry(handle, name, path, status, root, links)
    finally:
        for handle, _, _ in stack:
            os.close(handle)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _step(stack: list[tuple[int, str, Iterator[str]]], name: str, prefix: str, above: int | None) -> int:
    """Open a directory, and go on in it."""
    if len(stack) >= MAX_DEPTH:
        raise EngineError(f"A layer has directories more than {MAX_DEPTH} deep.")
    handle = os.open(name, _DIRECTORY, dir_fd=above)
    stack.append((handle, prefix, iter(())))
    stack[-1] = handle, prefix, iter(sorted(os.listdir(handle)))  # noqa: PTH208 - of a descriptor
    return handle


def _entry(
    directory: int,
    name: str,
    path: str,
    status: os.stat_result,
    root: tuple[int, int],
    links: dict[tuple[int, int], str],
) -> Iterator[bytes]:
    if stat.S_ISSOCK(status.st_mode):
        return  # engines keep none
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        above, _, gone = path.rpartition("/")
        yield _header(tarfile.TarInfo(f"{above}/.wh.{gone}".lstrip("/")))
        return
    member = _member(path, status, root)
    if status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
            yield _header(member)
            return
    if stat.S_ISLNK(status.st_mode):
        member.linkname = os.readlink(name, dir_fd=directory)
    if not stat.S_ISREG(status.st_mode):
        yield _header(member)
        return
    file = os.open(name, _FILE, dir_fd=directory)
    try:
        _check_here(file)
        capability = _capability(file)
        if capability:
            value = capability.decode("utf-8", "surrogateescape")
            member.pax_headers = {**member.pax_headers, XATTRS_PREFIX + CAPABILITY: value}
        yield _header(member)
        left = member.size
        while left:
            chunk = os.read(file, min(left, CHUNK))
            if not chunk:
                raise EngineError("A layer's file became shorter while it was read.")
            left -= len(chunk)
            yield chunk
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    finally:
        os.close(file)


def _member(path: str, status: os.stat_result, root: tuple[int, int]) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = _TYPES[stat.S_IFMT(status.st_mode)]
    member.mode = stat.S_IMODE(status.st_mode)
    member.uid, member.gid = status.st_uid - root[0], status.st_gid - root[1]
    if member.uid < 0 or member.gid < 0:
        raise EngineError("A layer has a file whose owner is not one of a container.")
    member.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    member.mtime, fraction = divmod(status.st_mtime_ns, 1_000_000_000)
    if fraction and status.st_mtime_ns > 0:
        member.pax_headers = {"mtime": f"{member.mtime}.{fraction:09}"}
    if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        member.devmajor, member.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return member


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _check_here(handle: int) -> None:
    if any(_xattr(handle, name) is not None for name in _ELSEWHERE):
        raise EngineError("A part of this layer lies in another one.")


def _capability(file: int) -> bytes:
    """As Docker has it: revision 3, which names a user outside the image, as revision 2 (linux/capability.h)."""
    found = _xattr(file, CAPABILITY) or b""
    return found[:3] + b"\x02" + found[4:20] if found[3:4] == b"\x03" else found


def _xattr(handle: int, name: str) -> bytes | None:
    try:
        return os.getxattr(handle, name)
    except OSError as exc:
        if exc.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
