"""One's own SSH sessions: those that go on, those that were, and ending one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import session
from webadmin.context import store
from webadmin.i18n import _
from webadmin.me.base import bp
from webadmin.security import came_from
from workspaces.errors import NotFound
from workspaces.model import Session

SIZE = 50


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Session]
    total: int
    page: int
    size: int = SIZE
    sort: str = ""


@bp.get("/sessions")
def sessions() -> Any:
    number = max(1, request.args.get("page", 1, type=int))
    found = store().sessions(user=session.me().name, ended=True, limit=10_000)
    first = (number - 1) * SIZE
    return render_template("me/sessions.html", page=Page(found[first : first + SIZE], len(found), number))


@bp.post("/sessions/<int:session_id>/end")
def end_session(session_id: int) -> Any:
    """As `workspaces session kill` does: the gateway hangs it up within two seconds. Only one's own."""
    name = session.me().name
    try:
        found = store().session(session_id)
    except NotFound:
        found = None
    if found is None or found.user != name:
        raise NotFound(_("You have no such session."))
    store().kill_session(found.id, actor=name)
    flash(_("The session ends within two seconds."))
    return redirect(came_from() or url_for(".sessions"))
