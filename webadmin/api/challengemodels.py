"""Challenges and what became of freezing them, as JSON."""

from __future__ import annotations

from webadmin.api.models import Moment, Out
from workspaces.model import Forwarding, FreezeMode, FrozenState, Network, Recorded, Sbom


class Limits(Out):
    cpus: float
    memory: int
    pids: int


class Mount(Out):
    source: str
    target: str


class Challenge(Out):
    """A contest on this host."""

    id: int
    slug: str
    image: str
    limits: Limits
    network: Network
    mounts: list[Mount]
    login_user: str
    opens_at: Moment | None
    closes_at: Moment | None
    created_at: Moment
    forwarding: list[Forwarding]
    idle_seconds: float | None
    session_seconds: float | None
    keep_last: int | None
    keep_submitted: bool
    auto_approve: int
    at_close: FreezeMode | None
    downloads: bool
    frozen: FreezeMode | None
    sbom: Sbom
    record: Recorded


class Frozen(Out):
    """What became of one workspace when its challenge was frozen."""

    workspace_id: int
    workspace: str
    state: FrozenState
    snapshot_id: int | None
    version: int | None
    job_id: int
    detail: str
    done_at: Moment | None


class Freeze(Out):
    """One freezing of a challenge."""

    id: int
    challenge: str
    mode: FreezeMode
    requested_by: str
    closes_at: Moment | None
    began_at: Moment
    ended_at: Moment | None
    thawed_at: Moment | None
    workspaces: list[Frozen]
