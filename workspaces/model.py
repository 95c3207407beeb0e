"""The things this program knows about, as frozen dataclasses; no behaviour, no I/O.

Times are seconds since the epoch, in UTC, as float. Sizes are bytes. `None` means "not yet" or "not set".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Role(StrEnum):
    PARTICIPANT = "participant"
    REVIEWER = "reviewer"  # decides on requests; what each may do is in rights.py
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


class Recorded(StrEnum):
    """Which sessions of a challenge are recorded."""

    NONE = "none"
    TERMINALS = "terminals"  # what terminals show; never what is typed where it is not shown


class Severity(StrEnum):
    """Of an announcement."""

    INFO = "info"
    WARNING = "warning"
    URGENT = "urgent"


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


class FreezeMode(StrEnum):
    """What becomes of a challenge's workspaces once each has been committed."""

    COMMIT = "commit"  # nothing more
    STOP = "stop"  # they are stopped, and logins are refused until the challenge is thawed
    READ_ONLY = "read-only"  # logins go on, into a container whose files cannot change


class FrozenState(StrEnum):
    """How far a workspace is that is frozen with its challenge."""

    WAITING = "waiting"
    COMMITTED = "committed"
    UNCHANGED = "unchanged"  # since its last version, or since its image
    NEVER_STARTED = "never started"
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


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    role: Role
    has_password: bool
    disabled: bool
    created_at: float
    has_totp: bool = False  # a password alone does not log in
    email: str | None = None  # where news are sent to, if this host sends mail


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
class SignIn:
    """A browser that is signed in to the pages; `via` is how: password, passkey, oidc or invitation.

    `seen_at` is when the person last did something, `proven_at` when he last proved who he is.
    """

    id: int
    user: str
    via: str
    address: str
    browser: str
    created_at: float
    seen_at: float
    proven_at: float


@dataclass(frozen=True, slots=True)
class Recording:
    """What a session's terminal showed: `file` is its name in recordings/, `size` its bytes, `seconds` its length.

    `ended_at` is None while it is written; size and length are known then. `left_out` counts bytes that came too fast,
    or that the disk did not take.
    """

    session_id: int
    file: str
    began_at: float
    ended_at: float | None
    size: int
    seconds: float
    left_out: int
    removed_at: float | None  # since then there is only the record


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody looked at another's session, from `at` to `last_at`; `how` is watch, replay or export."""

    id: int
    session_id: int
    actor: str
    how: str
    at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """A text for everybody, or for those of `challenge`, from `from_at` until `until_at` (None: until it is ended)."""

    id: int
    text: str
    severity: Severity
    challenge: str | None
    from_at: float
    until_at: float | None
    created_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Passkey:
    """A WebAuthn credential: its id in base64url, its public key in COSE, and what its owner calls it."""

    id: int
    user: str
    credential: str
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...]
    name: str
    added_at: float
    last_used_at: float | None
    last_used_from: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """An account at an OpenID provider that signs `user` in; `shown` is what it is called there, for people to read."""

    id: int
    user: str
    issuer: str
    subject: str
    shown: str
    linked_at: float
    last_used_at: float | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """What lets `user` set a password until `expires_at`."""

    id: int
    user: str
    invited_by: str
    invited_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows to the API in the name of `user`; `hint` is how its secret begins.

    `scopes` are the names of what it may be used for (scopes.py).
    """

    id: int
    user: str
    name: str
    scopes: tuple[str, ...]
    hint: str
    created_at: float
    expires_at: float
    last_used_at: float | None
    last_used_from: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use: cores (fractions allowed), bytes of memory, processes."""

    cpus: float = 1.0
    memory: int = 2 << 30
    pids: int = 512


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """What one workspace may use in place of what its challenge says; None: what the challenge says."""

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None

    def over(self, limits: Limits) -> Limits:
        """What holds for it where its challenge has `limits`."""
        return Limits(
            limits.cpus if self.cpus is None else self.cpus,
            limits.memory if self.memory is None else self.memory,
            limits.pids if self.pids is None else self.pids,
        )


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
    keep_last: int | None = None  # versions of each workspace that are kept at least; None: all
    keep_submitted: bool = True  # also all that a person asked for
    auto_approve: int = 0  # requests of a person that are approved without an administrator, each UTC day
    at_close: FreezeMode | None = None  # begun by the program itself when it closes
    downloads: bool = False  # whether members may download their versions
    frozen: FreezeMode | None = None  # since somebody, or its closing time, froze it
    sbom: Sbom = Sbom.NONE
    record: Recorded = Recorded.NONE


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
    read_only: bool = False  # frozen: its container's files cannot change
    own_limits: OwnLimits = OwnLimits()

    @property
    def ref(self) -> str:
        """`challenge/name`, unique on this host."""
        return f"{self.challenge}/{self.name}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a workspace: mean cores and bytes over the network since the look before, the rest at that moment."""

    cpus: float
    memory: int
    pids: int
    disk: int | None  # bytes written over its image, as last known
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace used from `at` on for `seconds`, from `samples` looks: means, and the `most` of them.

    In cores and bytes. A time in which it did not run has no samples, and so no Usage.
    """

    at: float
    seconds: int
    samples: int
    cpus: float
    cpus_most: float
    memory: int
    memory_most: int
    pids_most: int
    disk: int | None
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one moment, but `cpus`, which were busy on average since the look before.

    `disk` is of the fuller of the file systems of the state directory and of the engine. `load` is that of one minute.
    """

    cpus: float
    cores: int
    memory: int
    memory_total: int
    disk: int
    disk_total: int
    load: float


