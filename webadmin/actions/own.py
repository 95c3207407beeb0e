"""Starting, stopping, restarting and resetting one's own workspace: a job for the worker, so many in a time.

member ─► is it open? does something else go on? too often? ─► job
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from webadmin.display import span
from webadmin.i18n import _
from webadmin.words import word
from workspaces.errors import Conflict, Refused, WorkspacesError
from workspaces.jobkinds import passes
from workspaces.model import UNDER_WAY, Challenge, Job, JobKind, Workspace
from workspaces.refusals import check_open
from workspaces.store import Store
from workspaces.throttle import Buckets, Rate

ACTS = (JobKind.START, JobKind.STOP, JobKind.RESTART, JobKind.RESET)
BUSY = (*ACTS, JobKind.RESTORE, JobKind.FREEZE, JobKind.THAW, JobKind.REMOVE)  # what none is asked for beside
RATE = Rate(8, 90)  # for one person; a start or stop keeps the engine busy for about a second


class TooOften(Refused):
    """`wait` is in seconds."""

    http_status = 429

    def __init__(self, wait: float) -> None:
        said = _("Try again in %(time)s; nothing was done.", time=span(wait + 1))
        super().__init__(_("That was too often for now."), said)
        self.wait = wait


class Acts:
    """How often each person has acted lately, in this process. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._buckets = Buckets(RATE, clock)

    def count(self, name: str) -> None:
        """Raises TooOften, and does not count it, when there were too many."""
        with self._lock:
            wait = self._buckets.wait(name)
            if wait <= 0:
                self._buckets.take(name)
        if wait > 0:
            raise TooOften(wait)


def check(kind: JobKind, workspace: Workspace, challenge: Challenge, jobs: Iterable[Job]) -> None:
    """Raise Refused or Conflict when a member may not ask for that now; `jobs` are the workspace's that go on."""
    if kind is not JobKind.STOP:
        check_open(challenge, time.time(), read_only=workspace.read_only)
    if kind is JobKind.RESET and (challenge.frozen or workspace.read_only):
        raise Refused(_("The organisers have frozen the challenge: nothing in it can be reset."))
    moving = (job for job in jobs if job.kind in BUSY and job.state in UNDER_WAY)
    other = next((job for job in moving if not passes(kind, job)), None)
    if other is not None:
        raise Conflict(
            _("Something is done to %(workspace)s already: %(what)s.", workspace=workspace.ref, what=word(other.kind)),
            _("Wait until that has ended."),
        )


def trouble(kind: JobKind, workspace: Workspace, challenge: Challenge, jobs: Iterable[Job]) -> WorkspacesError | None:
    """What `check` would raise."""
    try:
        check(kind, workspace, challenge, jobs)
    except WorkspacesError as error:
        return error
    return None


def act(store: Store, acts: Acts, workspace: Workspace, kind: JobKind, *, actor: str) -> Job:
    """Have the worker do it. The caller knows that `actor` is a member. Refused, Conflict, TooOften."""
    moving = store.jobs(states=UNDER_WAY, workspace_id=workspace.id, limit=20)
    check(kind, workspace, store.challenge(workspace.challenge), moving)
    if kind is JobKind.RESET:
        store.check_nothing_to_lose(workspace.id)
    acts.count(actor)
    return store.add_job(kind, workspace.id, actor=actor)
