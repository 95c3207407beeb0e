"""The things this program knows about, as frozen dataclasses; no behaviour, no I/O.

Times are seconds since the epoch, in UTC, as float. Sizes are bytes. `None` means "not yet" or "not set".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    PARTICIPANT = "participant"
    ADMIN = "admin"


class Network(StrEnum):
    OPEN = "open"  # the internet, and nothing private: no host, no metadata address, no other workspace
    NONE = "none"  # loopback only


class Forwarding(StrEnum):
    """What a person's SSH client may open through the gateway, in the container's network and nowhere else."""

    LOCAL = "local"  # -L, -D, -W: connections into it, TCP or unix socket
    REMOTE = "remote"  # -R: connections out of it
    AGENT = "agent"  # -A: the person's keys, lent
    X11 = "x11"  # -X, -Y


class Sbom(StrEnum):
    """The form in which the packages of each version of a challenge are listed."""

    NONE = "none"
    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


class WorkspaceState(StrEnum):
    """What is known of a workspace's container; the engine is the truth, the store its last sighting."""

    ABSENT = "absent"  # made at the first login
    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"  # the last attempt to start it failed; `state_detail` has the reason


class SnapshotState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ARCHIVED = "archived"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


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


# These need the version only: they go on when its workspace is removed.
OF_VERSIONS = (JobKind.ARCHIVE, JobKind.PUSH, JobKind.SBOM)


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    role: Role
    has_password: bool
    disabled: bool
    created_at: float
    has_totp: bool = False  # a password alone does not log in


@dataclass(frozen=True, slots=True)
class Key:
    """A public key; `fingerprint` is OpenSSH's `SHA256:…`, `line` is `type base64 comment`.

    `options` are those of authorized_keys(5) in its syntax, e.g. `restrict,from="192.0.2.0/24"`.
    """

    id: int
    user: str
    fingerprint: str
    line: str
    added_at: float
    last_used_at: float | None
    last_used_from: str | None
    options: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose user certificates log in: to the workspaces of `challenge`, or to all (None)."""

    id: int
    challenge: str | None
    fingerprint: str
    line: str
    added_at: float


@dataclass(frozen=True, slots=True)
class Session:
    """One SSH session: `kind` is shell, exec or sftp. `process` names the gateway process that carries it."""

    id: int
    user: str
    workspace_id: int
    workspace: str  # ref
    kind: str
    address: str
    started_at: float
    ended_at: float | None
    process: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use: cores (fractions allowed), bytes of memory, processes."""

    cpus: float = 1.0
    memory: int = 2 << 30
    pids: int = 512


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host (`source`, absolute) seen read-only inside at `target`."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Challenge:
    id: int
    slug: str
    image: str
    limits: Limits
    network: Network
    mounts: tuple[Mount, ...]
    login_user: str  # the account inside the container that a login gets, "root" unless the challenge says otherwise
    opens_at: float | None
    closes_at: float | None
    created_at: float
    forwarding: tuple[Forwarding, ...] = tuple(Forwarding)
    idle_seconds: float | None = None  # after which a session in which nothing moves ends
    session_seconds: float | None = None  # after which any session ends
    sbom: Sbom = Sbom.NONE


@dataclass(frozen=True, slots=True)
class Workspace:
    id: int
    challenge: str
    name: str
    members: tuple[str, ...]
    image: str | None  # what its container is made from when not the challenge's image: a restored version
    parent_id: int | None  # the snapshot it was restored from or last committed as
    state: WorkspaceState
    state_detail: str
    state_at: float
    last_login_at: float | None
    created_at: float
    disk_bytes: int | None = None  # that its container has written, at `disk_at`
    disk_at: float | None = None

    @property
    def ref(self) -> str:
        """`challenge/name`, unique on this host."""
        return f"{self.challenge}/{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the image: kind is `added`, `changed` or `removed`; size in bytes for files."""

    kind: str
    path: str
    size: int = 0
    mode: int = 0  # st_mode of what is there now; 0 for removed


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What a snapshot would capture at `at`, counted against image `since`.

    `entries` holds at most a few thousand files and links (the totals count all); `warnings` are sentences.
    """

    at: float
    since: str
    added: int
    changed: int
    removed: int
    bytes: int
    entries: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    not_captured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: int
    workspace_id: int
    workspace: str  # ref, `challenge/name`
    message: str
    state: SnapshotState
    requested_by: str
    requested_via: str  # ssh | web | cli, or auto: the program itself
    requested_at: float
    decided_by: str | None = None
    decided_at: float | None = None
    reason: str | None = None  # of a rejection or a failure
    version: int | None = None
    parent_id: int | None = None
    image_ref: str | None = None
    image_id: str | None = None
    diff_ids: tuple[str, ...] = ()
    manifest_digest: str | None = None
    size: int | None = None  # bytes that this version adds to its base, uncompressed
    committed_at: float | None = None
    archived_at: float | None = None
    pinned: bool = False  # kept by every rule of retention
    statement: str | None = None  # signed, a DSSE envelope; made when it is archived
    registry_ref: str | None = None  # what it was last pushed as, host/repository:vN
    pushed_at: float | None = None
    sbom_digest: str | None = None  # of the list's manifest in the archive


@dataclass(frozen=True, slots=True)
class Job:
    id: int
    kind: JobKind
    state: JobState
    workspace_id: int
    workspace: str
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


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the record of who did what; `data` has the particulars."""

    id: int
    at: float
    actor: str
    kind: str
    workspace: str | None
    snapshot_id: int | None
    data: dict[str, str] = field(default_factory=dict)
