"""Deciding on many requests at once, each by itself with its result; one that fails does not stop the others."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from webadmin import access
from webadmin.admin.base import actor, bp
from webadmin.admin.bulk import Result
from webadmin.context import store
from webadmin.i18n import _
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.names import check_message
from workspaces.rights import Right

MOST = 500  # requests at once


@bp.post("/queue/decide")
@access.require(Right.DECIDE)
def decide() -> Any:
    """Approve or reject the requests that the form names. InvalidInput for none, or a rejection without a reason."""
    action = request.form.get("action")
    if action not in ("approve", "reject"):
        raise InvalidInput(_("There is no such action."))
    ids = sorted({int(text) for text in request.form.getlist("id") if text.isascii() and text.isdigit()})
    if not ids:
        raise InvalidInput(_("No request is chosen."), _("Tick some of them."))
    if len(ids) > MOST:
        raise InvalidInput(_("These are more than %(most)s requests.", most=MOST), _("Decide on fewer at once."))
    reason = request.form.get("reason", "").replace("\r\n", "\n").strip()
    if action == "reject":
        if not reason:
            raise InvalidInput(
                _("A rejection needs a reason."), _("Say what should be different; the participant reads it.")
            )
        check_message(reason)
    return render_template("admin/decided.html", results=[_one(action, number, reason) for number in ids])


def _one(action: str, number: int, reason: str) -> Result:
    name = f"#{number}"
    try:
        slug = store().challenge_of("snapshot", number)
        access.check(Right.DECIDE, slug or "")
        name = f"{store().snapshot(number).workspace} #{number}"
        if action == "approve":
            store().approve_snapshot(number, actor=actor())
            return Result(name, _("approved; the worker commits it"), good=True)
        store().reject_snapshot(number, reason, actor=actor())
        return Result(name, _("rejected"), good=True)
    except WorkspacesError as error:
        return Result(name, error.message, good=False)
