"""The overview: what runs, what waits, what went wrong, and how the host is; each figure leads to its list.

Everything is counted in the challenges that the reader may see; the host's own figures are for who has its right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from flask import render_template

from webadmin import access
from webadmin.admin.base import bp
from webadmin.context import parts, store
from webadmin.live import fragment
from workspaces import heartbeat
from workspaces.model import HostUsage, Job, Session, SnapshotLine, WorkspaceLine
from workspaces.queries import Listed
from workspaces.rights import Right

IDLE = "idle>7d"
DAY = 86400.0
FEW = 6  # lines of each list
LATE = DAY  # seconds that a request may wait before it is marked
FULL = 0.9  # of disk or memory, above which the figure is marked


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts of workspaces by what their name says; the oldest requests; the latest failures."""

    workspaces: int
    running: int
    idle: int
    failed: int
    waiting: int
    oldest: tuple[SnapshotLine, ...]
    broken: tuple[WorkspaceLine, ...]
    failures: tuple[Job, ...]
    moving: int
    on: tuple[Session, ...]
    on_count: int
    trouble: str | None
    host: HostUsage | None

    @property
    def waits_since(self) -> float | None:
        """When the oldest request was made."""
        return self.oldest[0].snapshot.requested_at if self.oldest else None

    @property
    def late(self) -> bool:
        return self.waits_since is not None and time.time() - self.waits_since > LATE


def look() -> Overview:
    """All of it, for who is signed in."""
    within = access.scope(Right.SEE)
    spaces = store().find_workspaces("state:failed", size=FEW, within=within)
    requests = store().find_snapshots("state:requested", sort="requested", size=FEW, within=access.scope(Right.DECIDE))
    jobs = store().find_jobs("state:failed ended<1d", size=FEW, within=within)
    on = store().find_sessions("on:yes", size=FEW, within=within)

    def count(q: str, listed: Listed = Listed.WORKSPACES) -> int:
        return store().count_matching(q, listed, within=within)

    return Overview(
        workspaces=count(""),
        running=count("state:running"),
        idle=count(f"state:running {IDLE}"),
        failed=spaces.total,
        waiting=requests.total,
        oldest=requests.items,
        broken=spaces.items,
        failures=jobs.items,
        moving=count("state:queued,running", Listed.JOBS),
        on=on.items,
        on_count=on.total,
        trouble=heartbeat.trouble(parts().settings.locks),
        host=store().host_usage() if access.may(Right.HOST) else None,
    )


@bp.get("/overview")
@access.require(Right.SEE)
def overview() -> Any:
    return render_template("admin/overview.html", now=look(), full=FULL)


@bp.get("/overview/live")
@access.require(Right.SEE)
def live_overview() -> Any:
    return fragment(lambda: render_template("admin/_overview.html", now=look(), full=FULL))
