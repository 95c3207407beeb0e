"""Small files on this host's disk: each is there whole and durably, or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def put(path: Path, content: bytes, mode: int, *, over: bool = False) -> None:
    """Write a whole file with exactly `mode`. Raises OSError, and then what was there is there still.

    One that is there already, perhaps since just now, stays unless it is written `over`: of many who put one at the
    same time all find the same. A kill leaves at most a draft, `.<name>.<16 hexadecimal digits>`, beside it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.flush()
            os.fsync(file.fileno())
        if over:
            draft.replace(path)
        else:
            with suppress(FileExistsError):
                path.hardlink_to(draft)
        sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
