"""What runs, what waits, what went wrong, and how the host is, for the page and the API.

Everything is counted in the challenges that somebody may see; the host's own figures are for who has its right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from webadmin.actions import jobs
from workspaces import heartbeat
from workspaces.model import HostUsage, Job, Session, SnapshotLine, WorkspaceLine
from workspaces.queries import Listed
from workspaces.rights import Right, Rights
from workspaces.store import Store

IDLE = "idle>7d"
DAY = 86400.0
FEW = 6  # lines of each list
LATE = DAY  # seconds that a request may wait before it is marked


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


def look(store: Store, rights: Rights, locks: Path) -> Overview:
    """All of it, for who has these rights; the worker's sign of life is in `locks`."""
    within = rights.scope(Right.SEE)
    spaces = store.find_workspaces("state:failed", size=FEW, within=within)
    requests = store.find_snapshots("state:requested", sort="requested", size=FEW, within=rights.scope(Right.DECIDE))
    always = jobs.always(rights)
    failures = store.find_jobs(f"state:failed ended<1d {always}", size=FEW, within=within)
    on = store.find_sessions("on:yes", size=FEW, within=within)

    def count(q: str, listed: Listed = Listed.WORKSPACES) -> int:
        return store.count_matching(q, listed, within=within)

    return Overview(
        workspaces=count(""),
        running=count("state:running"),
        idle=count(f"state:running {IDLE}"),
        failed=spaces.total,
        waiting=requests.total,
        oldest=requests.items,
        broken=spaces.items,
        failures=failures.items,
        moving=count(f"state:queued,running {always}", Listed.JOBS),
        on=on.items,
        on_count=on.total,
        trouble=heartbeat.trouble(locks),
        host=store.host_usage() if rights.may(Right.HOST) else None,
    )
