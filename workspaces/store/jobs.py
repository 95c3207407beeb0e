"""Durable units of background work.

    queued ─► running ─► done
      │  ▲        ├────► failed
      │  └────────┴ tried again later, or the worker was killed
      └─► cancelled              (retries.py: cancelling, and queueing again)

One worker runs them; it never runs two of one workspace at once, and what changes a workspace's container keeps
its order: a restore asked for after a commit does not overtake it, not even while the commit waits for its next try.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping

from workspaces.errors import Conflict, NotFound
from workspaces.model import OF_VERSIONS, Job, JobKind, JobState
from workspaces.store.events import Events
from workspaces.store.rows import to_job
from workspaces.store.workspaces import Workspaces

_JOBS = (
    "SELECT j.id, j.kind, j.state, j.workspace_id, c.slug || '/' || w.name AS workspace, j.snapshot_id, "
    "j.requested_by, j.progress, j.message, j.error, j.attempts, j.created_at, j.started_at, j.finished_at, "
    "j.arguments "
    "FROM jobs j JOIN workspaces w ON w.id = j.workspace_id JOIN challenges c ON c.id = w.challenge_id"
)
# These only read the container or work on images: they wait for nothing, and nothing waits for them.
_UNORDERED = "('inspect', 'archive', 'push', 'sbom')"
_TEXT_MAX = 2000
SYSTEM = "worker"  # the actor of what no person does


class Jobs(Workspaces, Events):
    def add_job(
        self,
        kind: JobKind,
        workspace_id: int,
        *,
        actor: str,
        snapshot_id: int | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job:
        """Queue work for the worker. An equal one that is queued already is returned instead. NotFound."""
        with self._write():
            ref = self._ref(workspace_id) if kind in OF_VERSIONS else self.workspace(workspace_id).ref
            if snapshot_id is not None and not self._find("SELECT 1 FROM snapshots WHERE id = ?", [snapshot_id]):
                raise NotFound(f"There is no snapshot {snapshot_id}.")
            told = _arguments(arguments)
            equal = (
                f"{_JOBS} WHERE j.workspace_id = ? AND j.state = 'queued' AND j.kind = ? AND j.snapshot_id IS ? "
                "AND j.arguments = ?"
            )
            row = self._find(equal, [workspace_id, JobKind(kind), snapshot_id, told])
            if row:
                return to_job(row)
            self._record(actor, f"job.{kind}", ref, snapshot_id)
            return self._queue(kind, workspace_id, actor, snapshot_id, arguments)

    def job(self, job_id: int) -> Job:
        """Raises NotFound."""
        row = self._find(f"{_JOBS} WHERE j.id = ?", [job_id])
        if row is None:
            raise NotFound(f"There is no job {job_id}.")
        return to_job(row)

    def jobs(
        self, states: Iterable[JobState] | None = None, workspace_id: int | None = None, limit: int | None = 100
    ) -> list[Job]:
        """Newest first; in some states, of one workspace, at most `limit` of them (None: all)."""
        sql = f"{_JOBS} WHERE 1"
        params: list[object] = []
        if workspace_id is not None:
            sql, params = f"{sql} AND j.workspace_id = ?", [workspace_id]
        if states is not None:
            wanted = [JobState(state) for state in states]
            sql, params = f"{sql} AND j.state IN ({', '.join('?' * len(wanted))})", [*params, *wanted]
        rows = self._rows(f"{sql} ORDER BY j.id DESC LIMIT ?", [*params, -1 if limit is None else limit])
        return [to_job(row) for row in rows]

    # the worker's side

    def claim_job(self, running_workspaces: Collection[int] = ()) -> Job | None:
        """QUEUED → RUNNING for the oldest job that may run now, with one more attempt; None when there is none.

        A workspace of which a job runs, or that is in `running_workspaces` (ids), is left alone.
        """
        oldest = f"""
            SELECT j.id FROM jobs j
            WHERE j.state = 'queued' AND j.not_before <= ?
              AND j.workspace_id NOT IN (SELECT value FROM json_each(?))
              AND NOT EXISTS (SELECT 1 FROM jobs r WHERE r.workspace_id = j.workspace_id AND r.state = 'running')
              AND (j.kind IN {_UNORDERED} OR NOT EXISTS (
                SELECT 1 FROM jobs e WHERE e.workspace_id = j.workspace_id AND e.state = 'queued'
                AND e.id < j.id AND e.kind NOT IN {_UNORDERED}))
            ORDER BY j.id LIMIT 1"""  # noqa: S608 -- our own constant
        params = [time.time(), json.dumps(sorted(running_workspaces))]
        if self._find(oldest, params) is None:  # without the write lock: the worker asks often
            return None
        with self._write() as db:
            row = self._find(oldest, params)
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started_at = ?, progress = 0 WHERE id = ?",
                [time.time(), row["id"]],
            )
            return self.job(row["id"])

    def job_progress(self, job_id: int, fraction: float | None, message: str) -> None:
        """What a running job does now; `fraction` 0 to 1, None when it is not known. Ignored once it has ended."""
        done = None if fraction is None or fraction != fraction else min(max(fraction, 0.0), 1.0)
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET progress = coalesce(?, progress), message = ? WHERE id = ? AND state = 'running'",
                [done, message[:_TEXT_MAX], job_id],
            )

    def finish_job(self, job_id: int, message: str) -> None:
        """RUNNING → DONE. NotFound; Conflict when it does not run."""
        with self._write() as db:
            job = self.job(job_id)
            sql = (
                "UPDATE jobs SET state = 'done', progress = 1, message = ?, error = NULL, finished_at = ? "
                "WHERE id = ? AND state = 'running'"
            )
            if db.execute(sql, [message[:_TEXT_MAX], time.time(), job_id]).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}, not running.")
            self._record(SYSTEM, "job.done", job.workspace, job.snapshot_id, data={"job": job_id, "kind": job.kind})

    def fail_job(self, job_id: int, error: str, retry_in: float | None) -> None:
        """RUNNING → QUEUED, to be tried again in `retry_in` seconds, or FAILED with None. NotFound, Conflict."""
        with self._write() as db:
            job = self.job(job_id)
            now, again = time.time(), retry_in is not None
            sql = (
                "UPDATE jobs SET state = ?, error = ?, not_before = ?, finished_at = ? "
                "WHERE id = ? AND state = 'running'"
            )
            state = JobState.QUEUED if again else JobState.FAILED
            params = [state, error[:_TEXT_MAX], now + (retry_in or 0), None if again else now, job_id]
            if db.execute(sql, params).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}, not running.")
            if not again:
                self._record(
                    SYSTEM,
                    "job.failed",
                    job.workspace,
                    job.snapshot_id,
                    data={"job": job_id, "kind": job.kind, "error": error},
                )

    def requeue_running(self) -> int:
        """Queue what a killed worker left running; returns how many. Only the one worker calls it, at its start."""
        with self._write() as db:
            return db.execute("UPDATE jobs SET state = 'queued', not_before = 0 WHERE state = 'running'").rowcount

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
        workspace_id: int,
        actor: str,
        snapshot_id: int | None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job:
        with self._write():
            row = {"kind": JobKind(kind), "state": JobState.QUEUED, "workspace_id": workspace_id}
            more = {"snapshot_id": snapshot_id, "requested_by": actor, "created_at": time.time()}
            return self.job(self._insert("jobs", {**row, **more, "arguments": _arguments(arguments)}))


def _arguments(arguments: Mapping[str, str] | None) -> str:
    return json.dumps(dict(arguments or {}), sort_keys=True)
