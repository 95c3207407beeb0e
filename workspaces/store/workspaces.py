"""Workspaces and who may use them.

A removed workspace keeps its row, for the sake of its versions, requests and jobs; it is found nowhere but there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable

from workspaces.errors import Conflict, NotFound
from workspaces.model import OF_VERSIONS, JobKind, JobState, SnapshotState, Workspace, WorkspaceState
from workspaces.names import check_name, printable
from workspaces.store.authorities import Authorities
from workspaces.store.connection import in_challenges
from workspaces.store.rows import to_workspace
from workspaces.store.users import Users

_WORKSPACES = (
    "SELECT w.id, c.slug AS challenge, w.name, "
    "(SELECT json_group_array(name) FROM (SELECT u.name FROM members m JOIN users u ON u.id = m.user_id "
    "WHERE m.workspace_id = w.id ORDER BY u.name)) AS members, "
    "w.image, w.parent_id, w.state, w.state_detail, w.state_at, w.last_login_at, w.created_at, w.disk_bytes, "
    "w.disk_at, w.read_only, w.own_cpus, w.own_memory, w.own_pids "
    "FROM workspaces w JOIN challenges c ON c.id = w.challenge_id WHERE w.removed_at IS NULL"
)


class Workspaces(Authorities, Users):
    def add_workspace(self, challenge: str, name: str, members: Iterable[str] = (), *, actor: str) -> Workspace:
        """Add a workspace, ABSENT: its container is made at the first login.

        InvalidInput for a bad name, NotFound for challenge or member, Conflict when the challenge has that name.
        """
        check_name(name, "workspace")
        with self._write():
            found = self.challenge(challenge)
            users = {user.id: user for user in map(self.user, members)}
            ref = f"{challenge}/{name}"
            taken = "SELECT 1 FROM workspaces WHERE challenge_id = ? AND name = ? AND removed_at IS NULL"
            if self._find(taken, [found.id, name]):
                raise Conflict(
                    f"The workspace {ref} exists already.",
                    f"To let somebody use it: workspaces members {ref} --add USER",
                )
            now = time.time()
            row = {"challenge_id": found.id, "name": name, "created_at": now}
            id_ = self._insert("workspaces", {**row, "state": WorkspaceState.ABSENT, "state_at": now})
            for user in users.values():
                self._insert("members", {"user_id": user.id, "workspace_id": id_})
            names = ", ".join(user.name for user in users.values())
            self._record(actor, "workspace.added", ref, data={"members": names or None})
            return self.workspace(id_)

    def workspace(self, ref: str | int) -> Workspace:
        """By id, by `challenge/name`, or by name alone where only one workspace has it.

        NotFound; Conflict, naming the choices, when several have that name. Any text may be asked for.
        """
        if isinstance(ref, int):
            rows = self._rows(f"{_WORKSPACES} AND w.id = ?", [ref])
        elif not ref.isascii():
            rows = []
        elif "/" in ref:
            rows = self._rows(f"{_WORKSPACES} AND c.slug = ? AND w.name = ?", ref.split("/", 1))
        else:
            rows = self._rows(f"{_WORKSPACES} AND w.name = ? ORDER BY c.slug", [ref])
        if not rows:
            what = f"number {ref}" if isinstance(ref, int) else repr(printable(ref, 80))
            raise NotFound(f"There is no workspace {what}.")
        if len(rows) > 1:
            choices = ", ".join(to_workspace(row).ref for row in rows)
            raise Conflict(f"Several workspaces are named {ref}.", f"Say which: {choices}.")
        return to_workspace(rows[0])

    def workspaces(
        self,
        challenge: str | None = None,
        state: WorkspaceState | None = None,
        challenges: Collection[str] | None = None,
        ids: Collection[int] | None = None,
    ) -> list[Workspace]:
        """All of them, or those of one challenge, of some (None: all), in one state or with these ids; by
        `challenge/name`."""
        sql, params = f"{_WORKSPACES}{in_challenges(challenges)}", [*(challenges or ())]
        if ids is not None:
            sql += " AND w.id IN (SELECT value FROM json_each(?))"
            params.append(json.dumps(sorted(ids)))
        if challenge is not None:
            sql, params = f"{sql} AND c.slug = ?", [*params, challenge]
        if state is not None:
            sql, params = f"{sql} AND w.state = ?", [*params, WorkspaceState(state)]
        return [to_workspace(row) for row in self._rows(f"{sql} ORDER BY c.slug, w.name", params)]

    def workspaces_of(self, user: str) -> list[Workspace]:
        """Those that `user` is a member of, by `challenge/name`; none without such an account."""
        if not user.isascii():
            return []
        mine = "SELECT m.workspace_id FROM members m JOIN users u ON u.id = m.user_id WHERE u.name = ?"
        rows = self._rows(f"{_WORKSPACES} AND w.id IN ({mine}) ORDER BY c.slug, w.name", [user])
        return [to_workspace(row) for row in rows]

    def add_member(self, workspace_id: int, user: str, *, actor: str) -> None:
        """Let `user` use it. Nothing happens for one who may already. NotFound."""
        self._set_member(workspace_id, user, True, actor)

    def remove_member(self, workspace_id: int, user: str, *, actor: str) -> None:
        """`user` may not log in to it any more; sessions that run are the gateway's business. NotFound."""
        self._set_member(workspace_id, user, False, actor)

    def _set_member(self, workspace_id: int, name: str, member: bool, actor: str) -> None:
        with self._write() as db:
            found, user = self.workspace(workspace_id), self.user(name)
            if (user.name in found.members) is member:
                return
            if member:
                self._insert("members", {"user_id": user.id, "workspace_id": found.id})
            else:
                db.execute("DELETE FROM members WHERE user_id = ? AND workspace_id = ?", [user.id, found.id])
            self._record(actor, "member.added" if member else "member.removed", found.ref, data={"user": name})

    def set_workspace_state(
        self, workspace_id: int, state: WorkspaceState, detail: str = "", *, seen_at: float | None = None
    ) -> None:
        """Note what is known of the container. Writes nothing when it is known already. NotFound.

        With `seen_at` (seconds since the epoch) it is a sighting of that time: news that came later stands.
        """
        known = self.workspace(workspace_id)
        if (known.state, known.state_detail) == (state, detail):
            return
        with self._write() as db:
            db.execute(
                "UPDATE workspaces SET state = ?, state_detail = ?, state_at = ? WHERE id = ? AND state_at <= ?",
                [WorkspaceState(state), detail, time.time(), workspace_id, 1e300 if seen_at is None else seen_at],
            )

    def set_workspace_image(self, workspace_id: int, image: str | None, parent_snapshot_id: int | None) -> None:
        """What its next container is made from: a version's image, or None for the challenge's. NotFound."""
        with self._write() as db:
            self.workspace(workspace_id)
            db.execute(
                "UPDATE workspaces SET image = ?, parent_id = ?, disk_bytes = NULL, disk_at = NULL WHERE id = ?",
                [image, parent_snapshot_id, workspace_id],
            )

    def set_read_only(self, workspace_id: int, read_only: bool) -> None:
        """Whether its next container is one whose files cannot change. NotFound."""
        with self._write() as db:
            self.workspace(workspace_id)
            db.execute("UPDATE workspaces SET read_only = ? WHERE id = ?", [int(read_only), workspace_id])

    def touch_login(self, workspace_id: int) -> None:
        """Note that a login reached it just now. Nothing happens when it is gone."""
        with self._write() as db:
            db.execute("UPDATE workspaces SET last_login_at = ? WHERE id = ?", [time.time(), workspace_id])

    def set_workspace_disk(self, workspace_id: int, size: int) -> None:
        """Note how many bytes its container has written by now. Nothing happens when it is gone."""
        with self._write() as db:
            db.execute(
                "UPDATE workspaces SET disk_bytes = ?, disk_at = ? WHERE id = ?", [size, time.time(), workspace_id]
            )

    def remove_workspace(self, workspace_id: int, *, actor: str) -> None:
        """Remove it, its members and what waits for its container; its container is removed before, by the caller.

        Versions, requests and events stay, archiving and pushing go on, and no later workspace of that name gets a
        version number again. An undecided request is withdrawn. NotFound; Conflict while a snapshot of it is approved
        and not committed, or while a job works on its container.
        """
        with self._write() as db:
            found = self.check_removable(workspace_id)
            now = time.time()
            db.execute(
                "UPDATE snapshots SET state = ?, decided_by = ?, decided_at = ?, reason = ? "
                "WHERE workspace_id = ? AND state = ?",
                [SnapshotState.WITHDRAWN, actor, now, "The workspace was removed.", found.id, SnapshotState.REQUESTED],
            )
            db.execute(
                "UPDATE jobs SET state = ?, finished_at = ?, error = ? "
                "WHERE workspace_id = ? AND state = 'queued' AND kind NOT IN (?, ?, ?)",
                [JobState.CANCELLED, now, "The workspace was removed.", found.id, *OF_VERSIONS],
            )
            db.execute("DELETE FROM members WHERE workspace_id = ?", [found.id])
            db.execute(
                "UPDATE workspaces SET removed_at = ?, state = ?, state_detail = '', state_at = ? WHERE id = ?",
                [now, WorkspaceState.ABSENT, now, found.id],
            )
            self._record(actor, "workspace.removed", found.ref, data={"members": ", ".join(found.members) or None})

    def check_removable(self, workspace_id: int) -> Workspace:
        """Raise what `remove_workspace` would: NotFound, Conflict."""
        found = self.workspace(workspace_id)
        self.check_nothing_to_lose(workspace_id)
        busy = "SELECT kind FROM jobs WHERE workspace_id = ? AND state = 'running' AND kind NOT IN (?, ?, ?, ?)"
        job = self._find(busy, [workspace_id, JobKind.REMOVE, *OF_VERSIONS])
        if job:
            raise Conflict(f"A job works on {found.ref}: {job['kind']}.", "Try again when it has ended.")
        return found

    def check_nothing_to_lose(self, workspace_id: int) -> None:
        """Raise Conflict while a snapshot is approved and not committed: the files in the container are promised."""
        promised = "SELECT id FROM snapshots WHERE workspace_id = ? AND state IN ('approved', 'committing')"
        snapshot = self._find(promised, [workspace_id])
        if snapshot:
            raise Conflict(
                f"Snapshot {snapshot['id']} is approved and not yet committed; its files are only in the container.",
                f"Wait for it, or see what holds it up: workspaces snapshot show {snapshot['id']}",
            )
