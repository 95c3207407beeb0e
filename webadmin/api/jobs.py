"""Operations on jobs, sessions and the record of who did what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import Event, Job, LogLine, Part, Session
from webadmin.api.operations import Id, get, post, put
from workspaces.jobkinds import PRIORITY_MAX
from workspaces.queries import quoted
from workspaces.rights import Right
from workspaces.scopes import Scope


class LogQuery(Input):
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Only lines with a greater id."""


class Priority(Input):
    priority: Annotated[int, Field(ge=0, le=PRIORITY_MAX)]
    """Higher first."""


@get("/jobs")
def list_jobs(caller: Caller, query: Listed) -> Part[Job]:
    """List jobs, the newest first, of the challenges that you may see."""
    caller.check(Right.SEE)
    within = caller.rights.scope(Right.SEE)
    walked = caller.store.walk_jobs(query.q, after=query.after, size=query.limit, newest=True, within=within)
    return paging.of(Job, walked.items, walked.next)


@get("/jobs/{job_id}")
def show_job(caller: Caller, job_id: Id) -> Job:
    """Show a job."""
    return Job.of(caller.job(job_id))


@get("/jobs/{job_id}/log")
def show_job_log(caller: Caller, job_id: Id, query: LogQuery) -> Part[LogLine]:
    """List what a job did, in order."""
    return paging.of(LogLine, caller.store.job_log(caller.job(job_id).id, query.after))


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


@get("/sessions")
def list_sessions(caller: Caller, query: Listed) -> Part[Session]:
    """List SSH sessions, the latest first; `q=on:yes` for those that go on.

    Those of the challenges that you may see; for a participant his own.
    """
    q = query.q
    if not caller.rights.is_staff:
        q = f"user:{quoted(caller.name)} {q}"
    within = caller.rights.scope(Right.SEE) if caller.rights.is_staff else None
    walked = caller.store.walk_sessions(q.strip(), after=query.after, size=query.limit, newest=True, within=within)
    return paging.of(Session, walked.items, walked.next)


@get("/sessions/{session_id}")
def show_session(caller: Caller, session_id: Id) -> Session:
    """Show a session."""
    return Session.model_validate(caller.session(session_id))


@post("/sessions/{session_id}/end", Scope.WORKSPACES)
def end_session(caller: Caller, session_id: Id) -> Session:
    """End an open session; its processes are hung up within two seconds."""
    found = caller.session(session_id, Right.WATCH)
    return Session.model_validate(caller.store.kill_session(found.id, actor=caller.name))


@get("/audit")
def list_events(caller: Caller, query: Listed) -> Part[Event]:
    """List who did what, the newest first."""
    caller.check(Right.AUDIT)
    walked = caller.store.walk_events(query.q, after=query.after, size=query.limit, newest=True)
    return paging.of(Event, walked.items, walked.next)
