"""Announcements: those that are shown or will be, writing one with a look at it first, ending one."""

from __future__ import annotations

import time
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access
from webadmin.actions import announcing
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _
from workspaces.errors import InvalidInput, NotFound, WorkspacesError
from workspaces.model import Announcement
from workspaces.rights import Right


def _may_tell(challenge: str | None) -> bool:
    """To all is for administrators of the host."""
    return access.may(Right.HOST) if challenge is None else access.may(Right.TELL, challenge)


def _check(challenge: str | None) -> None:
    if challenge is None:
        access.check(Right.HOST)
    else:
        access.check(Right.TELL, challenge)


def _page(draft: announcing.Draft | None = None, error: WorkspacesError | None = None) -> Any:
    scope = access.scope(Right.TELL)
    every = request.args.get("show") == "all"
    html = render_template(
        "admin/announcements.html",
        items=announcing.told(store(), scope, ended=every),
        challenges=[c.slug for c in store().challenges() if scope is None or c.slug in scope],
        may_tell=_may_tell,
        every=every,
        now=time.time(),
        draft=draft,
        error=error,
        typed=request.form,
    )
    return make_response(html, error.http_status if error else 200)


@bp.route("/announcements", methods=["GET", "POST"])
@access.require(Right.TELL)
def announcements() -> Any:
    """The list and the form (GET); what it would look like, or making it (POST)."""
    if request.method == "GET":
        return _page()
    _check(request.form.get("challenge") or None)
    try:
        draft = announcing.draft(request.form)
        if request.form.get("do") != "announce":
            return _page(draft)
        made = draft.add(store(), actor=actor())
    except (InvalidInput, NotFound) as error:
        return _page(error=error)
    flash(_said(made))
    return redirect(url_for(".announcements"))


def _said(made: Announcement) -> str:
    if made.from_at > made.created_at:
        return _("It will be shown from that moment on.")
    return _("It is announced: on every page, at each login, and in open terminals.")


@bp.post("/announcements/end")
@access.require(Right.TELL)
def end_announcement() -> Any:
    found = store().announcement(request.form.get("announcement", 0, type=int))
    _check(found.challenge)
    store().end_announcement(found.id, actor=actor())
    flash(_("The announcement has ended."))
    return redirect(url_for(".announcements"))
