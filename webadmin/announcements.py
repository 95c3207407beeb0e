"""Announcements as everybody reads them: above each page, until put away."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, url_for

from webadmin import access, session
from webadmin.context import store
from webadmin.security import came_from
from workspaces.model import Announcement

bp = Blueprint("announcements", __name__, url_prefix="/announcements")
bp.before_request(access.require_login)


def announced() -> list[Announcement]:
    """What the signed-in person has to read now."""
    account = session.account()
    return store().announcements_for(account.name) if account else []


@bp.post("/<int:announcement_id>/dismiss")
def dismiss(announcement_id: int) -> Any:
    """The person has read it."""
    store().dismiss_announcement(announcement_id, session.me().name)
    return redirect(came_from() or url_for("start"))
