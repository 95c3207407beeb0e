"""Operations on accounts, their roles, and how people sign in.

Passwords do not pass through the API: people set their own, by an invitation. A token gives roles, and changes an
account that has one anywhere, only with the scope admin: else it could let its bearer in as somebody who may do more.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from webadmin.actions import people
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import Key, Part, User, UserLine
from webadmin.api.operations import Id, Name, delete, get, post, put
from webadmin.api.peoplemodels import Ended, Identity, Invitation, Invited, SignIn, UserDetail
from workspaces import accounts, model
from workspaces.errors import Refused
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
    people.set_disabled(caller.store, _account(caller, name), True, actor=caller.name)
    return _detail(caller, name)


@post("/users/{name}/enable", Scope.USERS)
def enable_user(caller: Caller, name: Name) -> UserDetail:
    """Allow an account's logins again."""
    people.set_disabled(caller.store, _account(caller, name), False, actor=caller.name)
    return _detail(caller, name)


# roles


@put("/users/{name}/role", Scope.USERS)
def set_role(caller: Caller, name: Name, body: NewRole) -> UserDetail:
    """Give an account a role on the whole host."""
    caller.check(Right.USERS)
    _may_give(caller, body.role)
    people.give_role(caller.store, _account(caller, name), body.role, actor=caller.name)
    return _detail(caller, name)


@put("/users/{name}/roles/{challenge}", Scope.USERS)
def set_challenge_role(caller: Caller, name: Name, challenge: Name, body: NewRole) -> UserDetail:
    """Give an account a role in one challenge."""
    caller.check(Right.USERS)
    _may_give(caller, body.role)
    people.give_role(caller.store, _account(caller, name), body.role, challenge=challenge, actor=caller.name)
    return _detail(caller, name)


@delete("/users/{name}/roles/{challenge}", Scope.USERS, 200)
def remove_challenge_role(caller: Caller, name: Name, challenge: Name) -> UserDetail:
    """Take away an account's role in one challenge."""
    people.give_role(caller.store, _account(caller, name), Role.PARTICIPANT, challenge=challenge, actor=caller.name)
    return _detail(caller, name)


# signing in


@post("/users/{name}/invitation", Scope.USERS, 201)
def invite_user(caller: Caller, name: Name) -> Invited:
    """Make an address with which somebody sets a password.

    It is good once, and for a week; an earlier one is void.
    """
    address, made = people.invite(caller.store, _account(caller, name), actor=caller.name)
    return Invited(**Invitation.model_validate(made).model_dump(), address=address)


@delete("/users/{name}/invitation", Scope.USERS)
def withdraw_invitation(caller: Caller, name: Name) -> None:
    """Let an invitation be good no more."""
    caller.store.withdraw_invitation(_account(caller, name), actor=caller.name)


@delete("/users/{name}/factors", Scope.USERS, 200)
def remove_factors(caller: Caller, name: Name) -> UserDetail:
    """Take away one-time codes, passkeys and recovery codes.

    For who has lost them: the password alone signs in again. Browsers that are signed in are signed out.
    """
    caller.store.remove_factors(_account(caller, name), actor=caller.name)
    return _detail(caller, name)


@delete("/users/{name}/sign-ins", Scope.USERS, 200)
def sign_out_user(caller: Caller, name: Name) -> Ended:
    """Sign somebody out of the pages, in all browsers."""
    return Ended(count=caller.store.end_sign_ins(_account(caller, name), actor=caller.name))


@delete("/users/{name}/identities/{identity_id}", Scope.USERS)
def unlink_user(caller: Caller, name: Name, identity_id: Id) -> None:
    """Let an account at the provider sign in here no more."""
    caller.store.unlink_identity(_account(caller, name), identity_id, actor=caller.name)


def check_entered(caller: Caller, user: model.User) -> None:
    """Raise Refused for a token that would let its bearer in as somebody who may do what it may not."""
    if not caller.covers(Scope.ADMIN) and caller.store.rights_of(user.name).is_staff:
        raise Refused(
            "A token changes an account that decides or administers only with the scope admin.", "Take one that has it."
        )


def _account(caller: Caller, name: str) -> str:
    """The name of an account that the caller may change. Raises Refused, NotFound."""
    caller.check(Right.USERS)
    check_entered(caller, caller.store.user(name))
    return name


def _may_give(caller: Caller, role: Role) -> None:
    """Raise Refused for a token that would make somebody who may do what the token may not."""
    if role is not Role.PARTICIPANT and not caller.covers(Scope.ADMIN):
        raise Refused("A token gives roles only with the scope admin.", "Take one that has it.")


def _detail(caller: Caller, name: str) -> UserDetail:
    store = caller.store
    user, invitation = store.user(name), store.invitation_of(name)
    return UserDetail(
        **User.model_validate(user).model_dump(),
        challenges=dict(store.rights_of(name).challenges),
        workspaces=[workspace.ref for workspace in store.workspaces_of(name)],
        keys=[Key.model_validate(key) for key in store.keys(name)],
        passkeys=len(store.passkeys(name)),
        identities=[Identity.model_validate(one) for one in store.identities(name)],
        sign_ins=[SignIn.model_validate(one) for one in store.sign_ins(name)],
        invitation=Invitation.model_validate(invitation) if invitation else None,
    )
