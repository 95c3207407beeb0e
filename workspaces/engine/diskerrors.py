"""What writing on this host's disk says when it fails: a full disk by its name."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

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
