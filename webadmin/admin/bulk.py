"""The same done to many workspaces: chosen one by one, or all that a search finds.

    list: boxes and an action ─► page that says which and what it means ─► done one by one ─► a result for each

What a search finds is looked up again when it is done.
"""

from __future__ import annotations

from typing import Any

from flask import make_response, render_template, request

from webadmin import access
from webadmin.actions import bulk as actions
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.rights import Right

SHOWN = 200  # names on the page that asks


@bp.post("/workspaces/bulk")
@access.require(Right.SEE)
def bulk() -> Any:
    """Say what an action would do; with `do`, do it."""
    name, form = request.form.get("action", ""), request.form
    if name not in actions.ACTIONS:
        raise InvalidInput(_("There is no such action."))
    if actions.ACTIONS[name].dangerous and (answer := access.unproven()):
        return answer
    q = form.get("q", "") if form.get("all") else None
    workspaces = actions.chosen(store(), numbers("id"), q=q, within=access.scope(Right.SEE))
    text = form.get("text", "").replace("\r\n", "\n")
    error: WorkspacesError | None = None
    results: list[actions.Result] = []
    if form.get("do"):
        try:
            results = actions.do(store(), name, workspaces, text, check=access.check, actor=actor())
        except InvalidInput as problem:
            error = problem
    html = render_template(
        "admin/bulk.html",
        name=name,
        action=actions.ACTIONS[name],
        workspaces=workspaces,
        shown=SHOWN,
        results=results,
        text=text,
        q=form.get("q", ""),
        all=bool(form.get("all")),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)


def numbers(name: str) -> set[int]:
    """The numbers that the form's boxes of that name have."""
    texts = request.form.getlist(name)[: actions.MOST + 1]
    return {int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19}
