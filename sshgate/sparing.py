"""A log for what a client can make happen as often as it likes: a few lines at once, then one a minute, and a count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from workspaces.throttle import Buckets, Rate

LINES = Rate(20, 60)


class Sparing:
    """One connection's way to `log`."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._buckets = Buckets(LINES, clock)
        self._untold = 0

    def info(self, text: str, *args: object) -> None:
        if self._buckets.wait("") > 0:
            self._untold += 1
            return
        self._buckets.take("")
        self.close()
        self._log.info(text, *args)

    def close(self) -> None:
        """Say how much was not said."""
        if self._untold:
            self._log.info("… and %d more lines like the last of this connection's", self._untold)
            self._untold = 0