@dataclass(frozen=True, slots=True)
class HostUsage:
    """What the host used from `at` on for `seconds`, as with Usage; the totals are the last ones seen."""

    at: float
    seconds: int
    samples: int
    cpus: float
    cpus_most: float
    cores: int
    memory: int
    memory_most: int
    memory_total: int
    disk: int
    disk_total: int
    load: float


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the image: kind is `added`, `changed` or `removed`; size in bytes for files."""

    kind: str
    path: str
    size: int = 0
    mode: int = 0  # st_mode of what is there now; 0 for removed
    what: tuple[str, ...] = ()  # in what a changed one differs, where that is known: content, mode, owner …


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in a changed file: the kind of a secret, or the file of a data mount that it is a copy of."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that was added (`before` None), removed (`after` None) or has another version now."""

    system: str  # dpkg, apk, rpm, pip or conda
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Changed paths below a directory that a report counts without naming them; size in bytes."""

    path: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What a snapshot would capture at `at`, counted against image `since`.

    `entries` holds at most a few thousand files and links, `unlisted` the rest by directory (the totals count all);
    `warnings` are sentences. Packages of dpkg, apk and rpm are counted against `packages_since`. `secrets` never
    hold a secret. `examined_at` is when contents were looked into, None when they were not. `countless`: so many paths
    changed that none was counted.
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
    unlisted: tuple[Unlisted, ...] = ()
    secrets: tuple[Finding, ...] = ()
    copies: tuple[Finding, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    packages_since: str = ""
    examined_at: float | None = None
    countless: bool = False

    @property
    def paths(self) -> int:
        """How many were added, changed and removed, as far as they were counted."""
        return self.added + self.changed + self.removed

    @property
    def is_nothing(self) -> bool:
        """Nothing has changed."""
        return not self.paths and not self.countless


@dataclass(frozen=True, slots=True)
class Command:
    """How a version is to be run, in place of what its base image says; empty: not named."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


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
    pruned_at: float | None = None  # since then there is only the record
    command: Command | None = None
    captured_at: float | None = None  # just before the engine took it: what changed later may not be in it
    paused_seconds: float | None = None  # that its commit took while the workspace stood still; None: it did not run
    statement: str | None = None  # signed, a DSSE envelope; made when it is archived
    registry_ref: str | None = None  # what it was last pushed as, host/repository:vN
    pushed_at: float | None = None
    sbom_digest: str | None = None  # of the list's manifest in the archive


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


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image of the engine that is no version, as the worker saw it last; `created_at` is its own time.

    `findings` are what was found in it at `checked_at`: for each program whether it is there.
    """

    id: str
    refs: tuple[str, ...]
    size: int
    layers: int
    created_at: float
    seen_at: float
    checked_at: float | None = None
    findings: tuple[ImageFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFinding:
    """One program, or one of several alike: whether an image has it, and what that means."""

    name: str
    present: bool
    required: bool
    path: str
    loss: str
    fix: str


@dataclass(frozen=True, slots=True)
class ChallengeCounts:
    """How many of each a challenge has: requests that wait, versions that are not pruned."""

    workspaces: int = 0
    running: int = 0
    requests: int = 0
    versions: int = 0


@dataclass(frozen=True, slots=True)
class NewsItem:
    """One sentence for one person about what happened; unread while `read_at` is None."""

    id: int
    at: float
    kind: str  # of the event that it tells of
    workspace: str | None
    snapshot_id: int | None
    job_id: int | None
    text: str
    read_at: float | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of events; `key` names the file with its secret."""

    id: int
    url: str
    key: str
    created_at: float


