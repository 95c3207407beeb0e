"""Durable units of background work.

    queued ─► running ─► done
      │  ▲        ├────► failed
      │  └────────┴ tried again later, or the worker was killed
      └─► cancelled              (retries.py: cancelling, and queueing again)

One worker runs them. Of what changes a workspace's container it never runs two at once, and keeps their order: a
restore asked for after a commit does not overtake it, not even while the commit waits for its next try; only what comes
to the same either way passes a restore that waits for the archive (jobkinds.PASSING). The steps of one snapshot are
never done beside each other either; a version that takes hours to push holds up nothing else.

Else the highest priority is first. Waiting adds to it, so that nothing waits for ever; and what a workspace has waited
counts from when its last job of that kind began, so that fifty of one workspace let those of the others through.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.jobkinds import AGEING_SECONDS, DELETING, KINDS, LOOKING, ORDERED, PASSING, PRIORITY_MAX, STEPS
from workspaces.model import OF_HOST, OF_VERSIONS, Job, JobKind, JobState, LogLine
from workspaces.store.events import Events
from workspaces.store.roles import Roles
from workspaces.store.rows import to_job


def _among(kinds: Iterable[JobKind]) -> str:
    return f"({', '.join(repr(kind.value) for kind in kinds)})"


_ORDERED, _DELETING, _STEPS, _LOOKING = _among(ORDERED), _among(DELETING), _among(STEPS), _among(LOOKING)
# Whether r, which runs, keeps j from being begun.
_EXCLUDES = f"""
    (r.workspace_id = j.workspace_id AND (r.kind IN {_ORDERED} AND j.kind IN {_ORDERED}
        OR r.kind IN {_LOOKING} AND j.kind IN {_DELETING} OR r.kind IN {_DELETING} AND j.kind IN {_LOOKING})
    OR r.snapshot_id = j.snapshot_id AND r.kind IN {_STEPS} AND j.kind IN {_STEPS})"""
_PASSES = " OR ".join(f"j.kind = '{kind}' AND e.kind IN {_among(others)}" for kind, others in PASSING.items())
# Whether e, which waits, keeps j from being begun.
_AHEAD = f"""
    e.workspace_id = j.workspace_id AND e.state = 'queued' AND (e.created_at, e.id) < (j.created_at, j.id)
    AND e.kind IN {_ORDERED} AND j.kind IN {_ORDERED}
    AND NOT (coalesce(e.waits_for, '') IN ('archive', 'registry') AND ({_PASSES})
        AND (j.kind = 'limits' OR json_extract(e.arguments, '$.discard') IS NULL))"""
# The job that has to end before j can begin, if it waits for one.
BEHIND = f"""CASE WHEN j.state = 'queued' THEN coalesce(
    (SELECT min(r.id) FROM jobs r WHERE r.state = 'running' AND {_EXCLUDES}),
    (SELECT e.id FROM jobs e WHERE {_AHEAD} ORDER BY e.created_at, e.id LIMIT 1)) END"""  # noqa: S608 -- our own constants
_JOBS = (
    f"SELECT {BEHIND} AS behind, j.id, j.kind, j.state, coalesce(j.workspace_id, 0) AS workspace_id, "  # noqa: S608
    "coalesce(c.slug || '/' || w.name, '') AS workspace, j.snapshot_id, "
    "j.requested_by, j.progress, j.message, j.error, j.attempts, j.created_at, j.started_at, j.finished_at, "
    "j.arguments, j.priority, j.not_before AS retry_at, j.cancelled_by, j.seen_at, j.bytes_done, j.bytes_total, "
    "j.expected_at, j.waits_for, j.waits_since "
    "FROM jobs j LEFT JOIN workspaces w ON w.id = j.workspace_id LEFT JOIN challenges c ON c.id = w.challenge_id"
)

_TEXT_MAX = 2000
_LINE_MAX = 500
LOG_MAX = 200  # lines kept of one job, the latest
SYSTEM = "worker"  # the actor of what no person does


class Jobs(Roles, Events):
    def add_job(
        self,
        kind: JobKind,
        workspace_id: int | None = None,
        *,
        actor: str,
        snapshot_id: int | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job:
        """Queue work for the worker, without a workspace if it is about the host.

        An equal one that is queued already is returned instead. NotFound.
        """
        with self._write():
            if (workspace_id is None) is not (kind in OF_HOST):
                raise InvalidInput(f"A job of kind {kind} is about {'the host' if workspace_id else 'a workspace'}.")
            ref = self._subject(kind, workspace_id)
            if snapshot_id is not None and not self._find("SELECT 1 FROM snapshots WHERE id = ?", [snapshot_id]):
                raise NotFound(f"There is no snapshot {snapshot_id}.")
            told = _arguments(arguments)
            equal = (
                f"{_JOBS} WHERE j.workspace_id IS ? AND j.state = 'queued' AND j.kind = ? AND j.snapshot_id IS ? "
                "AND j.arguments = ?"
            )
            row = self._find(equal, [workspace_id, JobKind(kind), snapshot_id, told])
            if row:
                return to_job(row)
            self._record(actor, f"job.{kind}", ref, snapshot_id)
            return self._queue(kind, workspace_id, actor, snapshot_id, arguments)

    def job(self, job_id: int) -> Job:
        """Raises NotFound."""
        return to_job(self._one(f"{_JOBS} WHERE j.id = ?", [job_id], f"There is no job {job_id}."))

    def jobs(
        self,
        states: Iterable[JobState] | None = None,
        workspace_id: int | None = None,
        limit: int | None = 100,
        challenges: Collection[str] | None = None,
    ) -> list[Job]:
        """Newest first; in some states, of one workspace, of some challenges, at most `limit` of them (None: all)."""
        wanted = None if states is None else [JobState(state) for state in states]
        return [to_job(row) for row in self._newest(_JOBS, "j", workspace_id, wanted, limit, challenges)]

    def job_log(self, job_id: int, after: int = 0) -> list[LogLine]:
        """What it did, in order; only lines with a greater id than `after`. NotFound."""
        self.job(job_id)
        rows = self._rows("SELECT id, at, line FROM job_log WHERE job_id = ? AND id > ? ORDER BY id", [job_id, after])
        return [LogLine(**row) for row in rows]

    def job_lines(self, job_ids: Iterable[int], after: int = 0) -> list[tuple[int, LogLine]]:
        """What some jobs did, with whose line each is, in order; only lines with a greater id than `after`."""
        sql = (
            "SELECT job_id, id, at, line FROM job_log "
            "WHERE job_id IN (SELECT value FROM json_each(?)) AND id > ? ORDER BY id"
        )
        rows = self._rows(sql, [json.dumps(list(job_ids)), after])
        return [(row["job_id"], LogLine(row["id"], row["at"], row["line"])) for row in rows]

    def set_job_priority(self, job_id: int, priority: int, *, actor: str) -> Job:
        """Let one that waits go before or after others, 0 to 100, higher first. NotFound, InvalidInput, Conflict."""
        if not 0 <= priority <= PRIORITY_MAX:
            raise InvalidInput(f"A priority is 0 to {PRIORITY_MAX}, not {priority}.")
        with self._write() as db:
            job = self.job(job_id)
            sql = "UPDATE jobs SET priority = ? WHERE id = ? AND state = 'queued'"
            if db.execute(sql, [priority, job_id]).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}; only one that waits has a place in the queue.")
            self._log(job_id, f"Priority {priority} by {actor}.")
            data = {"job": job_id, "kind": job.kind, "priority": priority}
            self._record(actor, "job.priority_set", job.workspace or None, job.snapshot_id, data=data)
            return self.job(job_id)

    # the worker's side

    def claim_job(self, running: Collection[int] = (), full: Collection[JobKind] = ()) -> Job | None:
        """QUEUED → RUNNING for the first job that may run now, with one more attempt; None when there is none.

        What a running job excludes waits, where those in `running` (ids) count as such, whatever became of them here;
        so do kinds in `full`.
        """
        first = f"""
            WITH busy AS (SELECT id, kind, workspace_id, snapshot_id FROM jobs
                WHERE state = 'running' OR id IN (SELECT value FROM json_each(?)))
            SELECT j.id FROM jobs j
            WHERE j.state = 'queued' AND j.not_before <= ?
              AND j.kind NOT IN (SELECT value FROM json_each(?))
              AND j.id NOT IN (SELECT id FROM busy)
              AND NOT EXISTS (SELECT 1 FROM busy r WHERE {_EXCLUDES})
              AND NOT EXISTS (SELECT 1 FROM jobs e WHERE {_AHEAD})
            ORDER BY j.priority + (? - max(j.created_at, coalesce((SELECT max(b.started_at) FROM jobs b
                WHERE b.workspace_id = j.workspace_id AND b.kind = j.kind), 0))) / ? DESC, j.id LIMIT 1"""  # noqa: S608 -- our own constant
        now = time.time()
        params = [json.dumps(sorted(running)), now, json.dumps(sorted(full)), now, AGEING_SECONDS]
        if self._find(first, params) is None:  # without the write lock: the worker asks often
            return None
        with self._write() as db:
            row = self._find(first, params)
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started_at = ?, seen_at = ?, "
                "progress = 0, bytes_done = NULL, bytes_total = NULL, expected_at = NULL WHERE id = ?",
                [now, now, row["id"]],
            )
            job = self.job(row["id"])
            self._log(job.id, "Begun." if job.attempts == 1 else f"Begun again, attempt {job.attempts}.")
            return job

    def job_progress(
        self,
        job_id: int,
        fraction: float | None,
        message: str,
        size: tuple[int, int] | None = None,
        expected_at: float | None = None,
    ) -> None:
        """What a running job does now; `fraction` 0 to 1, None when it is not known. Ignored once it has ended.

        `size` is the bytes done of how many, `expected_at` when that will be all. Once a byte of it is done, what did
        not answer before does. A new message is a line of its log.
        """
        done = None if fraction is None or fraction != fraction else min(max(fraction, 0.0), 1.0)
        part, whole = size or (None, None)
        with self._write() as db:
            before = self._find("SELECT message FROM jobs WHERE id = ? AND state = 'running'", [job_id])
            if before is None:
                return
            db.execute(
                "UPDATE jobs SET progress = coalesce(?, progress), message = ?, seen_at = ?, bytes_done = ?, "
                "bytes_total = ?, expected_at = ? WHERE id = ?",
                [done, message[:_TEXT_MAX], time.time(), part, whole, expected_at, job_id],
            )
            if part:
                unmet = "waits_for = NULL, waits_since = NULL"
                db.execute(f"UPDATE jobs SET {unmet} WHERE id = ? AND waits_since IS NOT NULL", [job_id])  # noqa: S608
            if message[:_TEXT_MAX] != before["message"]:
                self._log(job_id, message)

    def finish_job(self, job_id: int, message: str) -> None:
        """RUNNING → DONE. NotFound; Conflict when it does not run."""
        with self._write() as db:
            job = self.job(job_id)
            sql = (
                "UPDATE jobs SET state = 'done', progress = 1, message = ?, error = NULL, finished_at = ?, "
                "expected_at = NULL WHERE id = ? AND state = 'running'"
            )
            if db.execute(sql, [message[:_TEXT_MAX], time.time(), job_id]).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}, not running.")
            self._log(job_id, message)
            self._record(
                SYSTEM, "job.done", job.workspace or None, job.snapshot_id, data={"job": job_id, "kind": job.kind}
            )

    def fail_job(self, job_id: int, error: str, retry_in: float | None, waits_for: str | None = None) -> None:
        """RUNNING → QUEUED, to be tried again in `retry_in` seconds, or FAILED with None. NotFound, Conflict.

        `waits_for` is what did not answer, if that is why: the attempt does not count, but never as the first again. It
        has waited since the first attempt that this kept from everything.
        """
        again = retry_in is not None
        with self._write() as db:
            job = self._end(job_id, JobState.QUEUED if again else JobState.FAILED, error, retry_in or 0.0)
            if waits_for is not None:
                since = None if job.waits_for not in (None, waits_for) else job.waits_since
                db.execute(
                    "UPDATE jobs SET attempts = max(attempts - 1, 1), waits_since = ? WHERE id = ?",
                    [time.time() if since is None else since, job_id],
                )
            elif again:
                db.execute("UPDATE jobs SET waits_since = NULL WHERE id = ?", [job_id])
            db.execute("UPDATE jobs SET waits_for = ? WHERE id = ?", [waits_for, job_id])
            if not again:
                data = {"job": job_id, "kind": job.kind, "error": error}
                self._record(SYSTEM, "job.failed", job.workspace or None, job.snapshot_id, data=data)

    def stop_job(self, job_id: int, error: str) -> None:
        """RUNNING → CANCELLED, once it has done what `cancelled_by` asked for. NotFound, Conflict."""
        with self._write():
            job = self._end(job_id, JobState.CANCELLED, error, 0.0)
            self._record(
                job.cancelled_by or SYSTEM,
                "job.cancelled",
                job.workspace or None,
                job.snapshot_id,
                data={"job": job_id, "kind": job.kind},
            )

    def cancellations(self) -> dict[int, str]:
        """Running jobs that somebody wants to end: by id, who."""
        rows = self._rows("SELECT id, cancelled_by FROM jobs WHERE state = 'running' AND cancelled_by IS NOT NULL")
        return {row["id"]: row["cancelled_by"] for row in rows}

    def requeue_running(self) -> int:
        """Queue what a killed worker left running; returns how many. Only the one worker calls it, at its start."""
        with self._write() as db:
            for row in self._rows("SELECT id FROM jobs WHERE state = 'running'"):
                self._log(row["id"], "The worker ended; it is taken up again.")
            return db.execute(
                "UPDATE jobs SET state = 'queued', not_before = 0, expected_at = NULL, waits_for = NULL "
                "WHERE state = 'running'"
            ).rowcount

    def _end(self, job_id: int, state: JobState, error: str, pause: float) -> Job:
        """RUNNING → `state`, in which it is never shown as complete; queued, it waits for `pause` seconds."""
        with self._write() as db:
            job, now = self.job(job_id), time.time()
            sql = (
                "UPDATE jobs SET state = ?, error = ?, not_before = ?, finished_at = ?, expected_at = NULL, "
                "progress = min(progress, 0.99) WHERE id = ? AND state = 'running'"
            )
            waits = state is JobState.QUEUED
            params = [state, error[:_TEXT_MAX], now + pause if waits else 0, None if waits else now, job_id]
            if db.execute(sql, params).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}, not running.")
            self._log(job_id, f"{error} It is tried again in {pause:.0f} s." if waits else error)
            return job

    def _log(self, job_id: int, line: str) -> None:
        with self._write() as db:
            self._insert("job_log", {"job_id": job_id, "at": time.time(), "line": line[:_LINE_MAX]})
            db.execute(
                "DELETE FROM job_log WHERE job_id = ? AND id <= "
                "(SELECT id FROM job_log WHERE job_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                [job_id, job_id, LOG_MAX],
            )

    def _subject(self, kind: JobKind, workspace_id: int | None) -> str | None:
        """The `challenge/name` that a job is about, None for the host. NotFound when there is nothing to do it to."""
        if workspace_id is None:
            return None
        return self._ref(workspace_id) if kind in OF_VERSIONS else self.workspace(workspace_id).ref

    def _ref(self, workspace_id: int) -> str:
        """The `challenge/name` of a workspace, also of a removed one. NotFound."""
        sql = (
            "SELECT c.slug || '/' || w.name AS ref FROM workspaces w JOIN challenges c ON c.id = w.challenge_id "
            "WHERE w.id = ?"
        )
        return str(self._one(sql, [workspace_id], "There is no such workspace.")["ref"])

    def _queue(
        self,
        kind: JobKind,
        workspace_id: int | None,
        actor: str,
        snapshot_id: int | None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job:
        with self._write():
            row = {"kind": JobKind(kind), "state": JobState.QUEUED, "workspace_id": workspace_id}
            more = {"snapshot_id": snapshot_id, "requested_by": actor, "created_at": time.time()}
            more |= {"arguments": _arguments(arguments), "priority": KINDS[JobKind(kind)].priority}
            return self.job(self._insert("jobs", {**row, **more}))


def _arguments(arguments: Mapping[str, str] | None) -> str:
    return json.dumps(dict(arguments or {}), sort_keys=True)
