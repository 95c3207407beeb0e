"""The list of workspaces."""

from __future__ import annotations

from typing import Any

from flask import render_template

from webadmin import access, listing
from webadmin.actions.bulk import ACTIONS
from webadmin.admin.base import bp
from webadmin.context import store
from webadmin.live import fragment
from workspaces.queries import Listed
from workspaces.rights import Right


def _list() -> dict[str, Any]:
    asked = listing.found(store().find_workspaces, within=access.scope(Right.SEE))
    lines = asked.page.items
    return {
        "asked": asked,
        "page": asked.page,
        "workspaces": [line.workspace for line in lines],
        "syntax": listing.syntax(Listed.WORKSPACES),
        "actions": {name: action for name, action in ACTIONS.items() if access.may(action.right)},
        "jobs": {line.workspace.id: line.job for line in lines if line.job},
    }


@bp.get("/workspaces")
@access.require(Right.SEE)
def workspaces() -> Any:
    return render_template("admin/workspaces.html", **_list())


@bp.get("/workspaces/live")
@access.require(Right.SEE)
def live_workspaces() -> Any:
    return fragment(lambda: render_template("admin/_workspaces.html", **_list()))
