"""Blobs of an OCI image layout: written whole or not at all, read with their digest checked.

bytes ─► BlobWriter: file in local/.tmp + SHA-256 ─► fsync ─► Storage.keep: blobs/sha256/<hex>
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workspaces import streams
from workspaces.archive.storage import BLOBS, CHUNK, Storage
from workspaces.errors import Corrupt

__all__ = ["CHUNK", "BlobWriter", "Blobs", "Descriptor", "is_digest"]

MAX_JSON = 4 << 20  # the OCI distribution specification's bound for a manifest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: object) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits, and so safe as a file's name."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is known by: digest and size in bytes."""

    digest: str
    size: int


class Blobs:
    """The blobs in a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there with its size; the bytes are not read."""
        return self.storage.size(_name(blob.digest)) == blob.size

    def since(self, digest: str) -> float | None:
        """When the blob was written, in seconds since the epoch; None when it is not there."""
        return self.storage.since(_name(digest))

    def read_json(self, blob: Descriptor) -> bytes:
        """The whole of a small blob, checked. Raises Corrupt when it is missing, large or damaged."""
        if not 0 <= blob.size <= MAX_JSON:
            raise Corrupt(f"{blob.digest} has {blob.size} bytes, too many for a manifest or configuration.")
        return b"".join(self.read(blob))

    def read(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob in chunks. Raises Corrupt, after the last chunk at the latest, unless it is whole."""
        try:
            yield from checked(self.storage.read(_name(blob.digest)), blob)
        except FileNotFoundError:
            raise Corrupt(f"{blob.digest} is missing from the archive.") from None
        except OSError as exc:
            raise Corrupt(f"{blob.digest} cannot be read: {exc.strerror}.") from exc

    def tail(self, blob: Descriptor, size: int) -> bytes:
        """The last bytes of a blob, not checked. Raises Corrupt when it is missing."""
        try:
            return b"".join(self.storage.read(_name(blob.digest), size))
        except FileNotFoundError:
            raise Corrupt(f"{blob.digest} is missing from the archive.") from None

    def add(self, data: bytes) -> Descriptor:
        """Store a small blob."""
        with BlobWriter(self.storage) as writer:
            writer.write(data)
            return writer.keep()

    def delete(self, digest: str) -> None:
        """Nothing happens when it is gone."""
        self.storage.delete(_name(digest))


def _name(digest: str) -> str:
    if not is_digest(digest):
        raise Corrupt(f"The archive names a blob {str(digest)[:80]!r}, which is no digest.")
    return BLOBS + digest.removeprefix("sha256:")


def checked(chunks: Iterator[bytes], blob: Descriptor) -> Iterator[bytes]:
    """`chunks` as they are. Raises Corrupt, after the last one at the latest, unless they are that blob."""
    wrong = Corrupt(f"{blob.digest} is damaged: its bytes have another digest or number.")
    return streams.checked(chunks, blob.digest, blob.size, wrong)


class BlobWriter:
    """One blob being written; without `keep` nothing of it stays."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        handle, name = tempfile.mkstemp(dir=storage.local / ".tmp")
        self._file = os.fdopen(handle, "wb", buffering=0)
        self._path = Path(name)
        self._sha = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._sha.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def keep(self) -> Descriptor:
        """Make it durable under its digest; a blob that was there, perhaps damaged, is replaced."""
        os.fsync(self._file.fileno())
        hexdigest = self._sha.hexdigest()
        self._storage.keep(self._path, BLOBS + hexdigest)
        return Descriptor(f"sha256:{hexdigest}", self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with suppress(FileNotFoundError):
            self._path.unlink()
