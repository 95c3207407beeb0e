"""The list of workspaces, one workspace's page, and the jobs that start, stop, restart and reset one."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import access, danger, listing
from webadmin.admin.base import actor, back, bp, moving_job
from webadmin.context import ssh_line, store
from webadmin.i18n import N_, _
from webadmin.live import fragment
from workspaces.errors import InvalidInput
from workspaces.model import JobKind, Workspace
from workspaces.rights import Right

SHOWN = 12  # sessions, jobs and events on one workspace's page
SAID = {
    "start": N_("%(workspace)s is being started."),
    "stop": N_("%(workspace)s is being stopped."),
    "restart": N_("%(workspace)s is being restarted."),
}


def _list() -> dict[str, Any]:
    asked = listing.found(store().find_workspaces, within=access.scope(Right.SEE))
    lines = asked.page.items
    return {
        "asked": asked,
        "page": asked.page,
        "workspaces": [line.workspace for line in lines],
        "jobs": {line.workspace.id: line.job for line in lines if line.job},
    }


@bp.get("/workspaces")
@access.require(Right.SEE)
def workspaces() -> Any:
    return render_template("admin/workspaces.html", **_list())


@bp.get("/workspaces/live")
@access.require(Right.SEE)
def live_workspaces() -> Any:
    return fragment(lambda: render_template("admin/_workspaces.html", **_list()))


def _one(workspace_id: int) -> dict[str, Any]:
    workspace = store().workspace(workspace_id)
    return {
        "workspace": workspace,
        "challenge": store().challenge(workspace.challenge),
        "ssh": [ssh_line(name, workspace.ref) for name in workspace.members],
        "snapshots": store().snapshots(workspace_id=workspace_id, limit=1000),
        "sessions": store().sessions(workspace_id, limit=SHOWN),
        "job": moving_job(workspace_id),
        "jobs": store().jobs(workspace_id=workspace_id, limit=SHOWN),
        "events": [e for e in store().events(2 * SHOWN, workspace=workspace.ref) if not e.kind.startswith("job.")][
            :SHOWN
        ],
    }


@bp.get("/workspaces/<int:workspace_id>")
@access.require(Right.SEE)
def workspace(workspace_id: int) -> Any:
    return render_template("admin/workspace.html", **_one(workspace_id))


@bp.get("/workspaces/<int:workspace_id>/live")
@access.require(Right.SEE)
def live_workspace(workspace_id: int) -> Any:
    return fragment(lambda: render_template("admin/_workspace.html", **_one(workspace_id)))


@bp.post("/workspaces/<int:workspace_id>/<any(start,stop,restart):action>")
@access.require(Right.WORKSPACES)
def act(workspace_id: int, action: str) -> Any:
    found = store().workspace(workspace_id)
    store().add_job(JobKind(action), found.id, actor=actor())
    flash(_(SAID[action], workspace=found.ref))
    return back(url_for(".workspace", workspace_id=found.id))


@bp.route("/workspaces/<int:workspace_id>/reset", methods=["GET", "POST"])
@access.require(Right.WORKSPACES)
@access.step_up
def reset(workspace_id: int) -> Any:
    """Say what a reset loses (GET); have the worker do it (POST)."""
    found = store().workspace(workspace_id)
    if request.method == "GET":
        return _reset(found)
    try:
        danger.check(found.ref)
    except InvalidInput as error:
        return _reset(found, error), error.http_status
    store().add_job(JobKind.RESET, found.id, actor=actor())
    flash(_("%(workspace)s is being reset.", workspace=found.ref))
    return redirect(url_for(".workspace", workspace_id=found.id))


def _reset(found: Workspace, error: InvalidInput | None = None) -> str:
    challenge = store().challenge(found.challenge)
    return render_template("admin/reset.html", workspace=found, challenge=challenge, typed=danger.typed(), error=error)
