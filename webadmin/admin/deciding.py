"""Deciding on many requests at once, each by itself with its result; one that fails does not stop the others."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from webadmin import access
from webadmin.actions import bulk as actions
from webadmin.admin.base import actor, bp
from webadmin.admin.bulk import numbers
from webadmin.context import store
from workspaces.rights import Right


@bp.post("/queue/decide")
@access.require(Right.DECIDE)
def decide() -> Any:
    """Approve or reject the requests that the form names. InvalidInput for none, or a rejection without a reason."""
    action, reason = request.form.get("action", ""), request.form.get("reason", "")
    results = actions.decide(
        store(), action, numbers(request.form.getlist("id")), reason, check=access.check, actor=actor()
    )
    return render_template("admin/decided.html", results=results)
