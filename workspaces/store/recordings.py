"""Recordings of terminals: which session has one, how large and long it is, and who looked at whose session.

The bytes are files of the state directory (recordings/); here is what is known of them. A row without `ended_at` whose
session has ended is one that its gateway could not finish: the worker does, by looking at the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

from workspaces.errors import NotFound
from workspaces.model import Look, Recording
from workspaces.store.sessions import Sessions

LOOK_SECONDS = 600.0  # without a look, after which the next one is another one
SEEN_SECONDS = 30.0  # to which the end of a look is known
ACTS = {"watch": "session.watched", "replay": "session.replayed", "export": "session.exported"}

_RECORDINGS = "SELECT session_id, file, began_at, ended_at, size, seconds, left_out, removed_at FROM recordings"
_LOOKS = "SELECT id, session_id, actor, how, at, last_at FROM looks"
_OF = "WHERE session_id IN (SELECT value FROM json_each(?))"


class Recordings(Sessions):
    def begin_recording(self, session_id: int, file: str, began_at: float) -> None:
        """A session is recorded into `file`."""
        self._insert("recordings", {"session_id": session_id, "file": file, "began_at": began_at})

    def end_recording(self, session_id: int, size: int, seconds: float, left_out: int) -> None:
        """Note what it has come to. Nothing happens when it has none, or has been noted."""
        sql = (
            "UPDATE recordings SET ended_at = ?, size = ?, seconds = ?, left_out = ? "
            "WHERE session_id = ? AND ended_at IS NULL"
        )
        with self._write() as db:
            db.execute(sql, [time.time(), size, seconds, left_out, session_id])

    def recording(self, session_id: int) -> Recording:
        """That of a session. NotFound, also when there is no such session."""
        self.session(session_id)
        row = self._one(f"{_RECORDINGS} WHERE session_id = ?", [session_id], f"Session {session_id} was not recorded.")
        return Recording(**row)

    def recordings_of(self, session_ids: Iterable[int]) -> dict[int, Recording]:
        """Those of some sessions, by session; also such as are not kept any more."""
        rows = self._rows(f"{_RECORDINGS} {_OF}", [json.dumps(list(session_ids))])
        return {row["session_id"]: Recording(**row) for row in rows}

    def unfinished_recordings(self) -> list[Recording]:
        """Those whose session has ended, but whose end nobody has noted."""
        over = "SELECT 1 FROM sessions s WHERE s.id = session_id AND s.ended_at < ?"
        rows = self._rows(f"{_RECORDINGS} WHERE ended_at IS NULL AND EXISTS ({over})", [time.time() - SEEN_SECONDS])
        return [Recording(**row) for row in rows]

    def kept_recordings(self) -> list[tuple[Recording, str]]:
        """All whose files are there, the oldest first, and whose session each is of."""
        sql = (
            "SELECT r.session_id, r.file, r.began_at, r.ended_at, r.size, r.seconds, r.left_out, r.removed_at, s.user "
            "FROM recordings r INDEXED BY recordings_kept JOIN sessions s ON s.id = r.session_id "
            "WHERE r.removed_at IS NULL ORDER BY r.began_at"
        )
        rows = self._rows(sql)
        return [(Recording(**{k: v for k, v in row.items() if k != "user"}), str(row["user"])) for row in rows]

    def forget_recordings(self, session_ids: Iterable[int]) -> None:
        """Their files are not kept any more."""
        sql = "UPDATE recordings SET removed_at = ? WHERE session_id IN (SELECT value FROM json_each(?))"
        with self._write() as db:
            db.execute(sql, [time.time(), json.dumps(list(session_ids))])

    # who looked

    def note_look(self, session_id: int, how: str, *, actor: str) -> None:
        """`actor` looks at a session; `how` is watch, replay or export. It is in the record before they see a byte.

        One that goes on is one look. NotFound.
        """
        now = time.time()
        last = self._find(
            f"{_LOOKS} WHERE session_id = ? AND actor = ? AND how = ? ORDER BY id DESC LIMIT 1",
            [session_id, actor, how],
        )
        goes_on = last is not None and now - last["last_at"] < LOOK_SECONDS and how != "export"
        if last is not None and goes_on and now - last["last_at"] < SEEN_SECONDS:
            return
        with self._write() as db:
            if last is not None and goes_on:
                db.execute("UPDATE looks SET last_at = ? WHERE id = ?", [now, last["id"]])
                return
            found = self.session(session_id)
            self._insert("looks", {"session_id": session_id, "actor": actor, "how": how, "at": now, "last_at": now})
            self._record(actor, ACTS[how], found.workspace, data={"session": found.id, "user": found.user})

    def is_looking(self, session_id: int, how: str, *, actor: str) -> bool:
        """Whether `actor` looks at a session that way, or did a moment ago."""
        sql = f"{_LOOKS} WHERE session_id = ? AND actor = ? AND how = ? ORDER BY id DESC LIMIT 1"
        last = self._find(sql, [session_id, actor, how])
        return last is not None and time.time() - last["last_at"] < LOOK_SECONDS

    def looks(self, session_ids: Iterable[int]) -> Mapping[int, list[Look]]:
        """Who looked at some sessions, by session, the latest first."""
        found: dict[int, list[Look]] = {}
        for row in self._rows(f"{_LOOKS} {_OF} ORDER BY id DESC", [json.dumps(list(session_ids))]):
            found.setdefault(row["session_id"], []).append(Look(**row))
        return found

    def recorded_file(self, session_id: int) -> str:
        """The name of a recording's file. NotFound when there is none, or none any more."""
        found = self.recording(session_id)
        if found.removed_at is not None:
            raise NotFound("The recording is not kept any more.")
        return found.file
