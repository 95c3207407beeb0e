"""What the worker is asked to do, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class JobKind(StrEnum):
    INSPECT = "inspect"  # list what a requested snapshot would capture
    COMMIT = "commit"
    ARCHIVE = "archive"
    PUSH = "push"  # an archived version to the registry
    SBOM = "sbom"  # list what is in an archived version
    RESTORE = "restore"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RESET = "reset"
    REMOVE = "remove"
    FREEZE = "freeze"  # one workspace of a challenge that is frozen
    THAW = "thaw"
    LIMITS = "limits"  # give a container that exists the limits that its workspace has now
    LOOK = "look"  # list what a snapshot would capture now, without a request
    DIFF = "diff"  # list what differs between two versions
    VERIFY = "verify"  # read the whole archive again
    GC = "gc"  # what no version in the archive refers to: counted, or deleted
    USAGE = "usage"  # what the archive holds, and for which challenges
    PRUNE = "prune"  # remove the versions that the challenges' rules do not keep
    IMAGES = "images"  # note the base images that the engine has, and what one of them lacks


# These need the version only: they go on when its workspace is removed.
OF_VERSIONS = (JobKind.ARCHIVE, JobKind.PUSH, JobKind.SBOM)

# These are about the host, and no workspace's.
OF_HOST = (JobKind.VERIFY, JobKind.GC, JobKind.USAGE, JobKind.PRUNE, JobKind.IMAGES)


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNDER_WAY = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    id: int
    kind: JobKind
    state: JobState
    workspace_id: int  # 0 of one about the host
    workspace: str  # empty of one about the host
    snapshot_id: int | None
    requested_by: str
    progress: float  # 0 to 1
    message: str  # what it is doing, or did last
    error: str | None
    attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    arguments: Mapping[str, str] = field(default_factory=dict)  # what it is told beside workspace and snapshot
    priority: int = 50  # 0 to 100, higher first
    retry_at: float | None = None  # not before then, while it waits for its next try
    cancelled_by: str | None = None  # who wants it to end; it runs on until it can
    seen_at: float | None = None  # when it last told what it is doing
    bytes_done: int | None = None  # of what it is doing now, where that is known
    bytes_total: int | None = None
    expected_at: float | None = None  # when that will be done at the pace so far
    waits_for: str | None = None  # engine, archive or registry, which did not answer when it was last tried
    waits_since: float | None = None  # when one of them first did not answer
    behind: int | None = None  # the job that has to end before it can begin


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a job did at `at`."""

    id: int
    at: float
    line: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a job found, as JSON; `about` keeps those of one workspace, or of one pair of versions, apart."""

    job_id: int
    kind: JobKind
    about: str
    at: float
    document: str
