"""What is counted for a monitor: how many there are of each, and how long what waits has waited."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from workspaces.store.connection import Connections
from workspaces.store.jobs import BEHIND


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts by what they are of; ages in seconds, 0 when nothing waits."""

    workspaces: dict[str, int]  # by state
    requests: int  # that wait for a decision
    oldest_request: float
    jobs: dict[tuple[str, str], int]  # by kind and state; not those that are done
    oldest_job: float  # that could be begun
    outages: dict[str, int]  # jobs that wait for an engine, archive or registry that does not answer
    sessions: dict[str, int]  # open ones, by kind
    users: int  # that may log in
    versions: int
    version_bytes: int  # uncompressed, that they add to their bases
    disk_bytes: int  # that containers have written


@dataclass(frozen=True, slots=True)
class Archived:
    """Versions, those of which only the record is left, bytes that they add, and how many wait for the archive."""

    versions: int
    pruned: int
    bytes: int
    waiting: int


class _Enough(Exception):
    """Rolls back."""


class Figures(Connections):
    def counted(self) -> Counted:
        """All of them as of now, without reading what has ended long ago."""
        now = time.time()
        requests = self._one("SELECT count(*) AS n, min(requested_at) AS at FROM snapshots WHERE state = 'requested'")
        waiting = self._one(
            "SELECT min(max(j.created_at, j.not_before)) AS at FROM jobs j WHERE j.state = 'queued' "  # noqa: S608
            f"AND j.not_before <= ? AND {BEHIND} IS NULL",
            [now],
        )
        versions = self._one(
            "SELECT count(*) AS n, sum(size) AS size FROM snapshots "
            "WHERE state IN ('committed', 'archived') AND pruned_at IS NULL"
        )
        disk = self._one("SELECT sum(disk_bytes) AS size FROM workspaces WHERE removed_at IS NULL")
        jobs = self._rows(
            "SELECT kind, state, count(*) AS n FROM jobs WHERE state IN ('queued', 'running', 'failed') GROUP BY 1, 2"
        )
        return Counted(
            self._by("SELECT state, count(*) FROM workspaces WHERE removed_at IS NULL GROUP BY state"),
            requests["n"],
            _age(requests["at"], now),
            {(row["kind"], row["state"]): row["n"] for row in jobs},
            _age(waiting["at"], now),
            self.outages(),
            self._by("SELECT kind, count(*) FROM sessions WHERE ended_at IS NULL GROUP BY kind"),
            self._one("SELECT count(*) AS n FROM users WHERE NOT disabled")["n"],
            versions["n"],
            versions["size"] or 0,
            disk["size"] or 0,
        )

    def archived(self) -> Archived:
        """What the archive should hold."""
        row = self._one(
            "SELECT sum(state = 'archived') AS versions, sum(pruned_at IS NOT NULL) AS pruned, "
            "sum(CASE WHEN state = 'archived' AND pruned_at IS NULL THEN size END) AS bytes, "
            "sum(state = 'committed') AS waiting FROM snapshots WHERE state IN ('committed', 'archived')"
        )
        return Archived(**{name: value or 0 for name, value in row.items()})

    def outages(self) -> dict[str, int]:
        """How many jobs wait for an engine, archive or registry that does not answer, by which it is."""
        return self._by(
            "SELECT waits_for, count(*) FROM jobs WHERE state = 'queued' AND waits_for IS NOT NULL GROUP BY 1"
        )

    def waits_for_engine(self) -> bool:
        """Whether a job found that the engine does not answer, and waits for it."""
        return self._find("SELECT 1 FROM jobs WHERE state = 'queued' AND waits_for = 'engine'") is not None

    def check_writable(self) -> None:
        """Raise what the beginning of a write would: StoreBusy, StoreError. Nothing is written."""
        with suppress(_Enough), self._write():
            raise _Enough

    def _by(self, sql: str) -> dict[str, int]:
        return {str(name): int(count) for name, count in (tuple(row.values()) for row in self._rows(sql))}


def _age(at: float | None, now: float) -> float:
    return 0.0 if at is None else max(0.0, now - at)
