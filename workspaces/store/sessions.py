"""SSH sessions: who was on where, from when to when.

A row is open (`ended_at` is NULL) while its session lives. Each gateway process names itself in its rows, so the rows
of one that was killed can be told from those of the others and ended. An open row that somebody else ends is how a
gateway learns that its session is to go: it looks which of its rows are still open.

Whoever runs a command a hundred times a second must not fill the disk with rows: of each user the latest that have
ended are kept, of each kind so many, and the others go, but for those whose recording is there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from workspaces.errors import Conflict
from workspaces.model import Session, Severity
from workspaces.store.workspaces import Workspaces

KEPT = 2000  # ended sessions of one user and kind
TIDY_EVERY = 64  # begun sessions, for which the others may be more

_SELECT = (
    "SELECT s.id, s.user, s.workspace_id, c.slug || '/' || w.name AS workspace, s.kind, s.address, s.started_at, "
    "s.ended_at, s.process FROM sessions s"
)
_JOINS = "JOIN workspaces w ON w.id = s.workspace_id JOIN challenges c ON c.id = w.challenge_id"
_SESSIONS = f"{_SELECT} {_JOINS}"
# The index of the open rows, of which there are as many as sessions: the others only grow.
_OPEN = f"{_SELECT} INDEXED BY sessions_live {_JOINS}"
_COMPANY = (
    "SELECT started_at, address, NULL AS name, NULL AS news, NULL AS severity "
    "FROM (SELECT started_at, address FROM sessions WHERE user = :user AND kind = 'shell' "
    "ORDER BY started_at DESC LIMIT 1) "
    "UNION ALL SELECT DISTINCT NULL, NULL, user, NULL, NULL FROM sessions INDEXED BY sessions_live "
    "WHERE ended_at IS NULL AND workspace_id = :workspace AND user != :user "
    "UNION ALL SELECT NULL, text, NULL, id, NULL FROM news "
    "WHERE read_at IS NULL AND user_id = (SELECT id FROM users WHERE name = :user) "
    "UNION ALL SELECT NULL, text, NULL, id, severity FROM announcements "
    "WHERE coalesce(until_at, 9e999) > :now AND from_at <= :now AND (+challenge_id IS NULL "
    "OR +challenge_id = (SELECT challenge_id FROM workspaces WHERE id = :workspace))"
)
_URGENCY = list(reversed(Severity))


@dataclass(frozen=True, slots=True)
class Company:
    """`last` is when the user last began a shell, and from which address; `others` who else is on.

    `news` are the user's unread items, the newest first, each with its id; `announced` what holds for the workspace's
    challenge or for all now, the most urgent first.
    """

    last: tuple[float, str] | None
    others: list[str]
    news: list[tuple[int, str]]
    announced: list[tuple[Severity, str]] = field(default_factory=list)


class Sessions(Workspaces):
    def begin_session(
        self, user: str, workspace_id: int, kind: str, address: str, process: str, started_at: float
    ) -> int:
        """Note a session (`kind` is shell, exec or sftp) of gateway process `process`; returns its id."""
        row = {"user": user, "workspace_id": workspace_id, "kind": kind, "address": address, "process": process}
        with self._write() as db:
            number = self._insert("sessions", {**row, "started_at": started_at})
            if number % TIDY_EVERY == 0:
                db.execute(
                    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user = ? AND +kind = ? "
                    "AND ended_at IS NOT NULL ORDER BY started_at DESC LIMIT -1 OFFSET ?) "
                    "AND NOT EXISTS (SELECT 1 FROM recordings WHERE session_id = sessions.id AND removed_at IS NULL)",
                    [user, kind, KEPT],
                )
            return number

    def end_session(self, session_id: int, ended_at: float) -> None:
        """Note its end. Nothing happens when it has ended already."""
        with self._write() as db:
            db.execute("UPDATE sessions SET ended_at = ? WHERE id = ? AND ended_at IS NULL", [ended_at, session_id])

    def kill_session(self, session_id: int, *, actor: str) -> Session:
        """End an open session: its gateway hangs it up when it sees this. NotFound; Conflict when it has ended."""
        with self._write():
            found = self.session(session_id)
            if found.ended_at is not None:
                raise Conflict(f"Session {session_id} has ended already.")
            self.end_session(session_id, time.time())
            data = {"session": found.id, "user": found.user, "kind": found.kind, "address": found.address}
            self._record(actor, "session.killed", found.workspace, data=data)
            return self.session(session_id)

    def end_sessions_of(self, process: str) -> int:
        """End the open sessions of a gateway process that is gone; how many those were."""
        with self._write() as db:
            done = db.execute(
                "UPDATE sessions SET ended_at = :now WHERE ended_at IS NULL AND process = :process",
                {"now": time.time(), "process": process},
            )
            return int(done.rowcount)

    def open_session_ids(self, process: str) -> set[int]:
        """Those of one gateway process that nobody has ended."""
        rows = self._rows("SELECT id FROM sessions WHERE process = ? AND ended_at IS NULL", [process])
        return {row["id"] for row in rows}

    def session(self, session_id: int) -> Session:
        """By id. Raises NotFound."""
        return Session(**self._one(f"{_SESSIONS} WHERE s.id = ?", [session_id], f"There is no session {session_id}."))

    def sessions(
        self,
        workspace_id: int | None = None,
        user: str | None = None,
        *,
        ended: bool = False,
        recorded: bool = False,
        limit: int = 1000,
    ) -> list[Session]:
        """The open ones, the latest first; with `ended` those that have ended as well, at most `limit`.

        With `recorded` only those with a recording that is kept.
        """
        sql, params = f"{_SESSIONS} WHERE 1" if ended else f"{_OPEN} WHERE s.ended_at IS NULL", list[object]()
        if recorded:
            sql += " AND EXISTS (SELECT 1 FROM recordings r WHERE r.session_id = s.id AND r.removed_at IS NULL)"
        if workspace_id is not None:
            sql, params = f"{sql} AND s.workspace_id = ?", [workspace_id]
        if user is not None:
            sql, params = f"{sql} AND s.user = ?", [*params, user]
        # all that ever were: by id, which grows as they begin, so that the latest are read and not all sorted
        order = "s.id DESC" if ended and not params else "s.started_at DESC, s.id DESC"
        rows = self._rows(f"{sql} ORDER BY {order} LIMIT ?", [*params, limit])
        return [Session(**row) for row in rows]

    def company(self, user: str, workspace_id: int) -> Company:
        """For a greeting, in one read: what `user` wants to know who begins a shell."""
        params: Any = {"user": user, "workspace": workspace_id, "now": time.time()}
        rows = self._rows(_COMPANY, params)
        told = [row for row in rows if row["severity"] is not None]
        told.sort(key=lambda row: (_URGENCY.index(Severity(row["severity"])), -row["news"]))
        last = [(row["started_at"], row["address"]) for row in rows if row["started_at"] is not None]
        return Company(
            last[0] if last else None,
            sorted(row["name"] for row in rows if row["name"] is not None),
            sorted(
                ((row["news"], row["address"]) for row in rows if row["news"] is not None and row["severity"] is None),
                reverse=True,
            ),
            [(Severity(row["severity"]), row["address"]) for row in told],
        )
