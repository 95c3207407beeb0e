"""Users: the list, adding a participant, one user's page, disabling and setting a password."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access, auth, listing
from webadmin.actions import people
from webadmin.admin import signing
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _
from workspaces import accounts
from workspaces.errors import Conflict, InvalidInput, NotFound, WorkspacesError
from workspaces.queries import Listed
from workspaces.rights import Right


def _list(error: WorkspacesError | None = None) -> Any:
    asked = listing.found(store().find_users)
    html = render_template(
        "admin/users.html",
        asked=asked,
        page=asked.page,
        lines=asked.page.items,
        syntax=listing.syntax(Listed.USERS),
        challenges=store().challenges(),
        error=error,
        typed=request.form,
    )
    return auth.limited(make_response(html, error.http_status if error else 200), error)


@bp.get("/users")
@access.require(Right.USERS)
def users() -> Any:
    return _list()


@bp.post("/users")
@access.require(Right.USERS)
@access.step_up
def add_user() -> Any:
    """Add a participant with a workspace in a challenge, and a password, a key, or both."""
    form = request.form
    name = form.get("name", "").strip()
    try:
        password, key = form.get("password", ""), form.get("key", "").strip()
        if not password and not key and not store().authorities():
            raise InvalidInput(_("Nobody could sign in to this account."), _("Give a password, an ssh key, or both."))
        with auth.hashing() if password else nullcontext():
            accounts.create_participant(
                store(),
                name,
                form.get("challenge", ""),
                password=password or None,
                key=key or None,
                actor=actor(),
            )
    except (InvalidInput, Conflict, NotFound, auth.NotNow) as error:
        return _list(error)
    flash(_("%(name)s is added and can sign in now.", name=name))
    return redirect(url_for(".user", name=name))


def _page(name: str, error: WorkspacesError | None = None) -> Any:
    user = store().user(name)
    html = render_template(
        "admin/user.html",
        user=user,
        keys=store().keys(user.name),
        spaces=store().workspaces_of(user.name),
        events=store().events(20, actor=user.name),
        **signing.about(user.name),
        error=error,
    )
    return auth.limited(make_response(html, error.http_status if error else 200), error)


@bp.get("/users/<name>")
@access.require(Right.USERS)
def user(name: str) -> Any:
    return _page(name)


@bp.post("/users/<name>/password")
@access.require(Right.USERS)
@access.step_up
def set_password(name: str) -> Any:
    found = store().user(name)
    try:
        with auth.hashing():
            hashed = accounts.hash_password(request.form.get("password", ""))
    except (InvalidInput, auth.NotNow) as error:
        return _page(found.name, error)
    store().set_password_hash(found.name, hashed, actor=actor())
    flash(_("%(name)s has a new password and is signed out of this site.", name=found.name))
    return redirect(url_for(".user", name=found.name))


@bp.post("/users/<name>/<any(disable,enable):action>")
@access.require(Right.USERS)
@access.step_up
def set_disabled(name: str, action: str) -> Any:
    people.set_disabled(store(), name, action == "disable", actor=actor())
    if action == "disable":
        flash(_("%(name)s is disabled; new logins are refused.", name=name))
    else:
        flash(_("%(name)s is enabled again.", name=name))
    return redirect(url_for(".user", name=name))
