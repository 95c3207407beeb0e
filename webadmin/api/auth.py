"""Who calls: the person whose token a program shows, with the rights that he has now and the scopes of the token."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from flask import request

from webadmin.actions.sessions import is_own
from webadmin.api.problems import Problem
from webadmin.context import parts, store
from workspaces.apitokens import PREFIX, SECRET_MAX, digest
from workspaces.errors import NotFound, Refused, StoreError
from workspaces.model import Job, Session, Snapshot, Token, User, Workspace
from workspaces.rights import Right, Rights
from workspaces.scopes import Scope, covers
from workspaces.store import Store

TOUCH_SECONDS = 60.0  # between two notes that a token is used
NOTHING = "There is nothing at this address, or it is not yours to see."


@dataclass(frozen=True, slots=True)
class Caller:
    """What the token's owner may do; whether the token may, was looked at before (`of`)."""

    user: User
    rights: Rights
    token: Token
    store: Store
    secret: str = field(repr=False)

    @property
    def name(self) -> str:
        return self.user.name

    def covers(self, scope: Scope) -> bool:
        return covers([Scope(s) for s in self.token.scopes], scope)

    def may(self, right: Right, challenge: str | None = None) -> bool:
        return self.rights.may(right, challenge)

    def check(self, right: Right, challenge: str | None = None) -> None:
        """Raise NotFound for a challenge that one may not even see, Refused for one where `right` does not hold."""
        if self.may(right, challenge):
            return
        if challenge is not None and not self.may(Right.SEE, challenge):
            raise NotFound(NOTHING)
        raise Refused("Your role does not allow that.", "An administrator of this host can give you another.")

    # things that one may see: one's own, and those of challenges where one has the right SEE

    def workspace(self, workspace_id: int, right: Right = Right.SEE, *, own: bool = True) -> Workspace:
        """The workspace. Raises NotFound when one may not see it; Refused when one may, and has not `right`.

        A member needs no right when `own`.
        """
        try:
            found = self.store.workspace(workspace_id)
        except NotFound:
            raise NotFound(NOTHING) from None
        self._checked(self.name in found.members, found.challenge, right, own)
        return found

    def snapshot(self, snapshot_id: int, right: Right = Right.SEE, *, own: bool = True) -> Snapshot:
        """The same for a snapshot, by its workspace; who asked for one is not enough once he is no member."""
        try:
            found = self.store.snapshot(snapshot_id)
        except NotFound:
            raise NotFound(NOTHING) from None
        self._of(found.workspace_id, found.workspace, right, own)
        return found

    def job(self, job_id: int, right: Right = Right.SEE, *, own: bool = True) -> Job:
        """The same for a job; one about the host is for who has its right."""
        try:
            found = self.store.job(job_id)
        except NotFound:
            raise NotFound(NOTHING) from None
        if not found.workspace_id and not self.may(Right.HOST):
            raise NotFound(NOTHING)
        self._of(found.workspace_id, found.workspace, right, own)
        return found

    def session(self, session_id: int, right: Right = Right.SEE) -> Session:
        """The same for a session, which is one's own when one is the person."""
        try:
            found = self.store.session(session_id)
        except NotFound:
            raise NotFound(NOTHING) from None
        if not is_own(found, self.user):
            self._seen(found.workspace.partition("/")[0], right)
        return found

    def _of(self, workspace_id: int, ref: str, right: Right, own: bool) -> None:
        member = any(mine.id == workspace_id for mine in self.store.workspaces_of(self.name))
        self._checked(member, ref.partition("/")[0], right, own)

    def _checked(self, member: bool, slug: str, right: Right, own: bool) -> None:
        if not member:
            self._seen(slug, right)
        elif not own and not self.may(right, slug):
            raise Refused("Your role does not allow that.")

    def _seen(self, challenge: str, right: Right) -> None:
        if not self.may(Right.SEE, challenge):
            raise NotFound(NOTHING)
        self.check(right, challenge)


def caller(scope: Scope | None, *, counted: bool = True) -> Caller:
    """Who calls, with a token for `scope` (None: for any). Raises Problem 401, 403 or 429.

    Only the header Authorization is looked at: nothing that a browser sends by itself.
    """
    address = request.remote_addr or "?"
    limits = parts().limits
    kind, _, secret = request.headers.get("Authorization", "").strip().partition(" ")
    secret = secret.strip()
    if kind.lower() != "bearer" or not secret:
        raise _unknown("This address takes a token: Authorization: Bearer wst_…", "Make one on your account's page.")
    found = None
    if secret.startswith(PREFIX) and len(secret) <= SECRET_MAX and secret.isascii():
        found = store().find_token(digest(secret))
    if found is None:
        if wait := limits.wrong(address):  # who shows a right one from there is not kept from it
            raise too_many(wait)
        raise _unknown("The token is unknown, has expired, or was removed.", "Make one on your account's page.", True)
    token, user, rights = found
    if counted and (wait := limits.take(user.id, writes=request.method not in ("GET", "HEAD", "OPTIONS"))):
        raise too_many(wait)
    if time.time() - (token.last_used_at or 0) > TOUCH_SECONDS:
        with suppress(StoreError):  # no reason to refuse the request
            store().touch_token(token.id, address)
    who = Caller(user, rights, token, store(), secret)
    if scope is not None and not who.covers(scope):
        raise Problem(
            403,
            f"The token has not the scope {scope}.",
            f"It has: {', '.join(token.scopes)}. Another one can be made on your account's page.",
            headers={"WWW-Authenticate": f'Bearer realm="workspaces", error="insufficient_scope", scope="{scope}"'},
        )
    return who


def too_many(wait: float) -> Problem:
    seconds = int(wait) + 1
    return Problem(429, "Too many requests.", f"Go on in {seconds} s.", headers={"Retry-After": str(seconds)})


def _unknown(message: str, hint: str, shown: bool = False) -> Problem:
    error = ', error="invalid_token"' if shown else ""
    return Problem(401, message, hint, headers={"WWW-Authenticate": f'Bearer realm="workspaces"{error}'})
