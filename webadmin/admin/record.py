"""Jobs with their progress, and the record of who did what."""

from __future__ import annotations

from typing import Any

from flask import flash, render_template, url_for

from webadmin import access, listing
from webadmin.admin.base import MOVING, actor, back, bp
from webadmin.context import parts, store
from webadmin.i18n import _, ngettext
from webadmin.live import fragment
from workspaces import heartbeat
from workspaces.model import JobState
from workspaces.queries import Listed
from workspaces.rights import Right

SHOWN = 100  # of the jobs that a sentence names


def _jobs() -> dict[str, Any]:
    mine = access.scope(Right.SEE)
    asked = listing.found(store().find_jobs, within=mine)
    under_way = store().count_matching(f"state:{','.join(MOVING)}", Listed.JOBS, within=mine)
    return {
        "asked": asked,
        "page": asked.page,
        "jobs": asked.page.items,
        "under_way": under_way,
        "trouble": heartbeat.trouble(parts().settings.locks) if under_way else None,
    }


@bp.get("/jobs")
@access.require(Right.SEE)
def jobs() -> Any:
    return render_template("admin/jobs.html", **_jobs())


@bp.get("/jobs/live")
@access.require(Right.SEE)
def live_jobs() -> Any:
    return fragment(lambda: render_template("admin/_jobs.html", **_jobs()))


def _job(job_id: int) -> dict[str, Any]:
    return {"job": store().job(job_id), "lines": store().job_log(job_id)}


@bp.get("/jobs/<int:job_id>")
@access.require(Right.SEE)
def job(job_id: int) -> Any:
    return render_template("admin/job.html", **_job(job_id))


@bp.get("/jobs/<int:job_id>/live")
@access.require(Right.SEE)
def live_job(job_id: int) -> Any:
    return fragment(lambda: render_template("admin/_job.html", **_job(job_id)))


@bp.post("/jobs/<int:job_id>/retry")
@access.require(Right.WORKSPACES)
def retry_job(job_id: int) -> Any:
    store().retry_job(job_id, actor=actor())
    flash(_("Job %(id)s is queued again.", id=job_id))
    return back(url_for(".jobs"))


@bp.post("/jobs/retry-failed")
def retry_failed() -> Any:
    retried, left = store().retry_failed(actor=actor())
    flash(ngettext("%(num)s failed job is queued again.", "%(num)s failed jobs are queued again.", len(retried)))
    if left:
        flash(
            _(
                "Left as they are, since they would stop or replace a container or cannot be retried: %(jobs)s.",
                jobs=", ".join(str(job.id) for job, _why in left[:SHOWN]),
            )
        )
    return back(url_for(".jobs"))


@bp.post("/jobs/<int:job_id>/cancel")
@access.require(Right.WORKSPACES)
def cancel_job(job_id: int) -> Any:
    job = store().cancel_job(job_id, actor=actor())
    if job.state is JobState.RUNNING:
        flash(_("Job %(id)s is told to end.", id=job_id))
    else:
        flash(_("Job %(id)s is cancelled.", id=job_id))
    return back(url_for(".jobs"))


@bp.get("/events")
@access.require(Right.AUDIT)
def events() -> Any:
    asked = listing.found(store().find_events, within=access.scope(Right.AUDIT))
    return render_template("admin/events.html", asked=asked, page=asked.page, events=asked.page.items)
