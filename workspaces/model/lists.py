"""Lists as they are shown: a page or a slice of them, and lines that gather what belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from workspaces.model.jobs import Job
from workspaces.model.people import User
from workspaces.model.versions import Snapshot
from workspaces.model.workspaces import Workspace

T = TypeVar("T")


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
    """A workspace as a list shows it, with what is done to it now: under way, or the next that waits."""

    workspace: Workspace
    job: Job | None


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


@dataclass(frozen=True, slots=True)
class ChallengeCounts:
    """How many of each a challenge has: requests that wait, versions that are not pruned."""

    workspaces: int = 0
    running: int = 0
    requests: int = 0
    versions: int = 0
