"""Jobs with their progress, and the record of who did what."""

from __future__ import annotations

from typing import Any

from flask import flash, render_template, url_for

from webadmin import access
from webadmin.admin.base import MOVING, actor, back, bp
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.live import fragment
from workspaces import heartbeat
from workspaces.model import JobState
from workspaces.rights import Right

SHOWN = 100


def _jobs() -> dict[str, Any]:
    jobs = store().jobs(limit=SHOWN, challenges=access.scope(Right.SEE))
    waits = any(j.state in MOVING for j in jobs)
    return {"jobs": jobs, "limit": SHOWN, "trouble": heartbeat.trouble(parts().settings.locks) if waits else None}


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
    flash(f"{len(retried)} failed jobs are queued again.")
    if left:
        flash(
            f"{len(left)} are left as they are, since they would stop or replace a container or cannot be retried: "
            f"{', '.join(str(job.id) for job, _ in left[:SHOWN])}."
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
    return render_template("admin/events.html", events=store().events(SHOWN), limit=SHOWN)
