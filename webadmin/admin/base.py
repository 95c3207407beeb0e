"""The administrators' blueprint, and what its modules share."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect

from webadmin import access, session
from webadmin.context import store
from webadmin.security import came_from
from workspaces.model import Job, JobState

bp = Blueprint("admin", "webadmin.admin", url_prefix="/admin")
bp.before_request(access.guard)

MOVING = (JobState.QUEUED, JobState.RUNNING)


def actor() -> str:
    """Who acts, for the record."""
    return session.me().name


def back(otherwise: str) -> Any:
    """To the page that the form was on, as far as the browser says which; else to `otherwise`."""
    return redirect(came_from() or otherwise)


def moving_jobs() -> dict[int, Job]:
    """What is being done or waits to be, by workspace; the running one where there are several."""
    jobs = store().jobs(states=MOVING, limit=1000)
    return {j.workspace_id: j for j in sorted(jobs, key=lambda j: (j.state is JobState.RUNNING, -j.id))}
