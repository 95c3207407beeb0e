"""Who may pass: guards that whole blueprints carry, so that a new route is closed until it says otherwise."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, request, url_for

from webadmin import errors, live, session
from webadmin.context import store
from webadmin.i18n import _
from webadmin.security import came_from
from workspaces.errors import NotFound, Refused
from workspaces.model import Snapshot, Workspace


def require_login() -> Any:
    """Let the signed-in pass; lead others to the sign-in page, and back from there."""
    return None if session.account() else _sign_in(_("Please sign in."))


def require_admin() -> Any:
    """Let administrators pass. To change something, the session must be where it was signed in."""
    account = session.account()
    if account is None:
        return _sign_in(_("Please sign in."))
    if not account.is_admin:
        raise Refused(_("Only administrators may do that."))
    if request.method not in ("GET", "HEAD") and not session.is_fresh():
        return _sign_in(_("Your address or browser has changed. Please sign in again; nothing was done yet."))
    return None


def _sign_in(why: str) -> Any:
    if live.wanted():
        return errors.answer(401, _("You are not signed in any more."), _("Reload the page to sign in."))
    flash(why)
    back = request.script_root + request.full_path.rstrip("?") if request.method == "GET" else came_from()
    return redirect(url_for("auth.login", next=back))


def own_workspace(workspace_id: int) -> Workspace:
    """The workspace if the signed-in user is a member of it. NotFound alike when it is another's or nobody's."""
    for workspace in store().workspaces_of(session.me().name):
        if workspace.id == workspace_id:
            return workspace
    raise NotFound(_("You have no such workspace."))


def own_snapshot(snapshot_id: int) -> Snapshot:
    """The snapshot if it is of a workspace of the signed-in user. NotFound alike when it is another's or nobody's."""
    try:
        snapshot = store().snapshot(snapshot_id)
        own_workspace(snapshot.workspace_id)
    except NotFound:
        raise NotFound(_("You have no such snapshot.")) from None
    return snapshot
