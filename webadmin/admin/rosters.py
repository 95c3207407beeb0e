"""Lists of people: a CSV file is checked and shown first, and carried out when the same list is sent again.

They give keys and addresses to accounts that exist, administrators' too, so who sends one confirms that it is he.

file or text ─► roster.parse, plan ─► page: what each row does, what is wrong with which line
                                        └► the text again, with "do it" ─► roster.enrol ─► list of users
"""

from __future__ import annotations

from typing import Any

from flask import Response, flash, make_response, redirect, render_template, request, url_for

from webadmin import access
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _
from workspaces import roster
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.rights import Right

FORM_MAX = roster.MAX_BYTES + (64 << 10)  # bytes of a form with the list in it
ROWS = 200  # of the preview


@bp.app_url_value_preprocessor
def _take_lists(endpoint: str | None, _values: object) -> None:
    """Before anything reads the form, which is larger than others."""
    if endpoint == "admin.check_users":
        request.max_content_length = request.max_form_memory_size = FORM_MAX


@bp.get("/users/import")
@access.require(Right.USERS)
@access.step_up
def import_users() -> Any:
    return _page()


@bp.post("/users/import")
@access.require(Right.USERS)
@access.step_up
def check_users() -> Any:
    """Show what a list would do, or with `do` carry it out."""
    file = request.files.get("file")
    data = file.read(roster.MAX_BYTES + 1) if file and file.filename else request.form.get("text", "").encode()
    found = None
    try:
        rows, problems = roster.parse(data, request.form.get("challenge", ""))
        found = roster.plan(store(), rows, problems)
        if request.form.get("do") and not found.problems:
            done = roster.enrol(store(), rows, seen=request.form.get("seen", ""), actor=actor())
            flash(
                _(
                    "%(accounts)s accounts and %(workspaces)s workspaces are made.",
                    accounts=done.count("account"),
                    workspaces=done.count("workspace"),
                )
            )
            return redirect(url_for(".users"))
    except WorkspacesError as error:
        return _page(data, found, error)
    return _page(data, found)


@bp.get("/users/export")
@access.require(Right.USERS)
def export_users() -> Any:
    """All accounts as CSV."""
    response = Response(roster.export(store()), mimetype="text/csv")
    response.headers["Content-Disposition"] = "attachment; filename=users.csv"
    return response


def _page(data: bytes = b"", found: roster.Plan | None = None, error: WorkspacesError | None = None) -> Any:
    html = render_template(
        "admin/import.html",
        text=data.decode("utf-8-sig", "replace") if len(data) <= roster.MAX_BYTES else "",
        plan=found,
        shown=ROWS,
        challenges=[challenge.slug for challenge in store().challenges()],
        challenge=request.form.get("challenge", ""),
        error=error,
    )
    wrong = error or (InvalidInput("") if found and found.problems else None)
    return make_response(html, wrong.http_status if wrong else 200)
