"""One workspace's page: state, members, limits, sessions, and the jobs that start, stop, reset and remove it."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access, danger
from webadmin.actions import spaces as actions
from webadmin.actions import versions
from webadmin.admin.base import actor, back, bp, moving_job
from webadmin.context import ssh_line, store
from webadmin.i18n import N_, _
from webadmin.live import fragment
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.model import JobKind, OwnLimits, Workspace
from workspaces.rights import Right

SHOWN = 8  # sessions, jobs, versions and events on the first page of one workspace
SAID = {
    "start": N_("%(workspace)s is being started."),
    "stop": N_("%(workspace)s is being stopped."),
    "restart": N_("%(workspace)s is being restarted."),
}


def _one(workspace_id: int) -> dict[str, Any]:
    workspace = store().workspace(workspace_id)
    challenge = store().challenge(workspace.challenge)
    ref = workspace.ref
    events = [e for e in store().events(2 * SHOWN, workspace=ref) if not e.kind.startswith("job.")]
    return {
        "workspace": workspace,
        "challenge": challenge,
        "limits": workspace.own_limits.over(challenge.limits),
        "own": workspace.own_limits != OwnLimits(),
        "ssh": [ssh_line(name, ref) for name in workspace.members],
        "snapshots": store().find_snapshots(f"workspace:{workspace_id}", size=SHOWN).items,
        "sessions": store().find_sessions(f"workspace:{workspace_id}", size=SHOWN).items,
        "on": store().sessions(workspace_id, limit=SHOWN),
        "job": moving_job(workspace_id),
        "jobs": store().jobs(workspace_id=workspace_id, limit=SHOWN),
        "events": events[:SHOWN],
        "form": None,
        "error": None,
        "typed": {},
    }


def _page(workspace_id: int, form: str = "", error: WorkspacesError | None = None) -> Any:
    """The page; with `error`, what was typed stays in the form of that name and the error is said there."""
    values = _one(workspace_id)
    if error is not None:
        values |= {"form": form, "error": error, "typed": request.form}
    return make_response(render_template("admin/workspace.html", **values), error.http_status if error else 200)


@bp.get("/workspaces/<int:workspace_id>")
@access.require(Right.SEE)
def workspace(workspace_id: int) -> Any:
    return _page(workspace_id)


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


@bp.post("/workspaces/<int:workspace_id>/limits")
@access.require(Right.WORKSPACES)
def set_limits(workspace_id: int) -> Any:
    """Empty fields, and the button `default`, say what the challenge says."""
    typed = {} if "default" in request.form else request.form
    try:
        found, _job = actions.set_limits(store(), workspace_id, typed, actor=actor())
    except InvalidInput as error:
        return _page(workspace_id, "limits", error)
    flash(_("%(workspace)s gets these limits now, also while it runs.", workspace=found.ref))
    return redirect(url_for(".workspace", workspace_id=workspace_id))


@bp.post("/workspaces/<int:workspace_id>/members")
@access.require(Right.WORKSPACES)
def add_member(workspace_id: int) -> Any:
    name = request.form.get("name", "").strip()
    try:
        actions.add_member(store(), workspace_id, name, actor=actor())
    except WorkspacesError as error:
        return _page(workspace_id, "members", error)
    flash(_("%(name)s is a member and can log in to it now.", name=name))
    return redirect(url_for(".workspace", workspace_id=workspace_id, _anchor="members"))


@bp.route("/workspaces/<int:workspace_id>/members/<member>/remove", methods=["GET", "POST"])
@access.require(Right.WORKSPACES)
def remove_member(workspace_id: int, member: str) -> Any:
    """Say what it means (GET); do it (POST)."""
    found, name = store().workspace(workspace_id), member
    actions.check_member(found, name)
    if request.method == "GET":
        on = [s for s in store().sessions(workspace_id) if s.user == name]
        return render_template("admin/member.html", workspace=found, name=name, on=len(on))
    actions.remove_member(store(), workspace_id, name, actor=actor())
    flash(_("%(name)s is no longer a member of %(workspace)s.", name=name, workspace=found.ref))
    return redirect(url_for(".workspace", workspace_id=workspace_id, _anchor="members"))


@bp.route("/workspaces/<int:workspace_id>/reset", methods=["GET", "POST"])
@access.require(Right.WORKSPACES)
@access.step_up
def reset(workspace_id: int) -> Any:
    """Say what a reset loses (GET); have the worker do it (POST)."""
    found = store().workspace(workspace_id)
    if request.method == "GET":
        return _dangerous("admin/reset.html", found)
    try:
        danger.check(found.ref)
    except InvalidInput as error:
        return _dangerous("admin/reset.html", found, error)
    store().add_job(JobKind.RESET, found.id, actor=actor())
    flash(_("%(workspace)s is being reset.", workspace=found.ref))
    return redirect(url_for(".workspace", workspace_id=found.id))


@bp.route("/workspaces/<int:workspace_id>/remove", methods=["GET", "POST"])
@access.require(Right.WORKSPACES)
@access.step_up
def remove(workspace_id: int) -> Any:
    """Say what is lost with a workspace (GET); have the worker remove it (POST)."""
    found = store().check_removable(workspace_id)
    if request.method == "GET":
        return _dangerous("admin/remove.html", found)
    try:
        danger.check(found.ref)
    except InvalidInput as error:
        return _dangerous("admin/remove.html", found, error)
    store().add_job(JobKind.REMOVE, found.id, actor=actor())
    flash(_("%(workspace)s is being removed.", workspace=found.ref))
    return redirect(url_for(".workspaces"))


def _dangerous(template: str, found: Workspace, error: InvalidInput | None = None) -> Any:
    html = render_template(
        template,
        workspace=found,
        challenge=store().challenge(found.challenge),
        kept=versions.kept(store(), found.id),
        typed=danger.typed(),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)
