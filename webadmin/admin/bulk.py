"""The same done to many workspaces: chosen one by one, or all that a search finds.

    list: boxes and an action ─► page that says which and what it means ─► done one by one ─► a result for each

What is confirmed is what is done: the page that asks names them by number, whatever the search finds by then.
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
    q = form.get("q", "") if form.get("all") and not form.get("do") else None
    ids = numbers(form.get("ids", "").split(",") + form.getlist("id"))
    workspaces = actions.chosen(store(), ids, q=q, within=access.scope(Right.SEE))
    text = form.get("text", "").replace("\r\n", "\n")
    error: WorkspacesError | None = None
    results: list[actions.Result] = []
    if form.get("do"):
        try:
            results = actions.do(store(), name, workspaces, text, check=access.check, actor=actor())
            results += actions.gone(ids, workspaces)
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
        error=error,
    )
    return make_response(html, error.http_status if error else 200)


def numbers(texts: list[str]) -> set[int]:
    """The numbers among what a form names, not many more than may be done at once."""
    return {int(text) for text in texts[: actions.MOST + 2] if text.isascii() and text.isdigit() and len(text) < 19}
