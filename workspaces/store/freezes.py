"""Freezes: a challenge whose workspaces are all committed, and then stopped or made read-only.

    begin ─► a freeze, a row and a job for each workspace, in one transaction ─► finish_frozen for each ─► thawed

What waits and whose job has failed or was cancelled counts as failed, with the job's reason: that job can be retried.
A freeze has ended when nothing of it waits any more.
"""

from __future__ import annotations

import time

from workspaces.errors import Conflict, NotFound
from workspaces.model import Freeze, FreezeMode, Frozen, FrozenState, JobKind
from workspaces.store.jobs import SYSTEM
from workspaces.store.retries import Retries
from workspaces.store.rows import to_freeze, to_frozen

_OVER = "('done', 'failed', 'cancelled')"
_FREEZES = f"""
    SELECT f.id, c.slug AS challenge, f.mode, f.requested_by, f.closes_at, f.began_at, f.thawed_at,
      CASE WHEN EXISTS (SELECT 1 FROM frozen w JOIN jobs j ON j.id = w.job_id
        WHERE w.freeze_id = f.id AND w.state = 'waiting' AND j.state NOT IN {_OVER}) THEN NULL
      ELSE (SELECT coalesce(max(coalesce(w.done_at, j.finished_at)), f.began_at) FROM frozen w
        JOIN jobs j ON j.id = w.job_id WHERE w.freeze_id = f.id) END AS ended_at
    FROM freezes f JOIN challenges c ON c.id = f.challenge_id"""  # noqa: S608 -- our own constant
_FROZEN = f"""
    SELECT w.freeze_id, w.workspace_id, c.slug || '/' || s.name AS workspace, w.snapshot_id, v.version, w.job_id,
      CASE WHEN w.state = 'waiting' AND j.state IN {_OVER} THEN 'failed' ELSE w.state END AS state,
      CASE WHEN w.state = 'waiting' THEN coalesce(j.error, j.message) ELSE w.detail END AS detail,
      coalesce(w.done_at, CASE WHEN j.state IN {_OVER} THEN j.finished_at END) AS done_at
    FROM frozen w JOIN workspaces s ON s.id = w.workspace_id JOIN challenges c ON c.id = s.challenge_id
    JOIN jobs j ON j.id = w.job_id LEFT JOIN snapshots v ON v.id = w.snapshot_id"""  # noqa: S608 -- our own constant


