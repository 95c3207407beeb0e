"""Snapshots: every change of state, as one compare-and-set with the jobs and events that go with it.

    requested ─► approved ─► committing ─► committed ─► archived
       │  │         └──────────┴─► failed ─► approved   (retried; a version given stays its own)
       │  └─► rejected
       └─► withdrawn

A workspace has at most one that is requested, approved or committing; the database enforces it as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import ChangeReport, Job, JobKind, Snapshot, SnapshotState
from workspaces.names import check_message
from workspaces.store.connection import Row
from workspaces.store.jobs import SYSTEM, Jobs
from workspaces.store.rows import changes_json, to_changes, to_snapshot

REQUESTED, APPROVED, COMMITTING = SnapshotState.REQUESTED, SnapshotState.APPROVED, SnapshotState.COMMITTING
COMMITTED, ARCHIVED, FAILED = SnapshotState.COMMITTED, SnapshotState.ARCHIVED, SnapshotState.FAILED
OPEN = (REQUESTED, APPROVED, COMMITTING)

_SNAPSHOTS = (
    "SELECT s.id, s.workspace_id, c.slug || '/' || w.name AS workspace, s.message, s.state, s.requested_by, "
    "s.requested_via, s.requested_at, s.decided_by, s.decided_at, s.reason, s.version, s.parent_id, s.image_ref, "
    "s.image_id, s.diff_ids, s.manifest_digest, s.size, s.committed_at, s.archived_at, s.pinned, "
    "s.statement, s.registry_ref, s.pushed_at, s.sbom_digest "
    "FROM snapshots s JOIN workspaces w ON w.id = s.workspace_id JOIN challenges c ON c.id = w.challenge_id"
)


class Snapshots(Jobs):
    # a person asks and decides

    def request_snapshot(self, workspace_id: int, message: str, *, actor: str, via: str) -> Snapshot:
        """Ask for a snapshot over `via` (ssh, web or cli), and queue the listing of what it would capture.

        InvalidInput for a bad message, NotFound, Conflict while an earlier one is not yet decided or committed.
        """
        message = check_message(message)
        if via not in ("ssh", "web", "cli"):
            raise InvalidInput(f"A request comes over ssh, web or cli, not {via!r}.")
        with self._write():
            workspace = self.workspace(workspace_id)
            self._check_none_open(workspace_id)
            row = {"workspace_id": workspace.id, "message": message, "state": REQUESTED, "requested_by": actor}
            id_ = self._insert("snapshots", {**row, "requested_via": via, "requested_at": time.time()})
            self._queue(JobKind.INSPECT, workspace.id, actor, id_)
            self._record(actor, "snapshot.requested", workspace.ref, id_, data={"message": message, "via": via})
            return self.snapshot(id_)

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

    # looking

    def snapshot(self, snapshot_id: int) -> Snapshot:
        """Raises NotFound."""
        row = self._find(f"{_SNAPSHOTS} WHERE s.id = ?", [snapshot_id])
        if row is None:
            raise NotFound(f"There is no snapshot {snapshot_id}.")
        return to_snapshot(row)

    def snapshots(
        self,
        workspace_id: int | None = None,
        states: Iterable[SnapshotState] | None = None,
        limit: int | None = None,
    ) -> list[Snapshot]:
        """Newest first; of one workspace, in some states, at most `limit` of them (None: all)."""
        sql = f"{_SNAPSHOTS} WHERE 1"
        params: list[object] = []
        if workspace_id is not None:
            sql, params = f"{sql} AND s.workspace_id = ?", [workspace_id]
        if states is not None:
            wanted = [SnapshotState(state) for state in states]
            sql, params = f"{sql} AND s.state IN ({', '.join('?' * len(wanted))})", [*params, *wanted]
        rows = self._rows(f"{sql} ORDER BY s.id DESC LIMIT ?", [*params, -1 if limit is None else limit])
        return [to_snapshot(row) for row in rows]

    def open_requests(self) -> list[Snapshot]:
        """The requests that wait for a decision, oldest first."""
        return [to_snapshot(row) for row in self._rows(f"{_SNAPSHOTS} WHERE s.state = 'requested' ORDER BY s.id")]

    def version(self, workspace_id: int, number: int) -> Snapshot:
        """The committed version `v<number>` of a workspace. NotFound, also for one whose commit failed or goes on."""
        sql = f"{_SNAPSHOTS} WHERE s.workspace_id = ? AND s.version = ? AND s.state IN ('committed', 'archived')"
        row = self._find(sql, [workspace_id, number])
        if row is None:
            ref = self.workspace(workspace_id).ref
            raise NotFound(f"{ref} has no version v{number}.", f"See its versions: workspaces snapshot list {ref}")
        return to_snapshot(row)

    def pushed(self, limit: int) -> list[Snapshot]:
        """The versions that are in a registry, the latest pushed first, at most `limit`."""
        sql = f"{_SNAPSHOTS} WHERE s.registry_ref IS NOT NULL ORDER BY s.pushed_at DESC LIMIT ?"
        return [to_snapshot(row) for row in self._rows(sql, [limit])]

    def changes(self, snapshot_id: int) -> ChangeReport | None:
        """What it would capture, as last listed; None before the first listing."""
        row = self._find("SELECT report FROM changes WHERE snapshot_id = ?", [snapshot_id])
        return to_changes(row["report"]) if row else None

    # the worker's steps; each may be repeated after a kill at any moment

    def set_changes(self, snapshot_id: int, report: ChangeReport) -> None:
        """Keep `report`, in place of an earlier one. NotFound."""
        with self._write() as db:
            self.snapshot(snapshot_id)
            row = {"snapshot_id": snapshot_id, "report": changes_json(report)}
            db.table("changes").insert(row, replace=True)

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
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state is FAILED:
                return
            self._move(snapshot, [APPROVED, COMMITTING], {"state": FAILED, "reason": reason})
            self._record(SYSTEM, "snapshot.failed", snapshot.workspace, snapshot_id, data={"reason": reason})

    def finish_archive(
        self, snapshot_id: int, manifest_digest: str, statement: str | None = None, then: Iterable[JobKind] = ()
    ) -> Snapshot:
        """COMMITTED → ARCHIVED under that digest, with its signed statement; queues the jobs that come `then`.

        Archived with the same digest already: nothing happens.
        """
        with self._write():
            snapshot = self.snapshot(snapshot_id)
            if snapshot.state is ARCHIVED and snapshot.manifest_digest == manifest_digest:
                return snapshot
            row: Row = {"manifest_digest": manifest_digest, "statement": statement, "archived_at": time.time()}
            self._move(snapshot, [COMMITTED], {"state": ARCHIVED, **row})
            self._record(
                SYSTEM, "snapshot.archived", snapshot.workspace, snapshot_id, data={"manifest": manifest_digest}
            )
            for kind in then:
                self._queue(kind, snapshot.workspace_id, snapshot.decided_by or SYSTEM, snapshot_id)
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

    def _check_none_open(self, workspace_id: int) -> None:
        for other in self.snapshots(workspace_id, OPEN, limit=1):
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
