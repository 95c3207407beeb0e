"""Notices: lines for those who have a terminal open in a workspace, from the worker to whichever gateway carries them.

    worker: add ─► row ─► each gateway process: notices(after) ─► its sessions there ─► told ─► worker: untold?

They are news, not records: after KEPT_SECONDS they go.
"""

from __future__ import annotations

import time

from workspaces.model import Notice
from workspaces.store.workspaces import Workspaces

KEPT_SECONDS = 60.0


class Notices(Workspaces):
    def add_notice(self, workspace_id: int, text: str) -> int | None:
        """Tell everybody who is on in the workspace; the notice's id, None when nobody is. NotFound."""
        self.workspace(workspace_id)
        anybody = "SELECT 1 FROM sessions WHERE ended_at IS NULL AND +workspace_id = ? LIMIT 1"
        if self._find(anybody, [workspace_id]) is None:
            return None
        now = time.time()
        with self._write() as db:
            db.execute("DELETE FROM notices WHERE at < ?", [now - KEPT_SECONDS])
            return self._insert("notices", {"workspace_id": workspace_id, "text": text, "at": now})

    def last_notice(self) -> int:
        """The id of the latest that ever was, 0 before the first."""
        row = self._find("SELECT seq FROM sqlite_sequence WHERE name = 'notices'")
        return int(row["seq"]) if row else 0

    def notices(self, after: int) -> list[Notice]:
        """Those of all workspaces that came after the one of that id, oldest first."""
        rows = self._rows("SELECT id, workspace_id, text, at FROM notices WHERE id > ? ORDER BY id", [after])
        return [Notice(**row) for row in rows]

    def notice_told(self, notice_id: int, process: str) -> None:
        """A gateway process, by its word, has told its sessions. Nothing happens when the notice is gone."""
        with self._write() as db:
            db.execute(
                "INSERT OR IGNORE INTO notices_told (notice_id, process) SELECT id, ? FROM notices WHERE id = ?",
                [process, notice_id],
            )

    def notice_untold(self, notice_id: int) -> bool:
        """Whether a session that was there by then is carried by a process that has not told it yet."""
        sql = (
            "SELECT 1 FROM notices n JOIN sessions s ON s.ended_at IS NULL AND +s.workspace_id = n.workspace_id "
            "AND s.started_at <= n.at WHERE n.id = ? AND NOT EXISTS "
            "(SELECT 1 FROM notices_told t WHERE t.notice_id = n.id AND t.process = s.process) LIMIT 1"
        )
        return self._find(sql, [notice_id]) is not None
