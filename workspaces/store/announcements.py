"""Announcements: what the organisers have to say to everybody, or to those of a challenge, from a moment until another.

add ─► shown on every page, until the reader puts it away ─► shown above each login's prompt
    └► from its moment on, once: a notice to every workspace where somebody has a terminal open
"""

from __future__ import annotations

import time
from typing import Any

from workspaces.errors import Conflict, InvalidInput
from workspaces.model import Announcement, Severity
from workspaces.names import check_message, check_moment, printable
from workspaces.store.challenges import Challenges
from workspaces.store.notices import Notices

SHOWN = 20  # at once to one person
# How a line begins that a terminal shows.
CALLED = {Severity.INFO: "Announcement", Severity.WARNING: "Warning", Severity.URGENT: "URGENT"}

_ANNOUNCEMENTS = (
    "SELECT a.id, a.text, a.severity, c.slug AS challenge, a.from_at, a.until_at, a.created_by, a.created_at "
    "FROM announcements a LEFT JOIN challenges c ON c.id = a.challenge_id"
)
# `+` keeps SQLite to the index of those that are not over: the others only grow.
_UNREAD = (
    "NOT EXISTS (SELECT 1 FROM dismissals d WHERE d.announcement_id = a.id "
    "AND d.user_id = (SELECT id FROM users WHERE name = :user))"
)
_CURRENT = "coalesce(a.until_at, 9e999) > :now AND a.from_at <= :now"
_ORDER = "ORDER BY CASE a.severity WHEN 'urgent' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, a.id DESC"


def line(severity: Severity, text: str) -> str:
    """An announcement as one line that is safe on a terminal."""
    return f"{CALLED[severity]}: {printable(' '.join(text.split()), 1000)}"


class Announcements(Notices, Challenges):
    def add_announcement(
        self,
        text: str,
        severity: Severity = Severity.INFO,
        *,
        challenge: str | None = None,
        from_at: float | None = None,
        until_at: float | None = None,
        actor: str,
    ) -> Announcement:
        """Announce `text`, at once unless `from_at` is later. InvalidInput; NotFound without such a challenge."""
        text = check_message(text, "announcement")
        now = time.time()
        begins = check_moment(now if from_at is None else from_at)
        if until_at is not None:
            check_moment(until_at)
        if until_at is not None and until_at <= max(begins, now):
            raise InvalidInput("An announcement ends after it begins, and not in the past.")
        row = {"text": text, "severity": Severity(severity), "from_at": begins, "until_at": until_at}
        with self._write():
            number = None if challenge is None else self.challenge(challenge).id
            made = self._insert(
                "announcements", {**row, "challenge_id": number, "created_by": actor, "created_at": now}
            )
            self._record(
                actor,
                "announcement.added",
                data={"announcement": made, "severity": severity, "challenge": challenge, "text": text},
            )
            self.tell_announcements()
            return self.announcement(made)

    def announcement(self, announcement_id: int) -> Announcement:
        """By id. Raises NotFound."""
        missing = f"There is no announcement {announcement_id}."
        return _made(self._one(f"{_ANNOUNCEMENTS} WHERE a.id = ?", [announcement_id], missing))

    def announcements(self, *, ended: bool = False, limit: int = 200) -> list[Announcement]:
        """Those that are shown now or will be, the latest first; with `ended` the others as well."""
        which = "ORDER BY a.id" if ended else "WHERE coalesce(a.until_at, 9e999) > :now ORDER BY +a.id"
        rows = self._rows(f"{_ANNOUNCEMENTS} {which} DESC LIMIT :limit", _bound(limit=limit))
        return [_made(row) for row in rows]

    def announcements_for(self, user: str) -> list[Announcement]:
        """What concerns `user` now and is not put away, the most urgent first: for all, and for own challenges."""
        own = (
            "SELECT w.challenge_id FROM users u JOIN members m ON m.user_id = u.id "
            "JOIN workspaces w ON w.id = m.workspace_id WHERE u.name = :user AND w.removed_at IS NULL"
        )
        mine = f"(+a.challenge_id IS NULL OR +a.challenge_id IN ({own}))"
        rows = self._rows(
            f"{_ANNOUNCEMENTS} WHERE {_CURRENT} AND {mine} AND {_UNREAD} {_ORDER} LIMIT :limit",
            _bound(user=user, limit=SHOWN),
        )
        return [_made(row) for row in rows]

    def end_announcement(self, announcement_id: int, *, actor: str) -> Announcement:
        """It is not shown any more. NotFound; Conflict when it has ended."""
        with self._write() as db:
            found = self.announcement(announcement_id)
            now = time.time()
            if found.until_at is not None and found.until_at <= now:
                raise Conflict(f"Announcement {announcement_id} has ended already.")
            db.execute("UPDATE announcements SET until_at = ? WHERE id = ?", [now, announcement_id])
            self._record(actor, "announcement.ended", data={"announcement": announcement_id})
            return self.announcement(announcement_id)

    def dismiss_announcement(self, announcement_id: int, user: str) -> None:
        """`user` has read it and needs it on no page any more. NotFound."""
        with self._write() as db:
            self.announcement(announcement_id)
            number = self._one("SELECT id FROM users WHERE name = ?", [user], "There is no such account.")["id"]
            db.execute("INSERT OR IGNORE INTO dismissals VALUES (?, ?)", [number, announcement_id])

    def tell_announcements(self) -> int:
        """Tell those that began to who has a terminal open, once; how many notices that were."""
        due = f"{_ANNOUNCEMENTS} WHERE a.told_at IS NULL AND a.from_at <= :now ORDER BY a.from_at"
        if not self._rows(due, _bound()):
            return 0
        count = 0
        with self._write() as db:
            for row in self._rows(due, _bound()):
                found = _made(row)
                if found.until_at is None or found.until_at > time.time():
                    for workspace_id in self._occupied(found.challenge):
                        count += self.add_notice(workspace_id, line(found.severity, found.text)) is not None
                db.execute("UPDATE announcements SET told_at = ? WHERE id = ?", [time.time(), found.id])
        return count

    def _occupied(self, challenge: str | None) -> list[int]:
        """Workspaces, of a challenge or all, where somebody is on."""
        sql = (
            "SELECT DISTINCT +s.workspace_id AS workspace_id FROM sessions s INDEXED BY sessions_open "
            "JOIN workspaces w ON w.id = s.workspace_id JOIN challenges c ON c.id = w.challenge_id "
            "WHERE s.ended_at IS NULL AND w.removed_at IS NULL "
            "AND (:challenge IS NULL OR c.slug = :challenge)"
        )
        return [row["workspace_id"] for row in self._rows(sql, _bound(challenge=challenge))]


def _bound(**values: Any) -> Any:
    """Named parameters of a statement, with the moment."""
    return {"now": time.time(), **values}


def _made(row: dict[str, Any]) -> Announcement:
    return Announcement(**{**row, "severity": Severity(row["severity"])})
