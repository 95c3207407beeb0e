"""Other people's sessions: what is known of them, and looking at what their terminals show.

A look begins with `look`, which is in the record, and for the person to see, before a byte is shown. What shows bytes
asks `check_looking` and writes nothing down itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from webadmin import tailing
from webadmin.i18n import _
from webadmin.serving.handover import Stream
from workspaces import casts, recordings
from workspaces.errors import Conflict, Refused
from workspaces.model import Look, Recording, Session, User
from workspaces.store import Store

CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Shown:
    """A session as lists show it; `looks` are other people's, the latest first."""

    session: Session
    recording: Recording | None
    looks: tuple[Look, ...]

    @property
    def challenge(self) -> str:
        return self.session.workspace.partition("/")[0]

    @property
    def live(self) -> bool:
        return self.session.ended_at is None

    @property
    def kept(self) -> bool:
        """Whether there is something to see."""
        return self.recording is not None and self.recording.removed_at is None

    @property
    def way(self) -> str:
        """How it can be looked at: watch, replay, or not at all."""
        return ("watch" if self.live else "replay") if self.kept else ""


def is_own(session: Session, user: User) -> bool:
    """Whether it is that person's, and not of a removed account that had the name before."""
    return session.user == user.name and session.started_at >= user.created_at


def own(user: User) -> str:
    """What finds the sessions, or requests, that are somebody's own."""
    since = datetime.fromtimestamp(user.created_at, UTC).isoformat()
    return f"user:{user.name} since:{since}"


def of_member(store: Store, workspace_id: int, user: User, *, ended: bool, limit: int) -> list[Session]:
    """Those in a workspace as a member sees them, the latest first; with `ended` his own that have ended as well.

    Of others only who is on: from where, and when they were, is theirs to tell.
    """
    on = store.sessions(workspace_id, limit=limit)
    found = {s.id: s if is_own(s, user) else replace(s, address="") for s in on}
    if ended:
        mine = store.sessions(workspace_id, user.name, ended=True, limit=limit)
        found |= {s.id: s for s in mine if is_own(s, user)}
    return sorted(found.values(), key=lambda s: (s.started_at, s.id), reverse=True)[:limit]


def shown(store: Store, sessions: Iterable[Session]) -> list[Shown]:
    """What is known of each, in two reads."""
    sessions = list(sessions)
    ids = [session.id for session in sessions]
    recordings, looks = store.recordings_of(ids), store.looks(ids)
    return [
        Shown(
            session,
            recordings.get(session.id),
            tuple(look for look in looks.get(session.id, ()) if look.actor != session.user),
        )
        for session in sessions
    ]


def by_id(store: Store, sessions: Iterable[Session]) -> dict[int, Shown]:
    """The same by session, for templates of pages that list sessions."""
    return {one.session.id: one for one in shown(store, sessions)}


def look(store: Store, session_id: int, how: str, *, actor: str) -> Shown:
    """Begin to look: `how` is watch, replay or export. NotFound; Conflict when there is nothing to see that way."""
    (found,) = shown(store, [store.session(session_id)])
    if found.recording is None:
        raise Conflict(
            _("This session was not recorded."), _("Recording is a setting of the challenge, for sessions that begin.")
        )
    if not found.kept:
        raise Conflict(_("The recording is not kept any more."))
    if how == "watch" and not found.live:
        raise Conflict(_("This session has ended."), _("Replay it instead."))
    if how != "watch" and found.live:
        raise Conflict(_("This session goes on."), _("Watch it now, or come back when it has ended."))
    store.note_look(session_id, how, actor=actor)
    return found


def follow(store: Store, directory: Path, session_id: int, *, actor: str) -> Callable[[Stream], Awaitable[None]]:
    """What shows a terminal from now on to its end; that `actor` still looks is noted meanwhile. NotFound."""
    return tailing.follower(
        recordings.find(store, directory, session_id),
        partial(store.note_look, session_id, "watch", actor=actor),
        partial(recordings.is_written, store, session_id),
    )


def check_looking(store: Store, session_id: int, how: str, *, actor: str) -> None:
    """Raise Refused unless `actor` has begun to look at the session so lately."""
    if not store.is_looking(session_id, how, actor=actor):
        raise Refused(_("Say first that you want to look at this session."), _("Looks are in the record."))


def whole(path: Path) -> tuple[int, Iterator[bytes]]:
    """Size and pieces of a recording, up to its last whole line. NotFound, Conflict."""
    size, _seconds = casts.measure(path)
    file = casts.open_cast(path)

    def pieces() -> Iterator[bytes]:
        left = size
        with file:
            while left and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

    return size, pieces()
