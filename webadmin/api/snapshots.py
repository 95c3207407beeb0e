"""Operations on snapshots: what was asked for, the decisions on it, and versions."""

from __future__ import annotations

from typing import Annotated

from flask import Response
from pydantic import StringConstraints

from webadmin import downloads
from webadmin.actions import versions as actions
from webadmin.actions.sessions import own
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import ChangeReport, Job, Part, Snapshot
from webadmin.api.operations import Id, delete, get, post, put
from webadmin.api.workspaces import confirm
from workspaces.errors import NotFound
from workspaces.rights import Right
from workspaces.scopes import Scope


class Reason(Input):
    reason: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    """What the person will read."""


class Restore(Input):
    confirm: Annotated[str, StringConstraints(max_length=100)]
    """The `challenge/name` of the workspace that becomes this version, to say that it is meant."""
    into: Id | None = None
    """Another workspace to put it into; else the one that it is a version of."""
    discard: bool = False
    """Take no version of what is there now: it is lost."""


@get("/snapshots")
def list_snapshots(caller: Caller, query: Listed) -> Part[Snapshot]:
    """List requests and versions, the newest first.

    Those of the challenges that you may see; for a participant those that he asked for.
    """
    q = query.q
    if not caller.rights.is_staff:
        q = f"{own(caller.user)} {q}"
    within = caller.rights.scope(Right.SEE) if caller.rights.is_staff else None
    walked = caller.store.walk_snapshots(q.strip(), after=query.after, size=query.limit, newest=True, within=within)
    return paging.of(Snapshot, [line.snapshot for line in walked.items], walked.next)


@get("/workspaces/{workspace_id}/snapshots", tag="snapshots")
def list_workspace_snapshots(caller: Caller, workspace_id: Id) -> Part[Snapshot]:
    """List all requests and versions of a workspace, the newest first."""
    found = caller.workspace(workspace_id)
    return paging.of(Snapshot, caller.store.snapshots(workspace_id=found.id, limit=1000))


@get("/snapshots/{snapshot_id}")
def show_snapshot(caller: Caller, snapshot_id: Id) -> Snapshot:
    """Show a request or version."""
    return Snapshot.model_validate(caller.snapshot(snapshot_id))


@get("/snapshots/{snapshot_id}/changes")
def show_changes(caller: Caller, snapshot_id: Id) -> ChangeReport:
    """Show what a snapshot would capture, or captured.

    404 until it has been looked into.
    """
    found = caller.store.changes(caller.snapshot(snapshot_id).id)
    if found is None:
        raise NotFound("What it changes has not been looked into.", "A job does that, soon after the request.")
    return ChangeReport.model_validate(found)


@post("/snapshots/{snapshot_id}/approve", Scope.SNAPSHOTS, 202)
def approve_snapshot(caller: Caller, snapshot_id: Id) -> Job:
    """Approve a request.

    The job that is answered commits it; another one archives it then.
    """
    found = caller.snapshot(snapshot_id, Right.DECIDE, own=False)
    return Job.of(actions.approve(caller.store, found.id, actor=caller.name))


@post("/snapshots/{snapshot_id}/reject", Scope.SNAPSHOTS)
def reject_snapshot(caller: Caller, snapshot_id: Id, body: Reason) -> Snapshot:
    """Reject a request with a reason."""
    found = caller.snapshot(snapshot_id, Right.DECIDE, own=False)
    actions.reject(caller.store, found.id, body.reason, actor=caller.name)
    return Snapshot.model_validate(caller.store.snapshot(found.id))


@post("/snapshots/{snapshot_id}/withdraw", Scope.SNAPSHOTS)
def withdraw_snapshot(caller: Caller, snapshot_id: Id) -> Snapshot:
    """Take back a request that nobody has decided."""
    found = caller.snapshot(snapshot_id, Right.WORKSPACES)
    caller.store.withdraw_snapshot(found.id, actor=caller.name)
    return Snapshot.model_validate(caller.store.snapshot(found.id))


@post("/snapshots/{snapshot_id}/retry", Scope.SNAPSHOTS, 202)
def retry_snapshot(caller: Caller, snapshot_id: Id) -> Job:
    """Try a failed snapshot again."""
    found = caller.snapshot(snapshot_id, Right.DECIDE, own=False)
    return Job.of(caller.store.retry_snapshot(found.id, actor=caller.name))


@post("/snapshots/{snapshot_id}/inspect", Scope.SNAPSHOTS, 202)
def inspect_snapshot(caller: Caller, snapshot_id: Id) -> Job:
    """List again what an undecided snapshot would capture now."""
    found = caller.snapshot(snapshot_id, Right.DECIDE, own=False)
    return Job.of(actions.inspect(caller.store, found, actor=caller.name))


@put("/snapshots/{snapshot_id}/pin", Scope.SNAPSHOTS)
def pin_snapshot(caller: Caller, snapshot_id: Id) -> Snapshot:
    """Keep a version, whatever the rules of retention say."""
    found = caller.snapshot(snapshot_id, Right.WORKSPACES, own=False)
    return Snapshot.model_validate(caller.store.pin_snapshot(found.id, True, actor=caller.name))


@delete("/snapshots/{snapshot_id}/pin", Scope.SNAPSHOTS, 200)
def unpin_snapshot(caller: Caller, snapshot_id: Id) -> Snapshot:
    """Leave a version to the rules of retention again."""
    found = caller.snapshot(snapshot_id, Right.WORKSPACES, own=False)
    return Snapshot.model_validate(caller.store.pin_snapshot(found.id, False, actor=caller.name))


@post("/snapshots/{snapshot_id}/restore", Scope.WORKSPACES, 202)
def restore_snapshot(caller: Caller, snapshot_id: Id, body: Restore) -> Job:
    """Put a workspace to a version.

    What is in it now is kept as a version first, if it changed, unless it is to be discarded. Its sessions end.
    """
    version = caller.snapshot(snapshot_id, Right.WORKSPACES, own=False)
    actions.check_restorable(version)
    target = caller.workspace(body.into or version.workspace_id, Right.WORKSPACES, own=False)
    confirm(body.confirm, target.ref)
    return Job.of(actions.restore(caller.store, version, target.id, discard=body.discard, actor=caller.name))


@get("/snapshots/{snapshot_id}/download")
def download_version(caller: Caller, snapshot_id: Id) -> Annotated[Response, "application/x-tar"]:
    """Download an archived version as a tar, as `docker load` reads it.

    Members of its workspace may where the challenge hands versions out to them. One at a time for each person.
    """
    found = caller.snapshot(snapshot_id, Right.WORKSPACES)
    if not caller.may(Right.WORKSPACES, found.workspace.partition("/")[0]):
        actions.check_open_to_members(caller.store, found)
    actions.check_downloadable(found)
    return downloads.answer(caller.name, found)
