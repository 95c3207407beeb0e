"""The record of who did what."""

from __future__ import annotations

from typing import Any

from flask import render_template

from webadmin import access, listing
from webadmin.admin.base import bp
from webadmin.context import store
from workspaces.queries import Listed
from workspaces.rights import Right


@bp.get("/events")
@access.require(Right.AUDIT)
def events() -> Any:
    asked = listing.found(store().find_events, within=access.scope(Right.AUDIT))
    return render_template(
        "admin/events.html",
        asked=asked,
        page=asked.page,
        events=asked.page.items,
        syntax=listing.syntax(Listed.EVENTS),
    )
