"""One path of a layer, and the index of a whole layer. Pure.

Paths are relative, without a leading or trailing slash; `""` is the root directory. Bytes that are not UTF-8 are
surrogates, as in file names everywhere in Python.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import NamedTuple

FILE, DIRECTORY, LINK, CHARACTER, BLOCK, FIFO = "file", "dir", "link", "char", "block", "fifo"
FORMATS = {
    FILE: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    LINK: stat.S_IFLNK,
    CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}
SECOND = 1_000_000_000
MAX_PATHS = 300_000
"""Of a stack and of one layer: about 150 MB. A workspace with more gets versions without sharing."""
MAX_NAMES = 48 << 20
"""Characters of all paths, targets of links and attributes of a stack or one layer, which may be 4 kB for each."""


class Node(NamedTuple):
    """What is at a path. `digest` is the SHA-256 of a file's content."""

    kind: str
    mode: int  # permissions with setuid, setgid and sticky
    uid: int
    gid: int
    size: int = 0  # bytes, of files
    mtime: int = 0  # nanoseconds since the epoch
    target: str = ""  # of a symbolic link; MAJOR:MINOR of a device
    xattrs: tuple[tuple[str, str], ...] = ()  # sorted; bytes that are not UTF-8 as surrogates
    digest: bytes = b""

    @property
    def names(self) -> int:
        """Characters that it holds besides its path."""
        return len(self.target) + sum(len(key) + len(value) for key, value in self.xattrs)

    @property
    def st_mode(self) -> int:
        return FORMATS[self.kind] | self.mode

    @property
    def seconds(self) -> int:
        """The time of change as engines' layers keep it: they cut off the fraction."""
        return self.mtime // SECOND


def same(one: Node, other: Node) -> bool:
    """Whether two nodes are equal, times to the second: a file that was only copied up loses the fraction."""
    return one is other or (one[:5] == other[:5] and one.seconds == other.seconds and one[6:] == other[6:])


@dataclass(slots=True)
class Layer:
    """The index of one layer.

    `groups` has, for each path that is a hard link, the first path of its group; a group lies within one layer.
    `whiteouts` are paths of lower layers that are deleted, `opaque` directories whose lower contents are.
    """

    entries: dict[str, Node] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    whiteouts: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def place(path: str) -> str:
    """By which paths are sorted in a tar, so that what lies in a directory follows it: as by a list of its parts."""
    return path.replace("/", "\0")
