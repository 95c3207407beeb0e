"""Challenges, their workspaces, and who is on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


class WorkspaceState(StrEnum):
    """What is known of a workspace's container; the engine is the truth, the store its last sighting."""

    ABSENT = "absent"  # made at the first login
    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"  # the last attempt to start it failed; `state_detail` has the reason


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
