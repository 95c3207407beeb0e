"""The queue of snapshot requests, one request's page, and the decisions on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access, danger, listing, trees
from webadmin.actions import versions as actions
from webadmin.admin.base import actor, back, bp
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.live import fragment
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.model import UNDER_WAY, ChangeReport, Job, JobKind, Snapshot, SnapshotState, Workspace
from workspaces.rights import Right
from workspaces.snapshots.tree import Row

WAITING, RECENT = 20, 8
MOVING = (SnapshotState.APPROVED, SnapshotState.COMMITTING)
DECIDED = (*MOVING, SnapshotState.COMMITTED, SnapshotState.ARCHIVED, SnapshotState.REJECTED, SnapshotState.FAILED)


@dataclass(frozen=True, slots=True)
class Request:
    """One request with what is known of it: `job` is the last one about it."""

    snapshot: Snapshot
    report: ChangeReport | None
    job: Job | None
    tree: Row | None = None  # what changed, for the queue, where `report` has its totals only

    @property
    def whole_tree(self) -> Row | None:
        """What changed, for the request's own page."""
        return trees.whole(self.report)

    @property
    def looking(self) -> bool:
        """Whether a list of changes is being made."""
        return self.job is not None and self.job.kind is JobKind.INSPECT and self.moving

    @property
    def moving(self) -> bool:
        return self.job is not None and self.job.state in UNDER_WAY

    @property
    def restorable(self) -> bool:
        return self.snapshot.state in actions.RESTORABLE and self.snapshot.pruned_at is None


def _request(snapshot: Snapshot) -> Request:
    jobs = store().jobs(workspace_id=snapshot.workspace_id, limit=20)
    job = next((j for j in jobs if j.snapshot_id == snapshot.id and j.kind is not JobKind.RESTORE), None)
    return Request(snapshot, store().changes(snapshot.id), job)


def _queue() -> dict[str, Any]:
    mine = access.scope(Right.DECIDE)
    asked = listing.found(store().find_snapshots, size=WAITING, always="state:requested", sort="requested", within=mine)
    decided = store().find_snapshots(f"state:{','.join(DECIDED)}", size=RECENT, within=mine).items
    briefs = parts().reports.briefs(store(), [line.snapshot.id for line in asked.page.items])
    items = []
    for line in asked.page.items:
        brief = briefs.get(line.snapshot.id)
        items.append(Request(line.snapshot, brief.report if brief else None, line.job, brief.tree if brief else None))
    return {
        "asked": asked,
        "page": asked.page,
        "items": items,
        "barred": actions.barred(store(), actor()),
        "decided": [Request(line.snapshot, None, line.job) for line in decided],
        "form": None,
        "error": None,
        "typed": {},
    }


@bp.get("/")
@access.require(Right.DECIDE)
def queue() -> Any:
    return render_template("admin/queue.html", **_queue())


@bp.get("/live")
@access.require(Right.DECIDE)
def live_queue() -> Any:
    return fragment(lambda: render_template("admin/_queue.html", **_queue()))


def _one(snapshot_id: int) -> dict[str, Any]:
    return {"item": _request(store().snapshot(snapshot_id)), "barred": actions.barred(store(), actor())}


def _page(snapshot_id: int, error: WorkspacesError | None = None) -> Any:
    form = snapshot_id if error else None
    html = render_template("admin/snapshot.html", **_one(snapshot_id), form=form, error=error, typed=request.form)
    return make_response(html, error.http_status if error else 200)


@bp.get("/snapshots/<int:snapshot_id>")
@access.require(Right.SEE)
def snapshot(snapshot_id: int) -> Any:
    return _page(snapshot_id)


@bp.get("/snapshots/<int:snapshot_id>/live")
@access.require(Right.SEE)
def live_snapshot(snapshot_id: int) -> Any:
    return fragment(
        lambda: render_template("admin/_snapshot.html", **_one(snapshot_id), form=None, error=None, typed={})
    )


@bp.post("/snapshots/<int:snapshot_id>/approve")
@access.require(Right.DECIDE)
def approve(snapshot_id: int) -> Any:
    actions.approve(store(), snapshot_id, actor=actor())
    flash(_("Approved. The worker commits it now."))
    return back(url_for(".queue"))


@bp.post("/snapshots/<int:snapshot_id>/reject")
@access.require(Right.DECIDE)
def reject(snapshot_id: int) -> Any:
    try:
        actions.reject(store(), snapshot_id, request.form.get("reason", ""), actor=actor())
    except InvalidInput as error:
        return _page(snapshot_id, error)
    flash(_("Rejected. The participant sees your reason."))
    return redirect(url_for(".queue"))


@bp.post("/snapshots/<int:snapshot_id>/inspect")
@access.require(Right.DECIDE)
def inspect(snapshot_id: int) -> Any:
    """List again what the snapshot would capture now."""
    found = store().snapshot(snapshot_id)
    actions.inspect(store(), found, actor=actor())
    return back(url_for(".snapshot", snapshot_id=found.id))


@bp.post("/snapshots/<int:snapshot_id>/retry")
@access.require(Right.DECIDE)
def retry(snapshot_id: int) -> Any:
    store().retry_snapshot(snapshot_id, actor=actor())
    flash(_("It is tried again."))
    return back(url_for(".snapshot", snapshot_id=snapshot_id))


@bp.route("/snapshots/<int:snapshot_id>/restore", methods=["GET", "POST"])
@access.require(Right.WORKSPACES)
@access.step_up
def restore(snapshot_id: int) -> Any:
    """Say what restoring this version loses (GET); have the worker do it (POST)."""
    version = store().snapshot(snapshot_id)
    actions.check_restorable(version)
    workspace = store().workspace(version.workspace_id)
    if request.method == "GET":
        return _restore(version, workspace)
    discard = request.form.get("discard") == "yes"
    try:
        danger.check(workspace.ref)
    except InvalidInput as error:
        return _restore(version, workspace, error, discard), error.http_status
    actions.restore(store(), version, workspace.id, discard=discard, actor=actor())
    flash(_("%(workspace)s is being restored to v%(version)s.", workspace=workspace.ref, version=version.version))
    return redirect(url_for(".workspace", workspace_id=workspace.id))


def _restore(
    version: Snapshot, workspace: Workspace, error: WorkspacesError | None = None, discard: bool = False
) -> str:
    return render_template(
        "admin/restore.html",
        version=version,
        workspace=workspace,
        typed=danger.typed(),
        error=error,
        discard=discard,
    )
