"""The archive: what it holds, reading it again, and clearing it. The worker does it; pages show what it found."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access, danger
from webadmin.actions import archive as actions
from webadmin.actions import findings
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import N_, _
from webadmin.live import fragment
from workspaces.errors import Conflict, InvalidInput, WorkspacesError
from workspaces.model import UNDER_WAY, Job, JobKind, Snapshot
from workspaces.rights import Right

SAID = {
    "usage": N_("What the archive holds is being counted."),
    "verify": N_("The archive is being read again. That may take hours; this page shows how far it is."),
    "gc": N_("What no version refers to is being looked for. Nothing is deleted."),
}
PREVIEWED = 200


def _archive() -> dict[str, Any]:
    jobs: dict[str, Job | None] = {name: store().latest_job(kind) for name, kind in actions.KINDS.items()}
    return {
        "usage": findings.latest(store(), JobKind.USAGE),
        "verified": findings.latest(store(), JobKind.VERIFY),
        "garbage": findings.latest(store(), JobKind.GC),
        "pruned": findings.latest(store(), JobKind.PRUNE),
        "jobs": {name: job for name, job in jobs.items() if job is not None},
        "moving": any(job is not None and job.state in UNDER_WAY for job in jobs.values()),
        "ruled": [challenge for challenge in store().challenges() if challenge.keep_last is not None],
    }


@bp.get("/archive")
@access.require(Right.ARCHIVE)
def archive() -> Any:
    return render_template("admin/archive.html", **_archive())


@bp.get("/archive/live")
@access.require(Right.ARCHIVE)
def live_archive() -> Any:
    return fragment(lambda: render_template("admin/_archive.html", **_archive()))


@bp.post("/archive/<any(usage,verify,gc):kind>")
@access.require(Right.ARCHIVE)
def look_at_archive(kind: str) -> Any:
    """Count, read again, or look for what nothing refers to. None of it changes the archive."""
    actions.look(store(), kind, actor=actor())
    flash(_(SAID[kind]))
    return redirect(url_for(".archive"))


@bp.route("/archive/collect", methods=["GET", "POST"])
@access.require(Right.ARCHIVE)
@access.step_up
def collect(error: InvalidInput | None = None) -> Any:
    """Say what would be deleted, as it was found last (GET); have the worker delete it (POST)."""
    actions.check_collectable(store())
    if request.method == "POST":
        try:
            danger.check(actions.NAME)
        except InvalidInput as wrong:
            error = wrong
        else:
            actions.collect(store(), actor=actor())
            flash(_("What no version refers to is being deleted."))
            return redirect(url_for(".archive"))
    html = render_template(
        "admin/collect.html",
        found=findings.latest(store(), JobKind.GC),
        name=actions.NAME,
        typed=danger.typed(),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)


@bp.route("/archive/prune", methods=["GET", "POST"])
@access.require(Right.ARCHIVE)
@access.step_up
def prune() -> Any:
    """Say which versions the rules of a challenge do not keep (GET); have the worker remove them (POST)."""
    slug = request.values.get("challenge", "")
    due = actions.due(store(), slug)
    if request.method == "GET":
        return _prune(slug, due)
    try:
        danger.check(slug)
        actions.prune(store(), slug, seen=request.form.get("seen", ""), actor=actor())
    except (InvalidInput, Conflict) as error:
        return _prune(slug, actions.due(store(), slug), error)
    flash(_("The versions that the rules of %(challenge)s do not keep are being removed.", challenge=slug))
    return redirect(url_for(".archive"))


def _prune(slug: str, due: list[Snapshot], error: WorkspacesError | None = None) -> Any:
    html = render_template(
        "admin/prune.html",
        challenge=store().challenge(slug),
        due=due[:PREVIEWED],
        seen=actions.mark(due),
        count=len(due),
        bytes=sum(snapshot.size or 0 for snapshot in due),
        typed=danger.typed(),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)
