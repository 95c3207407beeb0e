"""What is answered: the things of workspaces.model as JSON. Times are RFC 3339 in UTC, sizes bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from workspaces import model
from workspaces.jobtext import condition
from workspaces.model import (
    JobKind,
    JobState,
    Role,
    SnapshotState,
    WorkspaceState,
)
from workspaces.rights import Right
from workspaces.scopes import Scope

T = TypeVar("T")
_FIRST, _LAST = -62135596800.0, 253402300799.0  # of the years that a date can have


def _moment(value: Any) -> Any:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(min(max(value, _FIRST), _LAST), UTC)
    return value


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    PlainSerializer(_written, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class Part(Out, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = None
    """The address of the next part; null at the end."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__}List"


class OwnLimits(Out):
    """What one workspace may use in place of what its challenge says; null: what the challenge says."""

    cpus: float | None
    memory: int | None
    pids: int | None


class Workspace(Out):
    """One persistent container in a challenge."""

    id: int
    ref: str
    """`challenge/name`."""
    challenge: str
    name: str
    members: list[str]
    image: str | None
    """What its container is made from when not the challenge's image."""
    parent_id: int | None
    """The snapshot it was restored from or last committed as."""
    state: WorkspaceState
    state_detail: str
    state_at: Moment
    last_login_at: Moment | None
    created_at: Moment
    disk_bytes: int | None
    """That its container has written, at `disk_at`."""
    disk_at: Moment | None
    read_only: bool
    own_limits: OwnLimits


class Command(Out):
    """How a version is to be run."""

    entrypoint: list[str]
    cmd: list[str]


class Snapshot(Out):
    """One request and what became of it; once committed it is version N of its workspace."""

    id: int
    workspace_id: int
    workspace: str
    message: str
    state: SnapshotState
    requested_by: str
    requested_via: str
    """ssh, web (and the API), cli, or auto: the program itself."""
    requested_at: Moment
    decided_by: str | None
    decided_at: Moment | None
    reason: str | None
    """Of a rejection or a failure."""
    version: int | None
    parent_id: int | None
    image_ref: str | None
    image_id: str | None
    manifest_digest: str | None
    size: int | None
    """That it adds to its base, uncompressed."""
    committed_at: Moment | None
    archived_at: Moment | None
    pinned: bool
    pruned_at: Moment | None
    """Since then there is only the record."""
    command: Command | None
    captured_at: Moment | None
    paused_seconds: float | None
    registry_ref: str | None
    pushed_at: Moment | None
    sbom_digest: str | None


class Change(Out):
    kind: str
    path: str
    size: int
    mode: int
    what: list[str]


class Finding(Out):
    path: str
    what: str


class PackageChange(Out):
    system: str
    name: str
    before: str | None
    after: str | None


class Unlisted(Out):
    path: str
    count: int
    size: int


class ChangeReport(Out):
    """What a snapshot would capture, or captured, counted against image `since`."""

    at: Moment
    since: str
    added: int
    changed: int
    removed: int
    bytes: int
    entries: list[Change]
    """At most a few thousand; the totals count all."""
    warnings: list[str]
    not_captured: list[str]
    unlisted: list[Unlisted]
    """The rest, by directory."""
    secrets: list[Finding]
    copies: list[Finding]
    packages: list[PackageChange]
    packages_since: str
    examined_at: Moment | None
    countless: bool


class Job(Out):
    """A durable unit of background work."""

    id: int
    kind: JobKind
    state: JobState
    condition: str
    """The state in a word for people; it says also whether it is stalled or waits for something."""
    workspace_id: int
    workspace: str
    snapshot_id: int | None
    requested_by: str
    progress: float
    """0 to 1."""
    message: str
    error: str | None
    attempts: int
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    arguments: dict[str, str]
    priority: int
    retry_at: Moment | None
    cancelled_by: str | None
    seen_at: Moment | None
    bytes_done: int | None
    bytes_total: int | None
    expected_at: Moment | None
    waits_for: str | None
    waits_since: Moment | None
    behind: int | None
    """The job that has to end, or be cancelled, before this one can begin."""

    @classmethod
    def of(cls, job: model.Job) -> Job:
        fields = {name: getattr(job, name) for name in cls.model_fields if name != "condition"}
        return cls.model_validate({**fields, "condition": condition(job)})


class LogLine(Out):
    id: int
    at: Moment
    line: str


class Session(Out):
    """One SSH session."""

    id: int
    user: str
    workspace_id: int
    workspace: str
    kind: str
    address: str
    """Empty for a member of the workspace who may not see its challenge, unless the session is his own."""
    started_at: Moment
    ended_at: Moment | None


class Key(Out):
    id: int
    user: str
    fingerprint: str
    line: str
    added_at: Moment
    last_used_at: Moment | None
    last_used_from: str | None
    options: str


class User(Out):
    """A person with an account."""

    id: int
    name: str
    role: Role
    has_password: bool
    disabled: bool
    created_at: Moment
    has_totp: bool
    email: str | None


class UserLine(User):
    """An account as the list shows it."""

    workspaces: list[str]
    keys: int
    last_login_at: Moment | None


class Event(Out):
    """One line of the record of who did what."""

    id: int
    at: Moment
    actor: str
    kind: str
    workspace: str | None
    snapshot_id: int | None
    data: dict[str, str]


class NewsItem(Out):
    id: int
    at: Moment
    kind: str
    workspace: str | None
    snapshot_id: int | None
    job_id: int | None
    text: str
    read_at: Moment | None


class Token(Out):
    """A token, without its secret."""

    id: int
    user: str
    name: str
    scopes: list[Scope]
    hint: str
    """How its secret begins."""
    created_at: Moment
    expires_at: Moment
    last_used_at: Moment | None
    last_used_from: str | None


class Me(Out):
    """Who calls, and what he may do with this token."""

    user: User
    token: Token
    rights: list[Right]
    """That the account has everywhere."""
    challenges: dict[str, Role]
    """Its roles in single challenges."""


class HostUsage(Out):
    """What the host used for `seconds` from `at` on: means, and the most of them, in cores and bytes."""

    at: Moment
    seconds: int
    cpus: float
    cpus_most: float
    cores: int
    memory: int
    memory_most: int
    memory_total: int
    disk: int
    disk_total: int
    load: float


class Archive(Out):
    """What the archive of versions holds."""

    versions: int
    pruned: int
    """Of which only the record is left."""
    bytes: int
    """That all versions add to their bases, uncompressed."""
    waiting: int
    """Committed, and not yet archived."""


class ProblemDetail(Out):
    """What is wrong with one part of a request."""

    detail: str
    pointer: Annotated[str | None, Field(default=None)] = None
    """Of a body: which part, as a JSON pointer."""
    parameter: Annotated[str | None, Field(default=None)] = None
    """Of an address: which parameter."""


class Problem(Out):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    """What happened, in a sentence."""
    instance: str
    hint: str | None = None
    """What to do about it."""
    errors: list[ProblemDetail] | None = None
