"""Lists of people as CSV: what one would do, and doing it, all of it or nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from webadmin.api.auth import Caller
from webadmin.api.inputs import Input
from webadmin.api.operations import Name, post
from webadmin.api.peoplemodels import Roster, RosterProblem, RosterStep
from webadmin.api.problems import Problem
from webadmin.api.users import check_entered
from workspaces import roster
from workspaces.rights import Right
from workspaces.scopes import Scope

BODY_MAX = roster.MAX_BYTES + (64 << 10)  # bytes


class List(Input):
    text: Annotated[str, StringConstraints(max_length=roster.MAX_BYTES)]
    """CSV with a header that names some of the columns name, challenge, workspace, email, key."""
    challenge: Name | None = None
    """That of rows which name none."""


@post("/roster/check", Scope.USERS, tag="users", body_max=BODY_MAX)
def check_roster(caller: Caller, body: List) -> Roster:
    """Say what a list of people would do, and what is wrong with which line."""
    return _told(_plan(caller, body)[1])


@post("/roster", Scope.USERS, tag="users", body_max=BODY_MAX)
def enrol_roster(caller: Caller, body: List) -> Roster:
    """Make the accounts, keys, workspaces and memberships of a list of people, all or none.

    What is there already stays as it is, so a list may be sent again.
    """
    rows, found = _plan(caller, body)
    if found.problems:
        errors = [
            {"pointer": "#/text", "detail": f"Line {one.line}{one.column and f', {one.column}'}: {one.message}"[:400]}
            for one in found.problems
        ]
        raise Problem(422, "The list has lines that cannot be carried out; nothing was done.", errors=errors)
    return _told(roster.enrol(caller.store, rows, seen=found.mark, actor=caller.name))


def _plan(caller: Caller, body: List) -> tuple[list[roster.Row], roster.Plan]:
    """Raises Refused, InvalidInput for what is no list at all."""
    caller.check(Right.USERS)
    rows, problems = roster.parse(body.text.encode(), body.challenge or "")
    found = roster.plan(caller.store, rows, problems)
    for step in found.steps:
        if {"key", "email"} & set(step.does) and (user := caller.store.find_user(step.row.name)) is not None:
            check_entered(caller, user)
    return rows, found


def _told(found: roster.Plan) -> Roster:
    return Roster(
        steps=[
            RosterStep(line=step.row.line, name=step.row.name, workspace=step.row.ref, does=list(step.does))
            for step in found.steps
        ],
        problems=[RosterProblem.model_validate(one) for one in found.problems],
    )
