"""What holds for each kind of job, in one table: a new kind is one row more here and one handler in the worker.

Pure. The store orders the queue by it, the worker bounds its threads by it, and people are told of what it calls late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workspaces.model import OF_HOST, OF_VERSIONS, Job, JobKind, JobState

PRIORITY_MAX = 100
AGEING_SECONDS = 30.0  # of waiting that weigh as much as one more of priority: the lowest is first within an hour

MINUTE, HOUR = 60.0, 3600.0
OUTAGE_SECONDS = 24 * HOUR  # that a job waits for an engine, archive or registry that does not answer


@dataclass(frozen=True, slots=True)
class Kind:
    """`priority` is that of a new job, 0 to PRIORITY_MAX, higher first.

    At most `at_once` of them run together (0: as many as there are places). One that takes longer than `longest`
    seconds has failed; one that tells nothing for `quiet` seconds is shown as stalled. What is `prompt` somebody
    waits for at a terminal, and a place is kept for it. What is `ordered` changes the container: it never runs beside
    another such one of the same workspace, and overtakes an earlier one only as PASSING says. What `deletes` may leave
    nothing of the container, so that nothing looks into it meanwhile.
    """

    priority: int
    at_once: int
    longest: float
    quiet: float
    prompt: bool = False
    ordered: bool = True
    deletes: bool = False


KINDS: Mapping[JobKind, Kind] = {
    JobKind.START: Kind(80, 0, 15 * MINUTE, 3 * MINUTE, prompt=True),
    JobKind.STOP: Kind(80, 0, 15 * MINUTE, 3 * MINUTE, prompt=True),
    JobKind.RESTART: Kind(80, 0, 15 * MINUTE, 3 * MINUTE, prompt=True),
    JobKind.RESET: Kind(70, 2, HOUR, 15 * MINUTE, deletes=True),
    JobKind.REMOVE: Kind(70, 2, HOUR, 15 * MINUTE, deletes=True),
    JobKind.RESTORE: Kind(70, 2, 4 * HOUR, 15 * MINUTE, deletes=True),
    JobKind.INSPECT: Kind(60, 2, 30 * MINUTE, 10 * MINUTE, ordered=False),
    JobKind.COMMIT: Kind(50, 2, 4 * HOUR, 30 * MINUTE),
    JobKind.FREEZE: Kind(40, 2, 4 * HOUR, 30 * MINUTE, deletes=True),
    JobKind.THAW: Kind(40, 2, HOUR, 15 * MINUTE, deletes=True),
    JobKind.ARCHIVE: Kind(20, 1, 12 * HOUR, 5 * MINUTE, ordered=False),
    JobKind.PUSH: Kind(15, 1, 12 * HOUR, 5 * MINUTE, ordered=False),
    JobKind.SBOM: Kind(10, 1, HOUR, 30 * MINUTE, ordered=False),
    JobKind.LIMITS: Kind(80, 0, 15 * MINUTE, 6 * MINUTE, prompt=True),
    JobKind.LOOK: Kind(60, 1, 30 * MINUTE, 10 * MINUTE, ordered=False),
    JobKind.DIFF: Kind(60, 1, HOUR, 30 * MINUTE, ordered=False),
    JobKind.IMAGES: Kind(60, 1, 15 * MINUTE, 5 * MINUTE, ordered=False),
    JobKind.USAGE: Kind(55, 1, HOUR, 30 * MINUTE, ordered=False),
    JobKind.PRUNE: Kind(30, 1, 4 * HOUR, HOUR, ordered=False),
    JobKind.GC: Kind(30, 1, 4 * HOUR, HOUR, ordered=False),
    JobKind.VERIFY: Kind(10, 1, 24 * HOUR, HOUR, ordered=False),
}
ORDERED = tuple(kind for kind, rule in KINDS.items() if rule.ordered)
DELETING = tuple(kind for kind, rule in KINDS.items() if rule.deletes)
LOOKING = (JobKind.INSPECT, JobKind.LOOK)  # into a container, which must not be deleted meanwhile
BEHIND = (*OF_VERSIONS, *OF_HOST)  # may go on for hours while people wait for other things
# What goes on although an earlier job of its workspace waits for archive or registry: it ends in the same, whichever of
# them is first. What is written after a start is kept by the restore, unless that is to discard what it finds.
PASSING: Mapping[JobKind, tuple[JobKind, ...]] = {
    JobKind.START: (JobKind.RESTORE,),
    JobKind.RESTART: (JobKind.RESTORE,),
    JobKind.LIMITS: (JobKind.RESTORE, JobKind.FREEZE),
}
HARMLESS = (JobKind.LIMITS, JobKind.LOOK, JobKind.DIFF, JobKind.IMAGES, JobKind.USAGE, JobKind.VERIFY)  # when repeated
STEPS = (JobKind.INSPECT, JobKind.COMMIT, *OF_VERSIONS)  # of one snapshot: one after the other


def passes(kind: JobKind, other: Job) -> bool:
    """Whether a job of that kind may be done before `other`, which was asked for earlier and waits."""
    keeps = kind is JobKind.LIMITS or "discard" not in other.arguments
    away = other.state is JobState.QUEUED and other.waits_for in ("archive", "registry")
    return away and keeps and other.kind in PASSING.get(kind, ())
