"""One's own SSH sessions: those that go on, those that were, and ending one."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import session
from webadmin.actions.sessions import is_own, own
from webadmin.context import store
from webadmin.i18n import _
from webadmin.me.base import bp
from webadmin.security import came_from
from workspaces.errors import NotFound


@bp.get("/sessions")
def sessions() -> Any:
    number = request.args.get("page", 1, type=int)
    return render_template("me/sessions.html", page=store().find_sessions(own(session.me().user), page=number))


@bp.post("/sessions/<int:session_id>/end")
def end_session(session_id: int) -> Any:
    """As `workspaces session kill` does: the gateway hangs it up within two seconds. Only one's own."""
    user = session.me().user
    try:
        found = store().session(session_id)
    except NotFound:
        found = None
    if found is None or not is_own(found, user):
        raise NotFound(_("You have no such session."))
    store().kill_session(found.id, actor=user.name)
    flash(_("The session ends within two seconds."))
    return redirect(came_from() or url_for(".sessions"))