class DeliveryState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"  # given up


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail to `user`, or a call of webhook `webhook_id`; the receiver can tell repetitions by `token`.

    `payload` is the JSON body of a webhook; of a mail it is JSON with `subject` and `text`.
    """

    id: int
    token: str
    user: str | None
    webhook_id: int | None
    target: str  # address or URL as it is now; empty when the person has no address any more
    kind: str
    workspace: str | None
    payload: str
    state: DeliveryState
    attempts: int
    not_before: float
    error: str | None
    created_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Freeze:
    """One freezing of a challenge; `closes_at` is the closing time that began it, None when a person did."""

    id: int
    challenge: str
    mode: FreezeMode
    requested_by: str
    closes_at: float | None
    began_at: float
    ended_at: float | None  # when the last of its workspaces was done
    thawed_at: float | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """What became of one workspace; `snapshot_id` is the version that it was committed as, or had not changed since."""

    freeze_id: int
    workspace_id: int
    workspace: str  # ref
    state: FrozenState
    snapshot_id: int | None
    version: int | None
    job_id: int
    detail: str
    done_at: float | None


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for those who have a terminal open in a workspace."""

    id: int
    workspace_id: int
    text: str
    at: float


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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Page `page` of a list of `total` items, of `size` each, in the order `sort` (with `-` before it: downwards)."""

    items: tuple[T, ...]
    total: int
    page: int  # from 1
    size: int
    sort: str

    @property
    def pages(self) -> int:
        """How many there are, at least one."""
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        """The number of the first item in the whole list, from 1; 0 of an empty list."""
        return (self.page - 1) * self.size + 1 if self.items else 0

    @property
    def last(self) -> int:
        """The number of the last item in the whole list."""
        return self.first + len(self.items) - 1 if self.items else 0


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """The next items of a list that is read by their ids; `next` is the id to go on after, None at the end."""

    items: tuple[T, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class WorkspaceLine:
    """A workspace as a list shows it: what is done to it now, its open request, its latest version, who is on."""

    workspace: Workspace
    job: Job | None  # under way, or the next that waits
    open: Snapshot | None  # requested, approved or being committed, by a person
    version: int | None
    version_at: float | None
    on: int  # sessions


@dataclass(frozen=True, slots=True)
class UserLine:
    """An account as a list shows it; `workspaces` by id with their refs, `last_login_at` over SSH or the web."""

    user: User
    workspaces: tuple[tuple[int, str], ...]
    last_login_at: float | None
    keys: int


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """A snapshot as a list shows it, with the last job about it that was not a restore."""

    snapshot: Snapshot
    job: Job | None
