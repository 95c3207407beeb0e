"""The overview: what runs, what waits, what went wrong, and how the host is; each figure leads to its list."""

from __future__ import annotations

from typing import Any

from flask import render_template

from webadmin import access, session
from webadmin.actions import health
from webadmin.actions import overview as actions
from webadmin.admin.base import bp
from webadmin.context import parts, store
from webadmin.live import fragment
from workspaces.rights import Right

FULL = 0.9  # of disk or memory, above which the figure is marked


def _look() -> dict[str, Any]:
    locks = parts().settings.locks
    now = actions.look(store(), session.me().rights, locks)
    return {"now": now, "health": health.look(store(), locks) if access.may(Right.HOST) else None, "full": FULL}


@bp.get("/overview")
@access.require(Right.SEE)
def overview() -> Any:
    return render_template("admin/overview.html", **_look())


@bp.get("/overview/live")
@access.require(Right.SEE)
def live_overview() -> Any:
    return fragment(lambda: render_template("admin/_overview.html", **_look()))
