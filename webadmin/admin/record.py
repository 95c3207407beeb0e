"""Jobs with their progress, and the record of who did what."""

from __future__ import annotations

import time
from typing import Any

from flask import flash, redirect, render_template, url_for

from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.live import fragment
from workspaces.model import JobState

SHOWN = 100
PATIENCE = 60  # seconds that a job waits until the page asks whether a worker runs at all


def _jobs() -> dict[str, Any]:
    jobs = store().jobs(limit=SHOWN)
    waiting = [
        j for j in jobs if j.state is JobState.QUEUED and not j.attempts and time.time() - j.created_at > PATIENCE
    ]
    stalled = bool(waiting) and not any(j.state is JobState.RUNNING for j in jobs)
    return {"jobs": jobs, "limit": SHOWN, "stalled": stalled}


@bp.get("/jobs")
def jobs() -> Any:
    return render_template("admin/jobs.html", **_jobs())


@bp.get("/jobs/live")
def live_jobs() -> Any:
    return fragment(lambda: render_template("admin/_jobs.html", **_jobs()))


@bp.post("/jobs/<int:job_id>/retry")
def retry_job(job_id: int) -> Any:
    store().retry_job(job_id, actor=actor())
    flash(f"Job {job_id} is queued again.")
    return redirect(url_for(".jobs"))


@bp.post("/jobs/<int:job_id>/cancel")
def cancel_job(job_id: int) -> Any:
    store().cancel_job(job_id, actor=actor())
    flash(f"Job {job_id} is cancelled.")
    return redirect(url_for(".jobs"))


@bp.get("/events")
def events() -> Any:
    return render_template("admin/events.html", events=store().events(SHOWN), limit=SHOWN)
