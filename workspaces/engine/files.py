"""What the engine writes on this host's disk: small files whole or not at all, and a full disk by its name."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workspaces.errors import HostError, NoSpace


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn OSError inside into NoSpace or HostError; `what` is the sentence's begin, e.g. `x cannot be written`."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{what}: the disk is full.", "Free some space, then try again.") from exc
        raise HostError(f"{what}: {exc.strerror or exc}.", str(exc.filename or "")) from exc


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, for its owner only; killed or on a full disk, what was there stays. Raises OSError."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
