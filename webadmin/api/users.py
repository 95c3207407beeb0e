"""Operations on accounts. Passwords do not pass through the API: people set their own, by an invitation."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import Part, User, UserDetail, UserLine
from webadmin.api.operations import Name, delete, get, post, put
from workspaces import accounts
from workspaces.errors import Conflict, Refused
from workspaces.model import Role
from workspaces.rights import Right
from workspaces.scopes import Scope


class NewUser(Input):
    name: Name
    """Lower-case letters, digits and single hyphens."""
    role: Role = Role.PARTICIPANT
    challenge: Name | None = None
    """Make a workspace of the same name in this challenge."""
    key: Annotated[str, StringConstraints(max_length=accounts.KEY_LINE_MAX)] | None = None
    """The line of a public key."""
    email: Annotated[str, StringConstraints(max_length=254)] | None = None
    """Where news are sent to."""


class NewRole(Input):
    role: Role


@get("/users")
def list_users(caller: Caller, query: Listed) -> Part[UserLine]:
    """List accounts."""
    caller.check(Right.USERS)
    walked = caller.store.walk_users(query.q, after=query.after, size=query.limit)
    lines = [
        UserLine(
            **User.model_validate(line.user).model_dump(),
            workspaces=[ref for _, ref in line.workspaces],
            keys=line.keys,
            last_login_at=line.last_login_at,  # type: ignore[arg-type]
        )
        for line in walked.items
    ]
    return paging.part(lines, walked.next)


@get("/users/{name}")
def show_user(caller: Caller, name: Name) -> UserDetail:
    """Show an account, with its keys, workspaces and roles."""
    if name != caller.name:
        caller.check(Right.USERS)
    return _detail(caller, name)


@post("/users", Scope.USERS, 201)
def add_user(caller: Caller, body: NewUser) -> UserDetail:
    """Add an account.

    It has no password: who has no key is invited to set one.
    """
    caller.check(Right.USERS)
    _may_give(caller, body.role)
    store = caller.store
    with store.transaction():
        accounts.create_user(
            store, body.name, role=body.role, challenge=body.challenge, key=body.key, actor=caller.name
        )
        if body.email is not None:
            store.set_email(body.name, body.email, actor=caller.name)
    return _detail(caller, body.name)


@post("/users/{name}/disable", Scope.USERS)
def disable_user(caller: Caller, name: Name) -> UserDetail:
    """Refuse an account's logins; what it has stays."""
    caller.check(Right.USERS)
    if name == caller.name:
        raise Conflict("You cannot disable your own account.", "Another administrator can.")
    caller.store.set_disabled(name, True, actor=caller.name)
    return _detail(caller, name)


@post("/users/{name}/enable", Scope.USERS)
def enable_user(caller: Caller, name: Name) -> UserDetail:
    """Allow an account's logins again."""
    caller.check(Right.USERS)
    caller.store.set_disabled(name, False, actor=caller.name)
    return _detail(caller, name)


@put("/users/{name}/role", Scope.USERS)
def set_role(caller: Caller, name: Name, body: NewRole) -> UserDetail:
    """Give an account a role on the whole host."""
    caller.check(Right.USERS)
    _may_give(caller, body.role)
    if name == caller.name:
        raise Conflict("You cannot change your own role.", "Another administrator can.")
    caller.store.set_role(name, body.role, actor=caller.name)
    return _detail(caller, name)


@put("/users/{name}/roles/{challenge}", Scope.USERS)
def set_challenge_role(caller: Caller, name: Name, challenge: Name, body: NewRole) -> UserDetail:
    """Give an account a role in one challenge."""
    caller.check(Right.USERS)
    caller.store.set_challenge_role(name, challenge, body.role, actor=caller.name)
    return _detail(caller, name)


@delete("/users/{name}/roles/{challenge}", Scope.USERS, 200)
def remove_challenge_role(caller: Caller, name: Name, challenge: Name) -> UserDetail:
    """Take away an account's role in one challenge."""
    caller.check(Right.USERS)
    caller.store.set_challenge_role(name, challenge, Role.PARTICIPANT, actor=caller.name)
    return _detail(caller, name)


def _may_give(caller: Caller, role: Role) -> None:
    """Raise Refused for a token that would make an administrator, who may do what the token may not."""
    if role is not Role.PARTICIPANT and not caller.covers(Scope.ADMIN):
        raise Refused("A token gives roles on the whole host only with the scope admin.", "Take one that has it.")


def _detail(caller: Caller, name: str) -> UserDetail:
    store = caller.store
    user = store.user(name)
    return UserDetail(
        **User.model_validate(user).model_dump(),
        challenges=dict(store.rights_of(name).challenges),
        workspaces=[workspace.ref for workspace in store.workspaces_of(name)],
        keys=store.keys(name),  # type: ignore[arg-type]
    )