class Freezes(Retries):
    def begin_freeze(self, slug: str, mode: FreezeMode, *, actor: str, closes_at: float | None = None) -> Freeze:
        """Freeze a challenge from now on: queue a job for each of its workspaces.

        `closes_at` is the closing time that asks for it; one freeze at most is begun for each. NotFound; Conflict while
        an earlier one goes on.
        """
        with self._write():
            challenge = self.challenge(slug)
            for earlier in self.freezes(slug)[:1]:
                if earlier.ended_at is None:
                    raise Conflict(
                        f"The challenge {slug} is being frozen already.",
                        f"See how far it is: workspaces challenge freeze {slug} --status",
                    )
            row = {"challenge_id": challenge.id, "mode": FreezeMode(mode), "requested_by": actor}
            id_ = self._insert("freezes", {**row, "closes_at": closes_at, "began_at": time.time()})
            found = self.workspaces(slug)
            for workspace in found:
                job = self._queue(JobKind.FREEZE, workspace.id, actor, None, {"freeze": str(id_)})
                self._insert("frozen", {"freeze_id": id_, "workspace_id": workspace.id, "job_id": job.id})
            data = {"challenge": slug, "mode": mode, "workspaces": len(found)}
            self._record(actor, "challenge.frozen", data=data)
            return self.freeze(id_)

    def begin_due_freezes(self, now: float) -> list[Freeze]:
        """Begin what challenges that closed by `now` ask for at their closing, unless it was begun already.

        One that is being frozen still comes next time.
        """
        due = (
            "SELECT c.slug FROM challenges c WHERE c.at_close IS NOT NULL AND c.closes_at <= ? AND NOT EXISTS "
            "(SELECT 1 FROM freezes f WHERE f.challenge_id = c.id AND f.closes_at = c.closes_at)"
        )
        begun = []
        for slug in [row["slug"] for row in self._rows(due, [now])]:
            with self._write():
                challenge = self.challenge(slug)  # somebody may have changed it, or begun it, meanwhile
                if not self._find(f"{due} AND c.slug = ?", [now, slug]) or challenge.at_close is None:
                    continue
                if all(freeze.ended_at is not None for freeze in self.freezes(slug)[:1]):
                    mode, at = challenge.at_close, challenge.closes_at
                    begun.append(self.begin_freeze(slug, mode, actor=SYSTEM, closes_at=at))
        return begun

    def freeze(self, freeze_id: int) -> Freeze:
        """Raises NotFound."""
        return to_freeze(self._one(f"{_FREEZES} WHERE f.id = ?", [freeze_id], f"There is no freeze {freeze_id}."))

    def freezes(self, slug: str) -> list[Freeze]:
        """Those of a challenge, the latest first. NotFound."""
        challenge = self.challenge(slug)
        return [to_freeze(row) for row in self._rows(f"{_FREEZES} WHERE c.id = ? ORDER BY f.id DESC", [challenge.id])]

    def frozen(self, freeze_id: int) -> list[Frozen]:
        """What became of each workspace, by name."""
        return [to_frozen(row) for row in self._rows(f"{_FROZEN} WHERE w.freeze_id = ? ORDER BY s.name", [freeze_id])]

    def finish_frozen(
        self, freeze_id: int, workspace_id: int, state: FrozenState, snapshot_id: int | None, detail: str
    ) -> None:
        """What became of one workspace. May be repeated. NotFound."""
        with self._write() as db:
            sql = (
                "UPDATE frozen SET state = ?, snapshot_id = ?, detail = ?, done_at = ? "
                "WHERE freeze_id = ? AND workspace_id = ?"
            )
            params = [FrozenState(state), snapshot_id, detail, time.time(), freeze_id, workspace_id]
            if db.execute(sql, params).rowcount == 0:
                raise NotFound(f"Workspace {workspace_id} is no part of freeze {freeze_id}.")

    def thaw(self, slug: str, *, actor: str) -> int:
        """Let people work again: what waits to be frozen is not, what is read-only becomes writable by a job each.

        Returns how many workspaces those jobs are for. NotFound; Conflict when it is not frozen.
        """
        with self._write() as db:
            challenge = self.challenge(slug)
            if challenge.frozen is None:
                raise Conflict(f"The challenge {slug} is not frozen.")
            now = time.time()
            db.execute("UPDATE freezes SET thawed_at = ? WHERE challenge_id = ? AND thawed_at IS NULL", [
                now, challenge.id,
            ])  # fmt: skip
            waiting = (
                "SELECT j.id FROM jobs j JOIN workspaces w ON w.id = j.workspace_id "
                "WHERE j.state = 'queued' AND j.kind = 'freeze' AND w.challenge_id = ?"
            )
            for row in self._rows(waiting, [challenge.id]):
                self.cancel_job(row["id"], actor=actor)
            # Also for one that a running job is about to seal: jobs of one workspace keep their order.
            running = (
                "SELECT w.id FROM workspaces w WHERE w.challenge_id = ? AND w.removed_at IS NULL AND (w.read_only OR "
                "EXISTS (SELECT 1 FROM jobs j WHERE j.workspace_id = w.id AND j.kind = 'freeze' "
                "AND j.state = 'running'))"
            )
            sealed = [row["id"] for row in self._rows(running, [challenge.id])]
            for workspace_id in sealed:
                self._queue(JobKind.THAW, workspace_id, actor, None)
            self._record(actor, "challenge.thawed", data={"challenge": slug, "workspaces": len(sealed)})
            return len(sealed)
