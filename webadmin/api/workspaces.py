"""Operations on workspaces: what changes a container is a job for the worker, whose number is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from webadmin.actions import own, sessions, usage
from webadmin.actions import spaces as actions
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Cores, Input, Listed, Memory, Paging, Processes, Text
from webadmin.api.models import Event, Job, Out, Part, Session, Snapshot, Workspace
from webadmin.api.operations import Id, Name, delete, get, operation, post, put
from webadmin.context import parts
from workspaces.commands import named_command
from workspaces.errors import Conflict, NotFound, Refused
from workspaces.model import JobKind, OwnLimits
from workspaces.queries import quoted
from workspaces.rights import Right
from workspaces.scopes import Scope


class WorkspaceQuery(Listed):
    ref: Annotated[str, StringConstraints(max_length=100)] = ""
    """Only those of exactly this name, or `challenge/name`."""


class Confirmed(Input):
    confirm: Annotated[str, StringConstraints(max_length=100)]
    """The workspace's `challenge/name`, to say that this one is meant."""


class Request(Input):
    message: Annotated[str, StringConstraints(max_length=4000)]
    """What this snapshot is."""
    cmd: Text | None = None
    """What the version runs: a line for the shell, or `["program", "argument"]`."""
    entrypoint: Text | None = None
    """Its entry point, written alike."""


class Limits(Input):
    """What is left out, or null, is as the challenge says."""

    cpus: Cores | None = None
    memory: Memory | None = None
    """Less than is used makes the kernel end programs."""
    pids: Processes | None = None


class UsageQuery(Input):
    range: Literal["day", "week", "month"] = "day"


class UsageLimits(Out):
    cpus: float
    memory: int
    processes: int


class UsageSeries(Out):
    """What a workspace used: lists of equal length; null where it did not run.

    Cores, bytes and numbers of processes; `received` and `sent` are bytes within each step.
    """

    workspace: str
    range: str
    step: int
    """Seconds."""
    at: list[int]
    """Seconds since 1970."""
    cpus: list[float | None]
    cpus_most: list[float | None]
    memory: list[int | None]
    memory_most: list[int | None]
    processes: list[int | None]
    disk: list[int | None]
    received: list[int | None]
    sent: list[int | None]
    limits: UsageLimits


class SessionsQuery(Input):
    ended: bool = False
    """Also those that have ended."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@get("/workspaces")
def list_workspaces(caller: Caller, query: WorkspaceQuery) -> Part[Workspace]:
    """List workspaces.

    Those of the challenges whose workspaces you may see; for a participant his own.
    """
    if query.ref:
        try:
            found = caller.store.workspace(query.ref)
        except NotFound:
            return paging.part([])
        except Conflict:  # several have that name
            found = None
        q = f"{query.q} name:{quoted(query.ref.rpartition('/')[2])}"
        if found is not None:
            q += f" challenge:{quoted(found.challenge)}"
    else:
        q = query.q
    if not caller.rights.is_staff:
        q = f"user:{quoted(caller.name)} {q}"
    within = caller.rights.scope(Right.SEE) if caller.rights.is_staff else None
    walked = caller.store.walk_workspaces(q.strip(), after=query.after, size=query.limit, within=within)
    return paging.of(Workspace, [line.workspace for line in walked.items], walked.next)


@get("/workspaces/{workspace_id}")
def show_workspace(caller: Caller, workspace_id: Id) -> Workspace:
    """Show a workspace."""
    return Workspace.model_validate(caller.workspace(workspace_id))


@get("/workspaces/{workspace_id}/sessions")
def list_workspace_sessions(caller: Caller, workspace_id: Id, query: SessionsQuery) -> Part[Session]:
    """List the SSH sessions in a workspace, the latest first.

    A member who may not see the challenge gets his own, and of others those that go on, without their addresses.
    """
    found = caller.workspace(workspace_id)
    if caller.may(Right.SEE, found.challenge):
        items = caller.store.sessions(found.id, ended=query.ended, limit=query.limit)
    else:
        items = sessions.of_member(caller.store, found.id, caller.user, ended=query.ended, limit=query.limit)
    return paging.of(Session, items)


@get("/workspaces/{workspace_id}/usage")
def show_usage(caller: Caller, workspace_id: Id, query: UsageQuery) -> UsageSeries:
    """Show what a workspace used over a day, a week or a month."""
    return UsageSeries.model_validate(usage.series(caller.store, caller.workspace(workspace_id), query.range))


@get("/workspaces/{workspace_id}/events")
def list_workspace_events(caller: Caller, workspace_id: Id, query: Paging) -> Part[Event]:
    """List who did what to a workspace, the newest first."""
    found = caller.workspace(workspace_id, own=False)
    q = f"workspace:{quoted(found.ref)}"
    walked = caller.store.walk_events(q, after=query.after, size=query.limit, newest=True)
    return paging.of(Event, walked.items, walked.next)


@post("/workspaces/{workspace_id}/start", Scope.WORKSPACES, 202)
def start_workspace(caller: Caller, workspace_id: Id) -> Job:
    """Start a workspace's container, making it if there is none."""
    return _queue(caller, workspace_id, JobKind.START)


