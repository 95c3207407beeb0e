"""Trying again, and cancelling: where a person changes a job and its snapshot together."""

from __future__ import annotations

import time

from workspaces.errors import Conflict, NotFound
from workspaces.jobkinds import HARMLESS, STEPS
from workspaces.model import OF_HOST, OF_VERSIONS, Job, JobKind, JobState, Snapshot, SnapshotState
from workspaces.store.contents import Contents
from workspaces.store.snapshots import APPROVED, AUTO, COMMITTING

UNDONE = (APPROVED, COMMITTING)
# Whether a job has been replaced: by one of its kind about the same, or, if it looks into the container or commits it,
# by one for a later request; not by one that somebody cancelled.
_NEWER = """
    SELECT 1 FROM jobs j JOIN jobs n ON n.workspace_id IS j.workspace_id AND n.kind = j.kind AND n.id > j.id
    AND n.state != 'cancelled'
    WHERE j.id = ? AND (n.snapshot_id IS j.snapshot_id OR j.kind IN ('inspect', 'commit'))"""


class Retries(Contents):
    def retry_snapshot(self, snapshot_id: int, *, actor: str) -> Job:
        """Commit a failed one once more. NotFound; Conflict when it has not failed or another one is open."""
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            self._reopen(snapshot)
            self._record(actor, "snapshot.retried", snapshot.workspace, snapshot_id)
            return self._queue(JobKind.COMMIT, snapshot.workspace_id, actor, snapshot_id)

    def retry_job(self, job_id: int, *, actor: str) -> Job:
        """Queue a failed or cancelled one again. NotFound, also for a removed workspace; Conflict in other states.

        It counts from now: what an earlier attempt did is done again, unlike after a worker's death. A commit's
        snapshot is approved again with it; Conflict when that is not possible.
        """
        with self._write() as db:
            job = self.job(job_id)
            if job.kind not in (*OF_VERSIONS, *OF_HOST):
                self.workspace(job.workspace_id)
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise Conflict(f"Job {job_id} is {job.state}; only a failed or cancelled one can be retried.")
            if job.kind is JobKind.COMMIT and job.snapshot_id is not None:
                self._reopen(self.snapshot(job.snapshot_id))
            db.execute(
                "UPDATE jobs SET state = 'queued', attempts = 0, not_before = 0, progress = 0, message = '', "
                "error = NULL, created_at = ?, started_at = NULL, finished_at = NULL, cancelled_by = NULL, "
                "seen_at = NULL, bytes_done = NULL, bytes_total = NULL, waits_for = NULL, waits_since = NULL "
                "WHERE id = ?",
                [time.time(), job_id],
            )
            self._log(job_id, f"Queued again by {actor}.")
            self._record(
                actor, "job.retried", job.workspace or None, job.snapshot_id, data={"job": job_id, "kind": job.kind}
            )
            return self.job(job_id)

    def retry_failed(self, *, actor: str) -> tuple[list[Job], list[tuple[Job, str]]]:
        """Queue again all that failed on the way to a version, oldest first; and what was left, each with the reason.

        What was tried anew since is passed over. What replaces or stops a container is left, as it may have failed
        long ago: that is for a person to decide, one by one.
        """
        retried: list[Job] = []
        left: list[tuple[Job, str]] = []
        with self._write():
            for job in reversed(self.jobs([JobState.FAILED], limit=None)):
                if self._find(_NEWER, [job.id]):
                    continue
                if job.kind not in (*STEPS, *HARMLESS, JobKind.FREEZE):
                    replaces = "it would delete from the archive" if job.kind in OF_HOST else ""
                    left.append((job, replaces or "it would stop or replace the container"))
                    continue
                try:
                    retried.append(self.retry_job(job.id, actor=actor))
                except (Conflict, NotFound) as exc:
                    left.append((job, exc.message))
        return retried, left

    def cancel_job(self, job_id: int, *, actor: str) -> Job:
        """Cancel one that is queued; the snapshot of a commit fails with it, and can be retried.

        One that runs is told to end, and is still running when this returns: it ends where it can without leaving
        something half done, or is done before. NotFound; Conflict once it has ended.
        """
        with self._write() as db:
            job = self.job(job_id)
            said = f"Cancelled by {actor}."
            if job.state is JobState.RUNNING:
                db.execute("UPDATE jobs SET cancelled_by = coalesce(cancelled_by, ?) WHERE id = ?", [actor, job_id])
                self._log(job_id, f"{actor} cancels it.")
                return self.job(job_id)
            sql = "UPDATE jobs SET state = 'cancelled', finished_at = ?, error = ? WHERE id = ? AND state = 'queued'"
            if db.execute(sql, [time.time(), said, job_id]).rowcount == 0:
                raise Conflict(f"Job {job_id} is {job.state}; only one that waits or runs can be cancelled.")
            self._log(job_id, said)
            taken = self.taken_snapshot(job_id)
            if job.kind is JobKind.COMMIT and job.snapshot_id is not None:
                self.fail_snapshot(job.snapshot_id, said)
            elif taken is not None and taken.state in UNDONE:
                self.fail_snapshot(taken.id, said)
            self._record(
                actor, "job.cancelled", job.workspace or None, job.snapshot_id, data={"job": job_id, "kind": job.kind}
            )
            return self.job(job_id)

    def _reopen(self, snapshot: Snapshot) -> None:
        """FAILED → APPROVED, unless another one is open."""
        self.workspace(snapshot.workspace_id)  # NotFound once it is removed: there is nothing left to commit
        if snapshot.state is not SnapshotState.FAILED:
            raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only a failed one can be retried.")
        self._check_none_open(snapshot.workspace_id, auto=snapshot.requested_via == AUTO)
        self._move(snapshot, [SnapshotState.FAILED], {"state": SnapshotState.APPROVED, "reason": None})


def _said(job: Job) -> dict[str, object]:
    return {"job": job.id, "kind": job.kind}
