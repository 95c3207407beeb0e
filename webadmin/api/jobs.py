"""Operations on jobs, the record of who did what, and the figures of the overview."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from webadmin.actions import findings, health, overview
from webadmin.actions import jobs as actions
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import Archive, ChangeReport, Event, HostUsage, Job, LogLine, Moment, Out, Part
from webadmin.api.operations import Id, get, post, put
from webadmin.context import parts
from workspaces.errors import NotFound
from workspaces.jobkinds import PRIORITY_MAX
from workspaces.model import JobKind
from workspaces.rights import Right
from workspaces.scopes import Scope


class LogQuery(Input):
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Only lines with a greater id."""


class Priority(Input):
    priority: Annotated[int, Field(ge=0, le=PRIORITY_MAX)]
    """Higher first."""


class Found(Out):
    """What a job found: `changes` for those that list some, else `document`."""

    kind: JobKind
    at: Moment
    changes: ChangeReport | None
    document: dict[str, Any]


class LeftJob(Out):
    """A failed job that is for a person to decide."""

    job: Job
    why: str


class Retried(Out):
    """What became of the failed jobs."""

    retried: list[Job]
    left: list[LeftJob]


class Health(Out):
    """What does not answer, and the archive."""

    waiting: dict[str, int]
    """How many jobs wait for what does not answer, by its name: engine, archive, registry."""
    engine: bool | None
    """Whether the engine answers the worker; null when nobody can tell."""
    damaged: int
    """Blobs that were missing or damaged when the archive was read last."""
    archived: Archive


class Overview(Out):
    """What runs, what waits and what went wrong, of the challenges that you may see."""

    workspaces: int
    running: int
    idle: int
    """Running, without a login for a week."""
    failed: int
    waiting: int
    """Requests that wait for your decision."""
    waits_since: Moment | None
    """Since when the oldest of them does."""
    moving: int
    """Jobs that wait or run."""
    on_count: int
    """Sessions that go on."""
    failures: list[Job]
    """The latest of a day."""
    trouble: str | None
    """What is wrong with the worker."""
    host: HostUsage | None
    """Null for who has not the right to see the host."""
    health: Health | None
    """Likewise."""


@get("/overview", tag="jobs")
def show_overview(caller: Caller) -> Overview:
    """Show what runs, what waits, what went wrong, and how the host is."""
    caller.check(Right.SEE)
    locks = parts().settings.locks
    found = overview.look(caller.store, caller.rights, locks)
    made: dict[str, object] = {"failures": [Job.of(job) for job in found.failures]}
    made["health"] = health.look(caller.store, locks) if caller.may(Right.HOST) else None
    return Overview.model_validate({name: getattr(found, name, None) for name in Overview.model_fields} | made)


@get("/jobs")
def list_jobs(caller: Caller, query: Listed) -> Part[Job]:
    """List jobs, the newest first, of the challenges that you may see.

    Those about the host are for who has the right to see it.
    """
    caller.check(Right.SEE)
    within = caller.rights.scope(Right.SEE)
    q = f"{query.q} {actions.always(caller.rights)}".strip()
    walked = caller.store.walk_jobs(q, after=query.after, size=query.limit, newest=True, within=within)
    return paging.of(Job, walked.items, walked.next)


@get("/jobs/{job_id}")
def show_job(caller: Caller, job_id: Id) -> Job:
    """Show a job."""
    return Job.of(caller.job(job_id))


@get("/jobs/{job_id}/log")
def show_job_log(caller: Caller, job_id: Id, query: LogQuery) -> Part[LogLine]:
    """List what a job did, in order."""
    return paging.of(LogLine, caller.store.job_log(caller.job(job_id).id, query.after))


@get("/jobs/{job_id}/found")
def show_found(caller: Caller, job_id: Id) -> Found:
    """Show what a job found.

    404 for one that finds nothing, or has not yet.
    """
    job = caller.job(job_id, own=False)
    if job.kind is JobKind.LOOK:  # no request was made of it
        caller.check(Right.WORKSPACES, job.workspace.partition("/")[0])
    found = findings.of_job(caller.store, job.id)
    if found is None:
        raise NotFound("This job has found nothing.", "Those that list, compare, count or read something do.")
    return Found.model_validate(found)


@post("/jobs/retry-failed", Scope.WORKSPACES)
def retry_failed_jobs(caller: Caller) -> Retried:
    """Queue all jobs again that failed, but those that would stop, replace or delete something."""
    caller.check(Right.HOST)
    retried, left = caller.store.retry_failed(actor=caller.name)
    return Retried(
        retried=[Job.of(job) for job in retried], left=[LeftJob(job=Job.of(job), why=why) for job, why in left]
    )


@post("/jobs/{job_id}/retry", Scope.WORKSPACES, 202)
def retry_job(caller: Caller, job_id: Id) -> Job:
    """Queue a failed or cancelled job again."""
    found = caller.job(job_id, Right.WORKSPACES, own=False)
    return Job.of(caller.store.retry_job(found.id, actor=caller.name))


@post("/jobs/{job_id}/cancel", Scope.WORKSPACES, 202)
def cancel_job(caller: Caller, job_id: Id) -> Job:
    """Cancel a job.

    One that runs ends as soon as it can without leaving something half done, or is done before.
    """
    found = caller.job(job_id, Right.WORKSPACES, own=False)
    return Job.of(caller.store.cancel_job(found.id, actor=caller.name))


@put("/jobs/{job_id}/priority", Scope.WORKSPACES)
def set_job_priority(caller: Caller, job_id: Id, body: Priority) -> Job:
    """Let a job that waits go before or after others."""
    found = caller.job(job_id, Right.WORKSPACES, own=False)
    return Job.of(caller.store.set_job_priority(found.id, body.priority, actor=caller.name))


@get("/audit")
def list_events(caller: Caller, query: Listed) -> Part[Event]:
    """List who did what, the newest first."""
    caller.check(Right.AUDIT)
    walked = caller.store.walk_events(query.q, after=query.after, size=query.limit, newest=True)
    return paging.of(Event, walked.items, walked.next)
