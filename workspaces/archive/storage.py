"""Where the files of an archive lie: what `Archive` asks of a directory or a bucket, and the directory.

Names are those of the OCI image layout: `oci-layout`, `index.json`, `blobs/sha256/<hex>`. A blob is first a whole file
in `local/.tmp`, on this host, and is then put in its place in one step; so nobody ever sees half of one. `local/.lock`
is held by one writer at a time, of all threads and processes of this host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from workspaces.errors import ArchiveError, ArchiveUnavailable
from workspaces.files import sync_directory

CHUNK = 1 << 20
MAX_DOCUMENT = 64 << 20  # bytes of index.json: room for 100,000 versions
BLOBS = "blobs/sha256/"


class Changed(Exception):
    """A document is not any more what it was when it was read: another host replaced it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is there: hexadecimal digest in its name, bytes, and since when (seconds since the epoch)."""

    name: str
    size: int
    since: float


class Storage(Protocol):
    """Files under names. All raise ArchiveError, its ArchiveUnavailable for what may work later, or OSError."""

    where: str  # for people
    local: Path  # directory of this host for unfinished files and the lock
    grace: float  # seconds for which a new blob may belong to a writer on another host
    shared: bool  # whether other hosts may write while the lock is held

    def prepare(self) -> None:
        """Make what must be there before the first file."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""

    def since(self, name: str) -> float | None:
        """When a file was written, in seconds since the epoch; None when there is none."""

    def read(self, name: str, tail: int | None = None) -> Iterator[bytes]:
        """A file in chunks, or its last `tail` bytes. Raises FileNotFoundError."""

    def keep(self, file: Path, name: str) -> None:
        """Put a whole local file in its place, durably. Equal bytes may be there already, or damaged ones.

        `name` is a blob's, and so ends with the SHA-256 of the bytes.
        """

    def document(self, name: str) -> tuple[bytes, str] | None:
        """A small file and its version, for `replace`; None when there is none."""

    def is_version(self, name: str, version: str | None) -> bool:
        """Whether `document` would give that version (None: absence); its bytes are not read if that can be told so."""

    def replace(self, name: str, data: bytes, version: str | None) -> None:
        """Write a small file in one step. Raises Changed unless its version (None: absence) is still that."""

    def blobs(self) -> Iterator[Stored]:
        """Every blob that is there."""

    def delete(self, name: str) -> None:
        """Nothing happens when it is gone."""

    def unfinished(self) -> list[str]:
        """What writers left behind elsewhere than in `local`, too old to be going on; names for `abandon`."""

    def abandon(self, name: str) -> None:
        """Delete what `unfinished` named."""

    def clean(self) -> None:
        """Delete what dead writers of this host left unfinished. The caller holds the lock."""


class Directory:
    """The layout in a directory of this host."""

    grace = 0.0  # every writer holds the lock
    shared = False

    def __init__(self, root: Path) -> None:
        self.local = root
        self.where = str(root)

    def prepare(self) -> None:
        """No one but the owner sees participants' files."""
        for directory in (self.local, self.local / "blobs", self.local / BLOBS, self.local / ".tmp"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def size(self, name: str) -> int | None:
        try:
            return (self.local / name).stat().st_size
        except OSError:
            return None

    def since(self, name: str) -> float | None:
        try:
            return (self.local / name).stat().st_mtime
        except OSError:
            return None

    def read(self, name: str, tail: int | None = None) -> Iterator[bytes]:
        with (self.local / name).open("rb") as file:
            if tail is not None:
                file.seek(-tail, os.SEEK_END)
            while chunk := file.read(CHUNK):
                yield chunk

    def keep(self, file: Path, name: str) -> None:
        file.replace(self.local / name)
        sync_directory((self.local / name).parent)

    def document(self, name: str) -> tuple[bytes, str] | None:
        try:
            with (self.local / name).open("rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except FileNotFoundError:
            return None
        return data, sha256(data).hexdigest()

    def is_version(self, name: str, version: str | None) -> bool:
        found = self.document(name)
        return (found[1] if found else None) == version

    def replace(self, name: str, data: bytes, version: str | None) -> None:
        """The lock keeps others away; the version is compared all the same, for a copy put there by hand."""
        if not self.is_version(name, version):
            raise Changed
        temporary = self.local / ".tmp" / name
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.local / name)
        sync_directory(self.local)

    def blobs(self) -> Iterator[Stored]:
        if not (self.local / BLOBS).is_dir():
            return
        with os.scandir(self.local / BLOBS) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                yield Stored(entry.name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        (self.local / name).unlink(missing_ok=True)

    def unfinished(self) -> list[str]:
        return []  # `clean` has deleted it

    def abandon(self, name: str) -> None:
        raise FileNotFoundError(name)

    def clean(self) -> None:
        for path in (self.local / ".tmp").glob("*"):
            path.unlink(missing_ok=True)


@contextmanager
def disk_errors(place: Path, what: str = "archive in") -> Iterator[None]:
    """Turn OSError of the archive's disk, or of another file's, into ArchiveError with a sentence."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(f"The disk of the {what} {place} is full.", "Make room there, then retry.") from exc
        away = exc.errno in (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH)
        kind = ArchiveUnavailable if away else ArchiveError  # of a disk in the network
        raise kind(f"The {what} {place} cannot be used: {exc.strerror or exc}.") from exc