@post("/workspaces/{workspace_id}/stop", Scope.WORKSPACES, 202)
def stop_workspace(caller: Caller, workspace_id: Id) -> Job:
    """Stop a workspace's container.

    Its sessions end and its programs too; its files stay, and the next login starts it again.
    """
    return _queue(caller, workspace_id, JobKind.STOP)


@post("/workspaces/{workspace_id}/restart", Scope.WORKSPACES, 202)
def restart_workspace(caller: Caller, workspace_id: Id) -> Job:
    """Stop and start a workspace's container."""
    return _queue(caller, workspace_id, JobKind.RESTART)


@post("/workspaces/{workspace_id}/reset", Scope.WORKSPACES, 202)
def reset_workspace(caller: Caller, workspace_id: Id, body: Confirmed) -> Job:
    """Delete a workspace's container and all that was done in it.

    What is in no version is lost. The next login makes it anew from the challenge's image. Versions stay.
    """
    found = caller.workspace(workspace_id, Right.WORKSPACES)
    confirm(body.confirm, found.ref)
    caller.store.check_nothing_to_lose(found.id)
    return _queue(caller, workspace_id, JobKind.RESET)


@post("/workspaces/{workspace_id}/remove", Scope.WORKSPACES, 202)
def remove_workspace(caller: Caller, workspace_id: Id, body: Confirmed) -> Job:
    """Delete a workspace, its container and all files in it.

    Accounts and archived versions stay.
    """
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    confirm(body.confirm, found.ref)
    caller.store.check_removable(found.id)
    return _queue(caller, workspace_id, JobKind.REMOVE)


@operation("PUT", "/workspaces/{workspace_id}/limits", Scope.WORKSPACES, 202)
def set_workspace_limits(caller: Caller, workspace_id: Id, body: Limits) -> Job:
    """Say what one workspace may use, in place of what its challenge says.

    A container that exists has it when the job is done, also while it runs.
    """
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    limits = OwnLimits(body.cpus, body.memory, body.pids)
    return Job.of(actions.give_limits(caller.store, found.id, limits, actor=caller.name)[1])


@post("/workspaces/{workspace_id}/snapshots", Scope.SNAPSHOTS, 201)
def request_snapshot(caller: Caller, workspace_id: Id, body: Request) -> Snapshot:
    """Request a snapshot of a workspace.

    It waits for a decision, unless the challenge's own rule approves it at once.
    """
    found = caller.workspace(workspace_id, Right.WORKSPACES)
    command = named_command(body.entrypoint, body.cmd)
    message = body.message.replace("\r\n", "\n")
    asked = caller.store.request_snapshot(found.id, message, actor=caller.name, via="web", command=command)
    return Snapshot.model_validate(asked)


@put("/workspaces/{workspace_id}/members/{name}", Scope.WORKSPACES)
def add_member(caller: Caller, workspace_id: Id, name: Name) -> Workspace:
    """Let somebody log in to a workspace."""
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    caller.store.add_member(found.id, name, actor=caller.name)
    return Workspace.model_validate(caller.store.workspace(found.id))


@delete("/workspaces/{workspace_id}/members/{name}", Scope.WORKSPACES)
def remove_member(caller: Caller, workspace_id: Id, name: Name) -> None:
    """Let somebody log in to a workspace no more."""
    found = caller.workspace(workspace_id, Right.WORKSPACES, own=False)
    caller.store.remove_member(found.id, name, actor=caller.name)


def confirm(said: str, ref: str) -> None:
    """Raise Refused unless the name was said of what loses something."""
    if said != ref:
        raise Refused(f"To do this, confirm must be {ref}.", "Nothing was done.")


def _queue(caller: Caller, workspace_id: int, kind: JobKind) -> Job:
    """Members keep to what they may on their page: within the challenge's dates, one thing at a time, not too often."""
    found = caller.workspace(workspace_id, Right.WORKSPACES)
    if not caller.may(Right.WORKSPACES, found.challenge):
        return Job.of(own.act(caller.store, parts().acts, found, kind, actor=caller.name))
    return Job.of(caller.store.add_job(kind, found.id, actor=caller.name))
