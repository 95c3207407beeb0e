"""One job while it runs: what it tells reaches the store, and what it is told reaches it where it can end.

    handler ─► tell(message, fraction or Bytes) ─► store, a few times a second, with an estimate from the pace
                   ▲ raises Cancelled, Overdue or Abandoned
    worker ─► end(…), or the time that its kind may take

A handler is never interrupted: it ends at a call of `tell`, which are between steps that can be repeated or undone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress

from workspaces.engine.base import Bytes
from workspaces.errors import StoreError
from workspaces.jobkinds import KINDS
from workspaces.model import Job
from workspaces.names import span
from workspaces.store import Store

PROGRESS_SECONDS = 0.2  # between writes of a job's progress
PACE_SECONDS = 1.0  # between the samples that the pace is taken from
PACE_SAMPLES = 20


class Ending(BaseException):
    """The job ends here. No error, so that nothing handles it."""


class Abandoned(Ending):
    """The worker stops: this job goes on when the next one starts."""


class Cancelled(Ending):
    """Somebody, named by the argument, wants it to end."""


class Overdue(Ending):
    """It has taken longer than its kind may; the argument is a sentence."""


class Run:
    """A job, the thread that does it, and why it is to end if it is. `lost`: nothing is expected of the thread."""

    def __init__(self, store: Store, job: Job) -> None:
        self.job = job
        self.thread: threading.Thread
        self.lost = False
        self._store = store
        self._begun = time.monotonic()
        self._ending: Ending | None = None
        self._said: str | None = None
        self._written = 0.0
        self._samples: deque[tuple[float, int]] = deque(maxlen=PACE_SAMPLES)

    def end(self, why: Ending) -> None:
        """Have it end at its next word; the first reason stays."""
        self._ending = self._ending or why

    @property
    def cancelled(self) -> Cancelled | None:
        return self._ending if isinstance(self._ending, Cancelled) else None

    def overdue(self, grace: float = 0.0) -> Overdue | None:
        """Why it has to end by now, had it `grace` seconds more than its kind is given."""
        longest = KINDS[self.job.kind].longest
        if time.monotonic() - self._begun <= longest + grace:
            return None
        return Overdue(f"It took longer than {span(longest)}, which is the most for this kind of job.")

    def check(self) -> None:
        """Raises the Ending that was asked for, or is due."""
        if (why := self._ending or self.overdue()) is not None:
            raise why

    def tell(self, message: str, fraction: float | None) -> None:
        """An engine.base.Progress."""
        self.check()
        now = time.monotonic()
        if message == self._said and now - self._written < PROGRESS_SECONDS:
            return
        if message != self._said:
            self._samples.clear()
        self._said, self._written = message, now
        size = (fraction.done, fraction.total) if isinstance(fraction, Bytes) else None
        expected_at = self._expected(now, *size) if size else None
        with suppress(StoreError):
            self._store.job_progress(self.job.id, fraction, message, size, expected_at)

    def _expected(self, now: float, done: int, total: int) -> float | None:
        """When `total` is reached at the pace of the last samples; None before there is one."""
        if not self._samples or now - self._samples[-1][0] >= PACE_SECONDS:
            self._samples.append((now, done))
        since, from_ = self._samples[0]
        if now - since < PACE_SECONDS or done <= from_:
            return None
        return time.time() + (total - done) * (now - since) / (done - from_)
