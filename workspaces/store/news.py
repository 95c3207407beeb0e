"""News for people: some events become a sentence for those whom they concern, and go out by mail and webhook.

    an event is recorded ─► whom it concerns ─► an item each ─► mail to those who have an address
                        └─► a call of each webhook

All of it is written with the event, in its transaction: what happened is told, and what was rolled back is not. A newer
item about a snapshot takes the place of an unread older one, so a person reads how it stands, not how it got there.
So does one about a freeze: that of two hundred workspaces is one item, and few mails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from workspaces.model import JobKind, NewsItem, Snapshot
from workspaces.names import printable
from workspaces.store.deliveries import Deliveries
from workspaces.store.retries import Retries
from workspaces.store.snapshots import AUTO

KEPT = 100  # items of one person, the latest
TEXT_MAX = 1500
MAIL_PAUSE = 600.0  # between two mails that a participant can cause at will, for one workspace
MAILS_OF_FAILURES = 5  # within MAIL_PAUSE, to one person: what has one cause may fail for everybody

# Webhooks are told of these. Some of them concern nobody in particular.
TOLD = (
    "snapshot.requested",
    "snapshot.withdrawn",
    "snapshot.approved",
    "snapshot.rejected",
    "snapshot.committed",
    "snapshot.archived",
    "snapshot.failed",
    "job.failed",
)
_FAILURES = ("snapshot.failed", "job.failed")
_DECIDED = ("snapshot.withdrawn", "snapshot.approved", "snapshot.rejected")
_NEWS = "SELECT id, at, kind, workspace, snapshot_id, job_id, text, read_at FROM news"
_ADMINS = "SELECT id, name, email FROM users WHERE role = 'admin' AND disabled = 0"
# Who decides on requests of a workspace's challenge.
_DECIDERS = (
    "SELECT id, name FROM users WHERE disabled = 0 AND (role IN ('admin', 'reviewer') OR id IN "
    "(SELECT r.user_id FROM challenge_roles r JOIN workspaces w ON w.challenge_id = r.challenge_id WHERE w.id = ?))"
)


class News(Retries, Deliveries):
    def news(self, user: str, limit: int = 20) -> list[NewsItem]:
        """What `user` was told, the newest first. NotFound."""
        rows = self._rows(f"{_NEWS} WHERE user_id = ? ORDER BY id DESC LIMIT ?", [self.user(user).id, limit])
        return [NewsItem(**row) for row in rows]

    def unread_news(self, user: str) -> int:
        """How many of them `user` has not read; 0 without such a user."""
        sql = "SELECT count(*) AS n FROM news WHERE read_at IS NULL AND user_id = (SELECT id FROM users WHERE name = ?)"
        return int(self._one(sql, [user])["n"])

    def read_news(self, user: str, up_to: int) -> None:
        """`user` has read those with ids up to `up_to`. Nothing happens without such a user."""
        sql = (
            "UPDATE news SET read_at = ? WHERE read_at IS NULL AND id <= ? "
            "AND user_id = (SELECT id FROM users WHERE name = ?)"
        )
        with self._write() as db:
            db.execute(sql, [time.time(), up_to, user])

    # from events

    def _record(
        self,
        actor: str,
        kind: str,
        workspace: str | None = None,
        snapshot_id: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        if kind not in TOLD:
            super()._record(actor, kind, workspace, snapshot_id, data)
            return
        with self._write() as db:
            super()._record(actor, kind, workspace, snapshot_id, data)
            said = {name: str(value) for name, value in (data or {}).items() if value is not None}
            snapshot = self.snapshot(snapshot_id) if snapshot_id is not None else None
            self._call_webhooks(actor, kind, workspace, snapshot, said)
            if kind in _DECIDED:
                db.execute(
                    "DELETE FROM news WHERE snapshot_id = ? AND kind = 'snapshot.requested' AND read_at IS NULL",
                    [snapshot_id],
                )
            for user_id, text in self._news(actor, kind, workspace or "", snapshot, said).items():
                job_id = int(said["job"]) if "job" in said else None
                self._tell(user_id, text, kind, workspace, snapshot_id, job_id)

    def _news(
        self, actor: str, kind: str, workspace: str, snapshot: Snapshot | None, said: Mapping[str, str]
    ) -> dict[int, str]:
        """Whom the event concerns, by id, and what each is told."""
        admins = [row["id"] for row in self._rows(_ADMINS) if row["name"] != actor]
        people = self._people(snapshot) if snapshot else []
        ref = f"{workspace} v{snapshot.version}" if snapshot and snapshot.version else workspace
        if kind == "snapshot.requested" and snapshot and snapshot.requested_via != AUTO:  # else nobody need decide
            deciders = [row["id"] for row in self._rows(_DECIDERS, [snapshot.workspace_id]) if row["name"] != actor]
            return dict.fromkeys(deciders, f"{actor} asks for a snapshot of {workspace}: {snapshot.message}")
        if kind == "snapshot.rejected" and snapshot:
            return dict.fromkeys(people, f"Your snapshot of {workspace} was rejected by {actor}: {snapshot.reason}")
        if snapshot and snapshot.requested_via == AUTO and kind in ("snapshot.committed", "snapshot.failed"):
            return {}  # one item is enough of what nobody waits for; a failure is told as that of its job
        if kind == "snapshot.committed":
            return dict.fromkeys(people, f"{ref} is committed; it is being archived.")
        if kind == "snapshot.archived" and snapshot and snapshot.requested_via == AUTO:
            return dict.fromkeys(people, f"{ref} is committed and archived: {snapshot.message}")
        if kind == "snapshot.archived":
            return dict.fromkeys(people, f"{ref} is committed and archived.")
        if kind == "snapshot.failed" and snapshot:
            return dict.fromkeys([*people, *admins], f"The snapshot of {workspace} failed: {snapshot.reason}")
        if kind == "job.failed" and said.get("kind") == JobKind.FREEZE:
            return dict.fromkeys(admins, self._not_frozen(int(said["job"]), workspace, said.get("error", "")))
        own = snapshot is None or snapshot.requested_via == AUTO
        if kind == "job.failed" and (own or said.get("kind") != JobKind.COMMIT):  # else its snapshot's failure is told
            news = {}
            if said.get("kind") == JobKind.ARCHIVE:
                news = dict.fromkeys(people, f"{ref} is committed, but not archived yet; the administrators know.")
            what = f"Job {said.get('job')}, {said.get('kind')} of {ref}, failed: {said.get('error')}"
            return news | dict.fromkeys(admins, what)
        return {}

    def _not_frozen(self, job_id: int, workspace: str, error: str) -> str:
        """How many workspaces of a freeze have failed, that of the job the latest."""
        sql = (
            "SELECT count(*) AS n FROM frozen w JOIN jobs j ON j.id = w.job_id WHERE w.state = 'waiting' "
            "AND j.state = 'failed' AND w.freeze_id = (SELECT freeze_id FROM frozen WHERE job_id = ?)"
        )
        count, slug = int(self._one(sql, [job_id])["n"]), workspace.partition("/")[0]
        some = workspace if count < 2 else f"{count} workspaces of {slug}, {workspace} the latest,"
        return f"{some} could not be frozen: {error} See: workspaces challenge freeze {slug} --status"

    def _people(self, snapshot: Snapshot) -> list[int]:
        """Who asked for it; the members of its workspace when the program did, or nobody with an account."""
        asked = self.find_user(snapshot.requested_by) if snapshot.requested_via != AUTO else None
        if asked is not None:
            return [asked.id]
        rows = self._rows("SELECT user_id FROM members WHERE workspace_id = ?", [snapshot.workspace_id])
        return [row["user_id"] for row in rows]

    def _tell(
        self, user_id: int, text: str, kind: str, workspace: str | None, snapshot_id: int | None, job_id: int | None
    ) -> None:
        text = printable(" ".join(text.split()), TEXT_MAX)
        with self._write() as db:
            if snapshot_id is not None:
                db.execute(
                    "DELETE FROM news WHERE user_id = ? AND snapshot_id = ? AND read_at IS NULL",
                    [user_id, snapshot_id],
                )
            if job_id is not None:
                same = "(SELECT job_id FROM frozen WHERE freeze_id = (SELECT freeze_id FROM frozen WHERE job_id = ?))"
                db.execute(
                    f"DELETE FROM news WHERE user_id = ? AND read_at IS NULL AND job_id IN {same}",  # noqa: S608 -- our own constant
                    [user_id, job_id],
                )
            row = {"user_id": user_id, "at": time.time(), "kind": kind, "workspace": workspace, "text": text}
            self._insert("news", {**row, "snapshot_id": snapshot_id, "job_id": job_id})
            db.execute(
                "DELETE FROM news WHERE user_id = ? AND id <= "
                "(SELECT id FROM news WHERE user_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                [user_id, user_id, KEPT],
            )
            if not self._one("SELECT email IS NOT NULL AS has FROM users WHERE id = ?", [user_id])["has"]:
                return
            if kind == "snapshot.requested" and self._mailed_lately(user_id, kind, workspace):
                return
            if kind in _FAILURES and self._failures_mailed(user_id) >= MAILS_OF_FAILURES:
                return
            subject = f"{workspace}: {kind.replace('.', ' ')}" if workspace else kind.replace(".", " ")
            self._deliver("user_id", user_id, kind, workspace, json.dumps({"subject": subject, "text": text}))

    def _mailed_lately(self, user_id: int, kind: str, workspace: str | None) -> bool:
        sql = "SELECT 1 FROM deliveries WHERE user_id = ? AND kind = ? AND workspace IS ? AND created_at > ?"
        return self._find(sql, [user_id, kind, workspace, time.time() - MAIL_PAUSE]) is not None

    def _failures_mailed(self, user_id: int) -> int:
        sql = "SELECT count(*) AS n FROM deliveries WHERE user_id = ? AND kind IN (?, ?) AND created_at > ?"
        return int(self._one(sql, [user_id, *_FAILURES, time.time() - MAIL_PAUSE])["n"])

    def _call_webhooks(
        self, actor: str, kind: str, workspace: str | None, snapshot: Snapshot | None, said: Mapping[str, str]
    ) -> None:
        hooks = self.webhooks()
        if not hooks:
            return
        data: dict[str, object] = {"actor": actor, "workspace": workspace, **said}
        if snapshot is not None:
            data |= {
                "snapshot": snapshot.id,
                "state": snapshot.state,
                "version": snapshot.version,
                "requested_by": snapshot.requested_by,
                "message": snapshot.message,
                "image": snapshot.image_ref,
                "manifest_digest": snapshot.manifest_digest,
            }
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        payload = json.dumps({"type": kind, "timestamp": moment, "data": data})
        for hook in hooks:
            self._deliver("webhook_id", hook.id, kind, workspace, payload)
