"""Jobs: the list, searched and in pages; one job's page with its log and what it found; retrying and cancelling."""

from __future__ import annotations

from typing import Any

from flask import flash, render_template, url_for

from webadmin import access, listing, session
from webadmin.actions import findings
from webadmin.actions import jobs as actions
from webadmin.admin.base import actor, back, bp
from webadmin.context import parts, store
from webadmin.i18n import _, ngettext
from webadmin.live import fragment
from workspaces import heartbeat
from workspaces.jobkinds import DELETING
from workspaces.model import UNDER_WAY, JobKind, JobState
from workspaces.queries import Listed
from workspaces.rights import Right

NAMED = 20  # jobs that a message names
LOSING = (*DELETING, JobKind.PRUNE, JobKind.GC)


def _list() -> dict[str, Any]:
    mine, always = access.scope(Right.SEE), actions.always(session.me().rights)
    asked = listing.found(store().find_jobs, always=always, within=mine)
    moving = store().count_matching(f"state:queued,running {always}", Listed.JOBS, within=mine)
    return {
        "asked": asked,
        "page": asked.page,
        "moving": moving,
        "failed": store().count_matching(f"state:failed {always}", Listed.JOBS, within=mine),
        "trouble": heartbeat.trouble(parts().settings.locks) if moving else None,
        "syntax": listing.syntax(Listed.JOBS),
    }


@bp.get("/jobs")
@access.require(Right.SEE)
def jobs() -> Any:
    return render_template("admin/jobs.html", **_list())


@bp.get("/jobs/live")
@access.require(Right.SEE)
def live_jobs() -> Any:
    return fragment(lambda: render_template("admin/_jobs.html", **_list()))


def _job(job_id: int) -> dict[str, Any]:
    """What nobody asked to be looked into (LOOK) is shown to those who may have it looked into."""
    job = store().job(job_id)
    waits = job.state in UNDER_WAY
    private = job.kind is JobKind.LOOK and not access.may(Right.WORKSPACES, store().challenge_of("job", job_id) or "")
    return {
        "job": job,
        "lines": store().job_log(job_id),
        "front": store().job(job.behind) if job.behind is not None else None,
        "found": None if private else findings.of_job(store(), job.id),
        "trouble": heartbeat.trouble(parts().settings.locks) if waits else None,
    }


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
    """What loses something is confirmed as when it was asked for first."""
    if store().job(job_id).kind in LOSING and (answer := access.unproven()):
        return answer
    store().retry_job(job_id, actor=actor())
    flash(_("Job %(id)s is queued again.", id=job_id))
    return back(url_for(".jobs"))


@bp.post("/jobs/retry-failed")
def retry_failed() -> Any:
    retried, left = store().retry_failed(actor=actor())
    flash(ngettext("%(num)s failed job is queued again.", "%(num)s failed jobs are queued again.", len(retried)))
    if left:
        numbers = ", ".join(str(job.id) for job, _why in left[:NAMED])
        flash(
            ngettext(
                "%(num)s is left as it is, since it would stop, replace or delete something, or cannot be retried: "
                "%(jobs)s.",
                "%(num)s are left as they are, since they would stop, replace or delete something, or cannot be "
                "retried: %(jobs)s.",
                len(left),
                jobs=f"{numbers}, …" if len(left) > NAMED else numbers,
            ),
            "warning",
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
