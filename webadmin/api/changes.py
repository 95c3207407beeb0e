"""Operations on what has changed in a workspace without a request, and on two versions compared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from webadmin.actions import spaces as actions
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input
from webadmin.api.models import ChangeReport, Job
from webadmin.api.operations import Id, get, post
from workspaces.errors import NotFound
from workspaces.model import JobKind, Report
from workspaces.rights import Right
from workspaces.scopes import Scope
from workspaces.store import found_changes

Number = Annotated[int, Field(ge=1, le=10**9, description="Of a version: 3 of v3.")]


class Pair(Input):
    """Two versions of the workspace."""

    old: Number
    new: Number


@post("/workspaces/{workspace_id}/changes", Scope.WORKSPACES, 202)
def look_at_changes(caller: Caller, workspace_id: Id) -> Job:
    """List what a snapshot would capture now, without a request."""
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    return Job.of(actions.look(caller.store, found.id, actor=caller.name))


@get("/workspaces/{workspace_id}/changes")
def show_workspace_changes(caller: Caller, workspace_id: Id) -> ChangeReport:
    """Show what a snapshot would capture, as it was when somebody looked last.

    404 until somebody has.
    """
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    return _report(caller.store.latest_report(JobKind.LOOK, str(found.id)), "Nobody has looked yet.")


@post("/workspaces/{workspace_id}/diff", Scope.READ, 202)
def compare_versions(caller: Caller, workspace_id: Id, body: Pair) -> Job:
    """Compare two versions of a workspace.

    Two that were compared are not compared again: the job that did it is answered.
    """
    workspace = caller.workspace(workspace_id, own=False)
    old, new = actions.pair(caller.store, workspace.id, body.old, body.new)
    report, job = actions.comparison(caller.store, old, new)
    if report is not None and job is not None:
        return Job.of(job)
    return Job.of(actions.compare(caller.store, old, new, actor=caller.name))


@get("/workspaces/{workspace_id}/diff")
def show_diff(caller: Caller, workspace_id: Id, query: Pair) -> ChangeReport:
    """Show what differs between two versions of a workspace.

    404 until they have been compared.
    """
    workspace = caller.workspace(workspace_id, own=False)
    old, new = actions.pair(caller.store, workspace.id, query.old, query.new)
    return _report(actions.comparison(caller.store, old, new)[0], "These versions have not been compared.")


def _report(found: Report | None, none: str) -> ChangeReport:
    changes = found_changes(found) if found is not None else None
    if changes is None:
        raise NotFound(none, "A job does that: ask for it with POST at the same address.")
    return ChangeReport.model_validate(changes)
