"""Snapshots: every change of state, as one compare-and-set with the jobs and events that go with it.

    requested ─► approved ─► committing ─► committed ─► archived
       │  │         └──────────┴─► failed ─► approved   (retried; a version given stays its own)
       │  └─► rejected
       └─► withdrawn

A workspace has at most one of people's that is requested, approved or committing, and one that the program takes for
itself beside it (before a restore, at a freeze); the database enforces it as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Command, Job, JobKind, Snapshot, SnapshotState
from workspaces.names import check_message
from workspaces.store.connection import Row
from workspaces.store.jobs import SYSTEM, Jobs
from workspaces.store.rows import command_json, to_snapshot

REQUESTED, APPROVED, COMMITTING = SnapshotState.REQUESTED, SnapshotState.APPROVED, SnapshotState.COMMITTING
COMMITTED, ARCHIVED, FAILED = SnapshotState.COMMITTED, SnapshotState.ARCHIVED, SnapshotState.FAILED
OPEN = (REQUESTED, APPROVED, COMMITTING)
AUTO = "auto"  # requested by the program itself; with a colon and a challenge, decided by that challenge's setting

_SNAPSHOTS = (
    "SELECT s.id, s.workspace_id, c.slug || '/' || w.name AS workspace, s.message, s.state, s.requested_by, "
    "s.requested_via, s.requested_at, s.decided_by, s.decided_at, s.reason, s.version, s.parent_id, s.image_ref, "
    "s.image_id, s.diff_ids, s.manifest_digest, s.size, s.committed_at, s.archived_at, s.pinned, "
    "s.pruned_at, s.command, s.captured_at, s.paused_seconds, s.statement, s.registry_ref, "
    "s.pushed_at, s.sbom_digest "
    "FROM snapshots s JOIN workspaces w ON w.id = s.workspace_id JOIN challenges c ON c.id = w.challenge_id"
)
_BASES = (
    "SELECT parent_id AS id FROM workspaces WHERE parent_id IS NOT NULL AND removed_at IS NULL "
    "UNION SELECT w.snapshot_id FROM frozen w JOIN freezes f ON f.id = w.freeze_id WHERE w.snapshot_id IS NOT NULL "
    "AND (f.closes_at IS NOT NULL OR f.id IN (SELECT max(id) FROM freezes GROUP BY challenge_id))"
)


def check_kept(snapshot: Snapshot) -> None:
    """Raise NotFound once a version is pruned."""
    if snapshot.pruned_at is not None:
        day = time.strftime("%Y-%m-%d", time.gmtime(snapshot.pruned_at))
        raise NotFound(
            f"{snapshot.workspace} v{snapshot.version} was pruned on {day} by the challenge's rules: "
            "its record is kept, its files are not."
        )


class Snapshots(Jobs):
    # a person asks and decides

    def request_snapshot(
        self, workspace_id: int, message: str, *, actor: str, via: str, command: Command | None = None
    ) -> Snapshot:
        """Ask for a snapshot over `via` (ssh, web or cli), and queue the listing of what it would capture.

        It is approved at once when a member asks and the challenge's `auto_approve` is not used up by that person
        today (UTC): what was approved so counts, whatever became of it. `command` is how the version is to be run.
        InvalidInput for a bad message, NotFound, Conflict while an earlier one is not yet decided or committed.
        """
        message = check_message(message)
        if via not in ("ssh", "web", "cli"):
            raise InvalidInput(f"A request comes over ssh, web or cli, not {via!r}.")
        with self._write():
            workspace = self.workspace(workspace_id)
            self._check_none_open(workspace_id)
            row = {"workspace_id": workspace.id, "message": message, "state": REQUESTED, "requested_by": actor}
            more = {"requested_via": via, "requested_at": time.time(), "command": command_json(command)}
            id_ = self._insert("snapshots", {**row, **more})
            self._queue(JobKind.INSPECT, workspace.id, actor, id_)
            self._record(actor, "snapshot.requested", workspace.ref, id_, data={"message": message, "via": via})
            if actor in workspace.members and self.auto_approvals_left(workspace.challenge, actor):
                self.approve_snapshot(id_, actor=f"{AUTO}:{workspace.challenge}")
            return self.snapshot(id_)

    def take_snapshot(self, job_id: int, message: str) -> Snapshot:
        """A snapshot that the program takes for a job of its own, approved by whoever asked for that job.

        The one that this job has taken already, since it was last queued by a person, is returned instead unless it is
        a version by now. NotFound; Conflict while another job's is open.
        """
        with self._write():
            taken = self.taken_snapshot(job_id)
            if taken is not None and taken.state not in (COMMITTED, ARCHIVED):
                return taken
            job = self.job(job_id)
            self._check_none_open(job.workspace_id, auto=True)
            now = max(time.time(), job.created_at)  # the clock may have been set back: it is this job's all the same
            row = {"workspace_id": job.workspace_id, "message": message, "state": APPROVED, "requested_via": AUTO}
            more = {"requested_by": job.requested_by, "requested_at": now, "decided_by": job.requested_by}
            id_ = self._insert("snapshots", {**row, **more, "decided_at": now, "job_id": job_id})
            self._record(job.requested_by, "snapshot.taken", job.workspace, id_, data={"message": message})
            return self.snapshot(id_)

    def taken_snapshot(self, job_id: int) -> Snapshot | None:
        """The one that the program took for that job since a person last queued it."""
        since = "(SELECT j.created_at FROM jobs j WHERE j.id = s.job_id)"
        row = self._find(f"{_SNAPSHOTS} WHERE s.job_id = ? AND s.requested_at >= {since} ORDER BY s.id DESC", [job_id])
        return to_snapshot(row) if row else None

    def adopt_version(
        self, workspace_id: int, version: int, adopted: Mapping[str, object], diff_ids: Iterable[str], *, actor: str
    ) -> Snapshot:
        """Enter a version that an archive of another state directory holds, as archived; what is there already stays.

        `adopted` has image_ref, image_id, manifest_digest, message, requested_by and requested_at. NotFound; Conflict
        when the workspace has another version of that number.
        """
        with self._write():
            workspace = self.workspace(workspace_id)
            known = self._find(f"{_SNAPSHOTS} WHERE s.workspace_id = ? AND s.version = ?", [workspace_id, version])
            if known is None:
                row = {"workspace_id": workspace_id, "version": version, "state": ARCHIVED, "requested_via": "cli"}
                at = adopted["requested_at"]
                more = {"decided_by": actor, "decided_at": at, "committed_at": at, "archived_at": time.time()}
                id_ = self._insert("snapshots", {**row, **more, **adopted, "diff_ids": json.dumps(list(diff_ids))})
                data = {"version": f"v{version}", "manifest": adopted["manifest_digest"]}
                self._record(actor, "snapshot.adopted", workspace.ref, id_, data=data)
                return self.snapshot(id_)
            if known["image_id"] != adopted["image_id"]:
                raise Conflict(f"{workspace.ref} has another version v{version} than the archive.")
            return to_snapshot(known)

    def is_adopted(self, snapshot_id: int) -> bool:
        """Whether it was entered by `adopt_version`."""
        return bool(
            self._find("SELECT 1 FROM events WHERE kind = 'snapshot.adopted' AND snapshot_id = ?", [snapshot_id])
        )

    def withdraw_snapshot(self, snapshot_id: int, *, actor: str) -> None:
        """Take back an undecided request. NotFound; Conflict once it is decided."""
        self._decide(snapshot_id, SnapshotState.WITHDRAWN, actor, None)

    def reject_snapshot(self, snapshot_id: int, reason: str, *, actor: str) -> None:
        """Say no, with a reason for the one who asked. InvalidInput, NotFound; Conflict once it is decided."""
        self._decide(snapshot_id, SnapshotState.REJECTED, actor, check_message(reason))

    def approve_snapshot(self, snapshot_id: int, *, actor: str) -> Job:
        """Say yes, and queue the commit. NotFound; Conflict once it is decided: of two at once, one gets this."""
        with self._write():
            snapshot = self._decide(snapshot_id, APPROVED, actor, None)
            return self._queue(JobKind.COMMIT, snapshot.workspace_id, actor, snapshot_id)

    def pin_snapshot(self, snapshot_id: int, pinned: bool, *, actor: str) -> Snapshot:
        """Keep a version whatever the rules of retention say, or no more. NotFound; Conflict when it is no version."""
        with self._write() as db:
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state not in (COMMITTED, ARCHIVED):
                raise Conflict(f"Snapshot {snapshot_id} is {snapshot.state}; only a version can be pinned.")
            check_kept(snapshot)
            if snapshot.pinned != pinned:
                db.execute("UPDATE snapshots SET pinned = ? WHERE id = ?", [int(pinned), snapshot_id])
                kind = "snapshot.pinned" if pinned else "snapshot.unpinned"
                self._record(actor, kind, snapshot.workspace, snapshot_id, data={"version": f"v{snapshot.version}"})
            return self.snapshot(snapshot_id)

    def prune_snapshot(self, snapshot_id: int, *, actor: str) -> Snapshot:
        """From now on there is only the record of a version; who calls it removes the image after it.

        Pruned already: nothing happens. NotFound; Conflict when it is pinned, not archived, of `bases`, or a job of it
        is not done.
        """
        with self._write() as db:
            snapshot = self.snapshot(snapshot_id)
            if snapshot.pruned_at is not None:
                return snapshot
            waiting = "SELECT 1 FROM jobs WHERE snapshot_id = ? AND state IN ('queued', 'running')"
            if self._find(waiting, [snapshot_id]):
                raise Conflict(f"A job of snapshot {snapshot_id} is not done yet.", "Prune again when it is.")
            if self._find(f"SELECT 1 FROM ({_BASES}) WHERE id = ?", [snapshot_id]):  # noqa: S608 -- our own constant
                raise Conflict(f"A workspace stands on snapshot {snapshot_id}, or was frozen with it.")
            if snapshot.pinned or snapshot.state is not ARCHIVED:
                state = "pinned" if snapshot.pinned else snapshot.state
                raise Conflict(f"Snapshot {snapshot_id} is {state}; only an archived one that is not pinned is pruned.")
            db.execute("UPDATE snapshots SET pruned_at = ? WHERE id = ?", [time.time(), snapshot_id])
            data = {"version": f"v{snapshot.version}", "manifest": snapshot.manifest_digest}
            self._record(actor, "snapshot.pruned", snapshot.workspace, snapshot_id, data=data)
            return self.snapshot(snapshot_id)

    def bases(self) -> set[int]:
        """Ids of snapshots that a workspace was restored from, last committed as, or (last, or closing) frozen with."""
        return {row["id"] for row in self._rows(_BASES)}

    # looking

    def snapshot(self, snapshot_id: int) -> Snapshot:
        """Raises NotFound."""
        missing = f"There is no snapshot {snapshot_id}."
        return to_snapshot(self._one(f"{_SNAPSHOTS} WHERE s.id = ?", [snapshot_id], missing))

    def snapshots(
        self,
        workspace_id: int | None = None,
        states: Iterable[SnapshotState] | None = None,
        limit: int | None = None,
        challenges: Collection[str] | None = None,
    ) -> list[Snapshot]:
        """Newest first; of one workspace, in some states, of some challenges, at most `limit` of them (None: all)."""
        wanted = None if states is None else [SnapshotState(state) for state in states]
        return [to_snapshot(row) for row in self._newest(_SNAPSHOTS, "s", workspace_id, wanted, limit, challenges)]

    def auto_approvals_left(self, challenge: str, person: str) -> int:
        """How many more requests of that person the challenge approves by itself today (UTC)."""
        allowed = self.challenge(challenge).auto_approve
        if not allowed:
            return 0
        midnight = time.time() // 86400 * 86400
        used = (
            "SELECT count(*) AS n FROM snapshots WHERE requested_by = ? AND decided_by = ? AND requested_at >= ? "
            "AND state != 'requested'"
        )
        return max(0, allowed - int(self._one(used, [person, f"{AUTO}:{challenge}", midnight])["n"]))

    def version(self, workspace_id: int, number: int) -> Snapshot:
        """The committed version `v<number>` of a workspace. NotFound, also for one whose commit failed or goes on,
        and with the day for one that was pruned.
        """
        sql = f"{_SNAPSHOTS} WHERE s.workspace_id = ? AND s.version = ? AND s.state IN ('committed', 'archived')"
        row = self._find(sql, [workspace_id, number])
        if row is None:
            ref = self.workspace(workspace_id).ref
            raise NotFound(f"{ref} has no version v{number}.", f"See its versions: workspaces snapshot list {ref}")
        check_kept(to_snapshot(row))
        return to_snapshot(row)

    def version_named(self, image_ref: str) -> Snapshot | None:
        """The committed version of a name such as als/alice:v3, of a removed workspace too; None when it is unknown."""
        sql = f"{_SNAPSHOTS} WHERE s.image_ref = ? AND s.state IN ('committed', 'archived') ORDER BY s.id DESC LIMIT 1"
        row = self._find(sql, [image_ref])
        return to_snapshot(row) if row else None

    def pushed(self, limit: int) -> list[Snapshot]:
        """The versions that are in a registry, the latest pushed first, at most `limit`."""
        sql = f"{_SNAPSHOTS} WHERE s.registry_ref IS NOT NULL ORDER BY s.pushed_at DESC LIMIT ?"
        return [to_snapshot(row) for row in self._rows(sql, [limit])]

    # the worker's steps; each may be repeated after a kill at any moment

    def begin_commit(self, snapshot_id: int) -> Snapshot:
        """APPROVED → COMMITTING, with a version: one more than the highest that a workspace of this name ever had.

        A snapshot gets its version once and keeps it, also when it fails and is retried. COMMITTING already: nothing
        happens. NotFound; Conflict in any other state.
        """
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state is COMMITTING:
                return snapshot
            # Over removed workspaces of the same name too: their images are als/alice:v1 as well.
            highest = (
                "SELECT coalesce(max(s.version), 0) + 1 AS next FROM snapshots s JOIN workspaces w "
                "ON w.id = s.workspace_id JOIN workspaces mine ON mine.id = ? "
                "WHERE w.name = mine.name AND w.challenge_id = mine.challenge_id"
            )
            version = snapshot.version or self._one(highest, [snapshot.workspace_id])["next"]
            parent = self._one("SELECT parent_id FROM workspaces WHERE id = ?", [snapshot.workspace_id])["parent_id"]
            self._move(snapshot, [APPROVED], {"state": COMMITTING, "version": version, "parent_id": parent})
            return self.snapshot(snapshot_id)

    def set_captured(self, snapshot_id: int, at: float) -> None:
        """When the engine was asked for it, in seconds since the epoch: later changes may not be in it. NotFound."""
        with self._write() as db:
            self.snapshot(snapshot_id)
            db.execute("UPDATE snapshots SET captured_at = ? WHERE id = ?", [at, snapshot_id])

    def set_paused(self, snapshot_id: int, seconds: float) -> None:
        """How long the workspace stood still while it was committed. NotFound."""
        with self._write() as db:
            self.snapshot(snapshot_id)
            db.execute("UPDATE snapshots SET paused_seconds = ? WHERE id = ?", [seconds, snapshot_id])

    def finish_commit(
        self, snapshot_id: int, image_ref: str, image_id: str, diff_ids: Iterable[str], size: int
    ) -> Snapshot:
        """COMMITTING → COMMITTED, immutable from now on; queues its archiving.

        `diff_ids` are the digests of all its layers, lowest first; `size` the bytes it adds to its base. Committed
        with the same image already: nothing happens. NotFound; Conflict in any other state.
        """
        with self._write() as db:
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state in (COMMITTED, ARCHIVED) and snapshot.image_id == image_id:
                return snapshot
            row: Row = {"image_ref": image_ref, "image_id": image_id, "diff_ids": json.dumps(list(diff_ids))}
            row |= {"state": COMMITTED, "size": size, "committed_at": time.time()}
            self._move(snapshot, [COMMITTING], row)
            db.execute("UPDATE workspaces SET parent_id = ? WHERE id = ?", [snapshot_id, snapshot.workspace_id])
            self._queue(JobKind.ARCHIVE, snapshot.workspace_id, snapshot.decided_by or SYSTEM, snapshot_id)
            self._record(
                SYSTEM,
                "snapshot.committed",
                snapshot.workspace,
                snapshot_id,
                data={"version": f"v{snapshot.version}", "image": image_ref},
            )
            return self.snapshot(snapshot_id)

    def fail_snapshot(self, snapshot_id: int, reason: str) -> None:
        """APPROVED or COMMITTING → FAILED, with a sentence for people. FAILED already: nothing happens."""
        with self._write() as db:
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state is FAILED:
                return
            self._move(snapshot, [APPROVED, COMMITTING], {"state": FAILED, "reason": reason})
            db.execute("DELETE FROM configurations WHERE snapshot_id = ?", [snapshot_id])  # a retry makes its own
            self._record(SYSTEM, "snapshot.failed", snapshot.workspace, snapshot_id, data={"reason": reason})

    def finish_archive(
        self, snapshot_id: int, manifest_digest: str, statement: str | None = None, then: Iterable[JobKind] = ()
    ) -> Snapshot:
        """COMMITTED → ARCHIVED under that digest, with its signed statement; queues the jobs that come `then`.

        Archived with the same digest already: nothing happens.
        """
        with self._write() as db:
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state is ARCHIVED and snapshot.manifest_digest == manifest_digest:
                return snapshot
            row: Row = {"manifest_digest": manifest_digest, "statement": statement, "archived_at": time.time()}
            self._move(snapshot, [COMMITTED], {"state": ARCHIVED, **row})
            db.execute("DELETE FROM configurations WHERE snapshot_id = ?", [snapshot_id])
            self._record(
                SYSTEM, "snapshot.archived", snapshot.workspace, snapshot_id, data={"manifest": manifest_digest}
            )
            for kind in then:
                self._queue(kind, snapshot.workspace_id, snapshot.decided_by or SYSTEM, snapshot_id)
            return self.snapshot(snapshot_id)

    def set_statement(self, snapshot_id: int, statement: str, *, actor: str) -> Snapshot:
        """Enter the signed statement about a version that was archived without. Conflict unless ARCHIVED."""
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.statement is not None:
                return snapshot
            self._move(snapshot, [ARCHIVED], {"statement": statement})
            self._record(actor, "snapshot.signed", snapshot.workspace, snapshot_id)
            return self.snapshot(snapshot_id)

    def finish_push(self, snapshot_id: int, registry_ref: str) -> Snapshot:
        """It is in the registry as `registry_ref`. Noted so already: nothing happens. Conflict unless ARCHIVED."""
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.registry_ref == registry_ref:
                return snapshot
            self._move(snapshot, [ARCHIVED], {"registry_ref": registry_ref, "pushed_at": time.time()})
            data = {"registry": registry_ref, "manifest": snapshot.manifest_digest}
            self._record(SYSTEM, "snapshot.pushed", snapshot.workspace, snapshot_id, data=data)
            return self.snapshot(snapshot_id)

    def finish_sbom(self, snapshot_id: int, digest: str, then: Iterable[JobKind] = ()) -> Snapshot:
        """The list of its packages is in the archive, its manifest under `digest`. Conflict unless ARCHIVED."""
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.sbom_digest == digest:
                return snapshot
            self._move(snapshot, [ARCHIVED], {"sbom_digest": digest})
            self._record(SYSTEM, "snapshot.sbom", snapshot.workspace, snapshot_id, data={"manifest": digest})
            for kind in then:
                self._queue(kind, snapshot.workspace_id, snapshot.decided_by or SYSTEM, snapshot_id)
            return self.snapshot(snapshot_id)

    # how it is done

    def _decide(self, snapshot_id: int, state: SnapshotState, actor: str, reason: str | None) -> Snapshot:
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            row = {"state": state, "decided_by": actor, "decided_at": time.time(), "reason": reason}
            self._move(snapshot, [REQUESTED], row)
            self._record(actor, f"snapshot.{state}", snapshot.workspace, snapshot_id, data={"reason": reason})
            return snapshot

    def _check_none_open(self, workspace_id: int, auto: bool = False) -> None:
        """Of people's, or of the program's own."""
        for other in self.snapshots(workspace_id, OPEN):
            if (other.requested_via == AUTO) is not auto:
                continue
            raise Conflict(
                f"Snapshot {other.id} of {other.workspace} is {other.state}; one can be open at a time.",
                "Withdraw it first, or wait for the decision."
                if other.state is REQUESTED
                else "Wait until it is committed.",
            )

    def _move(self, snapshot: Snapshot, expected: Collection[SnapshotState], row: Row) -> None:
        """Change `row`'s columns if the state is one of `expected`, else raise Conflict."""
        with self._write() as db:
            sql = (
                f"UPDATE snapshots SET {', '.join(f'{name} = ?' for name in row)} "  # noqa: S608 -- our own names
                f"WHERE id = ? AND state IN ({', '.join('?' * len(expected))})"
            )
            if db.execute(sql, [*row.values(), snapshot.id, *expected]).rowcount == 0:
                by = f" by {snapshot.decided_by}" if snapshot.decided_by else ""
                raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state} already{by}.")
