"""The administrators' blueprint, and what its modules share."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect

from webadmin import access, session
from webadmin.context import store
from webadmin.security import came_from
from workspaces.model import UNDER_WAY, Job, JobState

bp = Blueprint("admin", "webadmin.admin", url_prefix="/admin")
bp.before_request(access.guard)


def actor() -> str:
    """Who acts, for the record."""
    return session.me().name


def back(otherwise: str) -> Any:
    """To the page that the form was on, as far as the browser says which; else to `otherwise`."""
    return redirect(came_from() or otherwise)


def moving_job(workspace_id: int) -> Job | None:
    """What is being done to a workspace, or waits to be; the running one where there are several."""
    jobs = store().jobs(states=UNDER_WAY, workspace_id=workspace_id, limit=50)
    return max(jobs, key=lambda j: (j.state is JobState.RUNNING, -j.id), default=None)
