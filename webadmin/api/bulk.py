"""Operations on many at once: workspaces, and decisions on requests, with a result for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from webadmin.actions import bulk as actions
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input
from webadmin.api.models import Out
from webadmin.api.operations import Id, post
from workspaces.errors import InvalidInput
from workspaces.model import Workspace
from workspaces.queries import LENGTH_MAX
from workspaces.rights import Right
from workspaces.scopes import Scope

Message = Annotated[str, StringConstraints(max_length=4000)]


class Chosen(Input):
    """Either `ids` or `q`."""

    ids: Annotated[list[Id], Field(max_length=actions.MOST)] | None = None
    """Workspaces by number."""
    q: Annotated[str, StringConstraints(max_length=LENGTH_MAX)] | None = None
    """All that this finds, as in the list; the empty text finds all that you may see."""


class Bulk(Chosen):
    action: Literal["start", "stop", "restart", "freeze", "thaw"]


class Told(Chosen):
    text: Message
    """What they read, in one line."""


class Decisions(Input):
    action: Literal["approve", "reject"]
    ids: Annotated[list[Id], Field(min_length=1, max_length=actions.MOST_REQUESTS)]
    """Requests by number."""
    reason: Message = ""
    """What the people will read; a rejection needs one."""


class Result(Out):
    """What became of one of many."""

    id: int
    workspace: str
    said: str
    good: bool
    job: int | None
    """That does it now."""


class Results(Out):
    items: list[Result]


@post("/workspaces/bulk", Scope.WORKSPACES)
def bulk_workspaces(caller: Caller, body: Bulk) -> Results:
    """Start, stop, restart, freeze or thaw many workspaces.

    Each by itself, with a result: one that fails, or is not yours to change, does not stop the others.
    """
    found = _chosen(caller, body)
    done = actions.do(caller.store, body.action, found, check=caller.check, actor=caller.name)
    return _results(done + actions.gone(body.ids or (), found))


@post("/workspaces/message", Scope.TELL)
def message_workspaces(caller: Caller, body: Told) -> Results:
    """Say something to whoever has a terminal open in some workspaces."""
    found = _chosen(caller, body)
    done = actions.do(caller.store, "message", found, body.text, check=caller.check, actor=caller.name)
    return _results(done + actions.gone(body.ids or (), found))


@post("/snapshots/decide", Scope.SNAPSHOTS)
def decide_snapshots(caller: Caller, body: Decisions) -> Results:
    """Approve or reject many requests, each by itself, with a result."""
    caller.check(Right.DECIDE)
    return _results(
        actions.decide(caller.store, body.action, body.ids, body.reason, check=caller.check, actor=caller.name)
    )


def _chosen(caller: Caller, body: Chosen) -> list[Workspace]:
    caller.check(Right.SEE)
    if (body.ids is None) is (body.q is None):
        raise InvalidInput("Say which: either ids or q.")
    return actions.chosen(caller.store, body.ids or (), q=body.q, within=caller.rights.scope(Right.SEE))


def _results(found: list[actions.Result]) -> Results:
    return Results(items=[Result.model_validate(one) for one in found])
