"""One workspace's versions with what became of each, two of them compared, and what has changed since the last one."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import access, downloads, listing
from webadmin.actions import findings
from webadmin.actions import spaces as actions
from webadmin.actions.versions import check_downloadable
from webadmin.admin.base import actor, back, bp
from webadmin.context import store
from webadmin.i18n import _
from webadmin.live import fragment
from workspaces.errors import InvalidInput
from workspaces.model import UNDER_WAY, JobKind, Workspace
from workspaces.queries import Listed
from workspaces.rights import Right

SIZE, CHOICES = 20, 200  # versions on a page, and to choose two from


def _numbers_of(workspace: Workspace) -> list[int]:
    """The latest versions that there are to choose from, the last one first."""
    q = f"workspace:{workspace.id} state:committed,archived pruned:no"
    lines = store().find_snapshots(q, size=CHOICES).items
    return sorted((line.snapshot.version for line in lines if line.snapshot.version), reverse=True)


def _versions(workspace_id: int) -> dict[str, Any]:
    workspace = store().workspace(workspace_id)
    asked = listing.found(store().find_snapshots, size=SIZE, always=f"workspace:{workspace.id}")
    return {"workspace": workspace, "asked": asked, "page": asked.page, "numbers": _numbers_of(workspace)}


@bp.get("/workspaces/<int:workspace_id>/versions")
@access.require(Right.SEE)
def versions(workspace_id: int) -> Any:
    return render_template("admin/versions.html", syntax=listing.syntax(Listed.SNAPSHOTS), **_versions(workspace_id))


@bp.get("/workspaces/<int:workspace_id>/versions/live")
@access.require(Right.SEE)
def live_versions(workspace_id: int) -> Any:
    return fragment(lambda: render_template("admin/_versions.html", **_versions(workspace_id)))


def _changes(workspace_id: int) -> dict[str, Any]:
    workspace = store().workspace(workspace_id)
    job = store().latest_job(JobKind.LOOK, workspace_id)
    return {
        "workspace": workspace,
        "found": findings.latest(store(), JobKind.LOOK, str(workspace_id)),
        "job": job,
        "moving": job is not None and job.state in UNDER_WAY,
    }


@bp.get("/workspaces/<int:workspace_id>/changes")
@access.require(Right.WORKSPACES)
def changes(workspace_id: int) -> Any:
    """What a snapshot would capture, as it was when somebody looked last."""
    return render_template("admin/changes.html", **_changes(workspace_id))


@bp.get("/workspaces/<int:workspace_id>/changes/live")
@access.require(Right.WORKSPACES)
def live_changes(workspace_id: int) -> Any:
    return fragment(lambda: render_template("admin/_changes.html", **_changes(workspace_id)))


@bp.post("/workspaces/<int:workspace_id>/changes/look")
@access.require(Right.WORKSPACES)
def look_at_changes(workspace_id: int) -> Any:
    actions.look(store(), workspace_id, actor=actor())
    return redirect(url_for(".changes", workspace_id=workspace_id))


def _diff(workspace_id: int) -> dict[str, Any]:
    workspace = store().workspace(workspace_id)
    if "old" not in request.values and "new" not in request.values:
        return {"workspace": workspace, "numbers": _numbers_of(workspace), "old": None, "new": None}
    old, new = actions.pair(store(), workspace_id, *_numbers())
    report, job = actions.comparison(store(), old, new)
    return {
        "workspace": workspace,
        "old": old,
        "new": new,
        "found": findings.of_report(report),
        "job": job,
        "moving": job is not None and job.state in UNDER_WAY,
    }


def _numbers() -> tuple[int, int]:
    """Which versions the address or form names, `old=1&new=3` or `old=v1`. Raises InvalidInput."""
    found = []
    for name in ("old", "new"):
        text = request.values.get(name, "").strip().removeprefix("v")
        if not (text.isascii() and text.isdigit()) or len(text) > 9:
            raise InvalidInput(_("Two versions are compared."), _("Choose two, such as v1 and v3."))
        found.append(int(text))
    return found[0], found[1]


@bp.get("/workspaces/<int:workspace_id>/diff")
@access.require(Right.SEE)
def diff(workspace_id: int) -> Any:
    """What differs between two versions; it is compared when somebody asks, and then known."""
    return render_template("admin/diff.html", **_diff(workspace_id))


@bp.get("/workspaces/<int:workspace_id>/diff/live")
@access.require(Right.SEE)
def live_diff(workspace_id: int) -> Any:
    return fragment(lambda: render_template("admin/_diff.html", **_diff(workspace_id)))


@bp.post("/workspaces/<int:workspace_id>/diff/compare")
@access.require(Right.SEE)
def compare(workspace_id: int) -> Any:
    old, new = actions.pair(store(), workspace_id, *_numbers())
    if actions.comparison(store(), old, new)[0] is None:
        actions.compare(store(), old, new, actor=actor())
    return redirect(url_for(".diff", workspace_id=workspace_id, old=old.version, new=new.version))


@bp.post("/snapshots/<int:snapshot_id>/pin")
@access.require(Right.WORKSPACES)
def pin(snapshot_id: int) -> Any:
    """Keep a version whatever the rules say, or, without `pinned`, no more."""
    pinned = request.form.get("pinned") == "yes"
    found = store().pin_snapshot(snapshot_id, pinned, actor=actor())
    said = _("%(version)s is kept whatever the rules of retention say.") if pinned else _("%(version)s is not pinned.")
    flash(said % {"version": f"v{found.version}"})
    return back(url_for(".snapshot", snapshot_id=snapshot_id))


@bp.get("/snapshots/<int:snapshot_id>/download")
@access.require(Right.WORKSPACES)
def download(snapshot_id: int) -> Any:
    """A version as a tar for `docker load`, from the archive."""
    found = store().snapshot(snapshot_id)
    check_downloadable(found)
    return downloads.answer(actor(), found)
