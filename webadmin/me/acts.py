"""Starting, stopping, restarting and resetting one's own workspace."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, render_template, request

from webadmin import access, danger, session
from webadmin.actions import own
from webadmin.context import parts, store
from webadmin.i18n import N_, _
from webadmin.me.base import bp, home, space
from workspaces.errors import InvalidInput
from workspaces.model import JobKind

SAID = {
    "start": N_("%(workspace)s is being started."),
    "stop": N_("%(workspace)s is being stopped."),
    "restart": N_("%(workspace)s is being restarted."),
}


@bp.post("/workspaces/<int:workspace_id>/<any(start,stop,restart):action>")
def act(workspace_id: int, action: str) -> Any:
    found = access.own_workspace(workspace_id)
    own.act(store(), parts().acts, found, JobKind(action), actor=session.me().name)
    flash(_(SAID[action], workspace=found.ref))
    return home(found.id)


@bp.route("/workspaces/<int:workspace_id>/reset", methods=["GET", "POST"])
@access.step_up
def reset(workspace_id: int) -> Any:
    """Say what a reset loses (GET); have the worker do it (POST), once the name is typed."""
    found = space(workspace_id)
    error: InvalidInput | None = None
    if request.method == "POST":
        try:
            danger.check(found.workspace.ref)
        except InvalidInput as wrong:
            error = wrong
        else:
            own.act(store(), parts().acts, found.workspace, JobKind.RESET, actor=session.me().name)
            flash(_("%(workspace)s is being reset.", workspace=found.workspace.ref))
            return home(found.workspace.id)
    html = render_template("me/reset.html", space=found, typed=danger.typed(), error=error)
    return make_response(html, error.http_status if error else 200)
