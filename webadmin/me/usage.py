"""What a workspace used: plots and a table, and their figures as JSON."""

from __future__ import annotations

from typing import Any

from flask import jsonify, render_template, request

from webadmin.actions import usage
from webadmin.context import store
from webadmin.me.base import bp, space


@bp.get("/workspaces/<int:workspace_id>/usage")
def usage_of(workspace_id: int) -> Any:
    """JSON for who asks for that (actions/usage.py says what is in it), else a page."""
    found = space(workspace_id)
    chosen = request.args.get("range", "day")
    if request.accept_mimetypes.best == "application/json":
        response = jsonify(usage.series(store(), found.workspace, chosen))
        response.headers["Vary"] = "Accept"
        return response
    rows = usage.rows(store(), found.workspace, chosen)
    return render_template(
        "me/usage.html",
        space=found,
        ranges=list(usage.RANGES),
        range=chosen,
        rows=rows,
        summary=usage.summary(rows),
    )
