"""What workspaces and the host used: by the minute for a day, by the hour for a month, by the day for two years.

    a look, each minute ─► added to its minute, its hour and its day ─► what is older than its kind is kept goes

A mean is kept with the number of its samples, so nothing is summed up later and a killed worker leaves nothing undone.
One workspace's past is read by the times that it may have, each one a search by the table's key.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict

from workspaces.errors import InvalidInput
from workspaces.model import HostSample, HostUsage, Sample, Usage
from workspaces.store.connection import Connections, Row

MINUTE, HOUR, DAY = 60, 3600, 86400
KEPT = {MINUTE: DAY + HOUR, HOUR: 32 * DAY, DAY: 732 * DAY}  # seconds, by step
NOW_SECONDS = 3 * MINUTE  # what is older is not what somebody uses now
ROWS_MAX = 3000  # read for one answer

_MEANS = (
    "cpus = (cpus * samples + excluded.cpus) / (samples + 1), "
    "memory = (memory * samples + excluded.memory) / (samples + 1)"
)
_MOST = "cpus_most = max(cpus_most, excluded.cpus_most), memory_most = max(memory_most, excluded.memory_most)"
_ADD = f"""
    INSERT INTO usage (step, at, workspace_id, samples, cpus, cpus_most, memory, memory_most, pids_most, disk,
        received, sent)
    VALUES (:step, :at, :workspace_id, 1, :cpus, :cpus, :memory, :memory, :pids, :disk, :received, :sent)
    ON CONFLICT (step, at, workspace_id) DO UPDATE SET {_MEANS}, {_MOST}, samples = samples + 1,
        pids_most = max(pids_most, excluded.pids_most), disk = coalesce(excluded.disk, disk),
        received = received + excluded.received, sent = sent + excluded.sent"""  # noqa: S608 -- our own constants
_ADD_HOST = f"""
    INSERT INTO host_usage (step, at, samples, cpus, cpus_most, cores, memory, memory_most, memory_total, disk,
        disk_total, load)
    VALUES (:step, :at, 1, :cpus, :cpus, :cores, :memory, :memory, :memory_total, :disk, :disk_total, :load)
    ON CONFLICT (step, at) DO UPDATE SET {_MEANS}, {_MOST}, samples = samples + 1, cores = excluded.cores,
        load = (load * samples + excluded.load) / (samples + 1),
        memory_total = excluded.memory_total, disk = excluded.disk, disk_total = excluded.disk_total"""  # noqa: S608 -- our own constants
_SUMS = (
    "u.at / :step * :step AS at, sum(u.samples) AS samples, sum(u.cpus * u.samples) / sum(u.samples) AS cpus, "
    "max(u.cpus_most) AS cpus_most, CAST(sum(u.memory * u.samples) / sum(u.samples) AS INTEGER) AS memory, "
    "max(u.memory_most) AS memory_most"
)
_TIMES = (
    "WITH RECURSIVE times (at) AS (SELECT :first UNION ALL SELECT at + :base FROM times WHERE at + :base <= :last) "
)
_USAGE = (
    f"{_TIMES} SELECT {_SUMS}, max(u.pids_most) AS pids_most, max(u.disk) AS disk, sum(u.received) AS received, "  # noqa: S608 -- our own constants
    "sum(u.sent) AS sent FROM times t CROSS JOIN usage u "
    "ON u.step = :base AND u.at = t.at AND u.workspace_id = :workspace GROUP BY 1 ORDER BY 1"
)
_HOST = (
    f"SELECT {_SUMS}, max(u.cores) AS cores, max(u.memory_total) AS memory_total, max(u.disk) AS disk, "  # noqa: S608 -- our own constants
    "max(u.disk_total) AS disk_total, sum(u.load * u.samples) / sum(u.samples) AS load "
    "FROM host_usage u WHERE u.step = :base AND u.at BETWEEN :first AND :last GROUP BY 1 ORDER BY 1"
)


class UsageTables(Connections):
    def add_usage(self, at: float, samples: Mapping[int, Sample], host: HostSample | None = None) -> None:
        """Add one look at workspaces (by id) and host; `at` in seconds since the epoch. Forgets what is too old."""
        with self._write() as db:
            for step, kept in KEPT.items():
                when = {"step": step, "at": int(at) // step * step}
                rows = [when | asdict(sample) | {"workspace_id": number} for number, sample in samples.items()]
                db.conn.executemany(_ADD, rows)
                if host is not None:
                    db.execute(_ADD_HOST, when | asdict(host))
                for table in ("usage", "host_usage"):
                    db.execute(f"DELETE FROM {table} WHERE step = ? AND at < ?", [step, int(at) - kept])  # noqa: S608 -- our own names

    def usage(self, workspace_id: int, since: float, step: int) -> list[Usage]:
        """What it used since then, in parts of `step` seconds, oldest first; none for those in which it did not run.

        `step` is a multiple of a minute, an hour or a day; what is no longer kept so finely is not there.
        InvalidInput for other steps, and for more than ROWS_MAX of them.
        """
        rows = self._read(_USAGE, since, step, workspace=workspace_id)
        return [Usage(**row) for row in rows]

    def host_usage(self) -> HostUsage | None:
        """The host in the latest minute, None when nobody looked within NOW_SECONDS."""
        found = self.host_usages(time.time() - NOW_SECONDS, MINUTE)
        return found[-1] if found else None

    def host_usages(self, since: float, step: int) -> list[HostUsage]:
        """The host since then, as `usage` tells it of a workspace."""
        return [HostUsage(**row) for row in self._read(_HOST, since, step)]

    def _read(self, sql: str, since: float, step: int, **more: object) -> list[Row]:
        base = next((kept for kept in sorted(KEPT, reverse=True) if step > 0 and step % kept == 0), None)
        if base is None:
            raise InvalidInput(f"Use is known by the minute, hour and day, not by {step} seconds.")
        now = time.time()
        first = max(int(since), int(now) - KEPT[base]) // step * step
        if (now - first) / base > ROWS_MAX:
            raise InvalidInput("So long a time is known by longer steps only.")
        params = {"step": step, "base": base, "first": first, "last": int(now), **more}
        with self._errors():
            return [{**row, "seconds": step} for row in self._db().query(sql, params)]
