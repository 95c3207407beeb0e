"""The participant's blueprint, and one workspace as its member sees it."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from flask import Blueprint, redirect, url_for

from webadmin import access, session
from webadmin.actions import own, usage, versions
from webadmin.context import Door, door, store
from workspaces.model import (
    UNDER_WAY,
    Challenge,
    ChangeReport,
    Job,
    JobKind,
    Limits,
    Session,
    Snapshot,
    SnapshotState,
    Usage,
    Workspace,
    WorkspaceState,
)
from workspaces.snapshots.tree import Row, fold

bp = Blueprint("me", "webadmin", url_prefix="/me")
bp.before_request(access.require_login)

OPEN = (SnapshotState.REQUESTED, SnapshotState.APPROVED, SnapshotState.COMMITTING)
SHOWN, AT_FIRST = 100, 8  # requests listed for one workspace, and how many before the rest unfolds
ON_NOW = 20  # sessions
SOON = 86400.0  # before its closing time a challenge is about to close
ROWS, EACH, OPEN_FIRST = 200, 20, 6  # of the tree of changes, of one directory in it, directories open at first


@bp.app_template_global()
def clock() -> float:
    """Now, in seconds since the epoch."""
    return time.time()


class Space:
    """One workspace; what a page does not show is not read. `only`: its member has no other."""

    def __init__(self, workspace: Workspace, member: str, only: bool) -> None:
        self.workspace = workspace
        self.member = member
        self.only = only

    @cached_property
    def challenge(self) -> Challenge:
        return store().challenge(self.workspace.challenge)

    @property
    def limits(self) -> Limits:
        """What it may use: its own limits, and its challenge's where it has none."""
        return self.workspace.own_limits.over(self.challenge.limits)

    @cached_property
    def door(self) -> Door:
        """How to get in."""
        return door(self.member, self.workspace.ref, only=self.only)

    @cached_property
    def others(self) -> list[str]:
        """The other members."""
        return [name for name in self.workspace.members if name != self.member]

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        return store().snapshots(workspace_id=self.workspace.id, limit=SHOWN)

    @cached_property
    def open(self) -> Snapshot | None:
        """The request under way."""
        return next((s for s in self.snapshots if s.state in OPEN and s.requested_via != "auto"), None)

    @property
    def past(self) -> list[Snapshot]:
        """All others."""
        return [s for s in self.snapshots if s is not self.open]

    @cached_property
    def base(self) -> Snapshot | None:
        """The version that its files build on; None when that is another workspace's."""
        number = self.workspace.parent_id
        found = store().snapshot(number) if number else None
        return found if found and found.workspace_id == self.workspace.id else None

    @cached_property
    def kept(self) -> int:
        """How many of its versions can be restored, also those that its files do not build on."""
        return versions.kept(store(), self.workspace.id)

    @cached_property
    def report(self) -> ChangeReport | None:
        return store().changes(self.open.id) if self.open else None

    @property
    def tree(self) -> Row | None:
        """What the request under way would capture."""
        return fold(self.report, rows=ROWS, each=EACH, first=OPEN_FIRST) if self.report else None

    @cached_property
    def jobs(self) -> list[Job]:
        """What is being done to it, or waits to be."""
        return store().jobs(states=UNDER_WAY, workspace_id=self.workspace.id, limit=10)

    @property
    def other_jobs(self) -> list[Job]:
        """Those that are not about the request under way, and concern who works in it."""
        about = self.open.id if self.open else None
        return [j for j in self.jobs if j.kind in own.BUSY or (j.kind is JobKind.COMMIT and j.snapshot_id != about)]

    @cached_property
    def sessions(self) -> list[Session]:
        """The latest of those that are open in it, everybody's."""
        return store().sessions(self.workspace.id, limit=ON_NOW)

    @cached_property
    def now(self) -> Usage | None:
        """What it used in the latest minute; None when it does not run, or nobody looked yet."""
        return usage.latest(store(), self.workspace) if self.workspace.state is WorkspaceState.RUNNING else None

    @property
    def acts(self) -> tuple[JobKind, ...]:
        """What may be asked for in its state."""
        if self.workspace.state in (WorkspaceState.RUNNING, WorkspaceState.STARTING):
            return JobKind.STOP, JobKind.RESTART
        return (JobKind.START,)

    def trouble(self, kind: str) -> Any:
        """Why that cannot be asked for now, None when it can."""
        return own.trouble(JobKind(kind), self.workspace, self.challenge, self.jobs)

    @property
    def auto_left(self) -> int:
        """How many more requests of this person the challenge approves by itself today."""
        return store().auto_approvals_left(self.challenge.slug, self.member)


def spaces() -> list[Space]:
    """Those of the signed-in person."""
    name = session.me().name
    mine = store().workspaces_of(name)
    return [Space(workspace, name, len(mine) == 1) for workspace in mine]


def space(workspace_id: int) -> Space:
    """NotFound alike when it is another's or nobody's."""
    name = session.me().name
    mine = store().workspaces_of(name)
    return Space(access.own_among(mine, workspace_id), name, len(mine) == 1)


def home(workspace_id: int) -> Any:
    """To the page of a workspace."""
    return redirect(url_for("me.workspace", workspace_id=workspace_id))
