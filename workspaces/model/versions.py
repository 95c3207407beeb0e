"""Snapshots, what they hold, and the images below them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SnapshotState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ARCHIVED = "archived"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


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
class ImageFinding:
    """One program, or one of several alike: whether an image has it, and what that means."""

    name: str
    present: bool
    required: bool
    path: str
    loss: str
    fix: str


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
