"""Operations on SSH sessions: who is on, ending one, and what its terminal shows or showed.

Whoever looks at what another's terminal shows is in the record, and that person can see it.
"""

from __future__ import annotations

from typing import Annotated

from flask import Response, request

from webadmin.actions import sessions as actions
from webadmin.api import paging
from webadmin.api.auth import Caller, too_many
from webadmin.api.events import EVENTS
from webadmin.api.inputs import Listed
from webadmin.api.models import Moment, Out, Part, Session
from webadmin.api.operations import Id, get, post
from webadmin.context import parts
from webadmin.serving.handover import AGAIN, Stream, stream
from workspaces import recordings
from workspaces.errors import NotFound
from workspaces.rights import Right
from workspaces.scopes import Scope


class Look(Out):
    """Somebody looked at what a session's terminal shows."""

    actor: str
    how: str
    """watch, replay or export."""
    at: Moment
    last_at: Moment


class Recorded(Out):
    """What a session's terminal showed, without its bytes."""

    began_at: Moment
    ended_at: Moment | None
    """Null while it is written; size and length are known then."""
    size: int
    seconds: float
    left_out: int
    """Bytes that came too fast, or that the disk did not take."""
    removed_at: Moment | None
    """Since then there is only the record."""


class Recording(Recorded):
    """The same, and who looked at it."""

    looks: list[Look]
    """Of others than whose session it is, the latest first."""


class SessionLine(Session):
    """A session as the list shows it."""

    recording: Recorded | None
    """Null for one that was not recorded."""


@get("/sessions")
def list_sessions(caller: Caller, query: Listed) -> Part[SessionLine]:
    """List SSH sessions, the latest first; `q=on:yes` for those that go on.

    Those of the challenges that you may see; for a participant his own.
    """
    q = query.q
    if not caller.rights.is_staff:
        q = f"{actions.own(caller.user)} {q}"
    within = caller.rights.scope(Right.SEE) if caller.rights.is_staff else None
    walked = caller.store.walk_sessions(q.strip(), after=query.after, size=query.limit, newest=True, within=within)
    recorded = caller.store.recordings_of(session.id for session in walked.items)
    lines = [
        SessionLine.model_validate({**dict(Session.model_validate(session)), "recording": recorded.get(session.id)})
        for session in walked.items
    ]
    return paging.part(lines, walked.next)


@get("/sessions/{session_id}")
def show_session(caller: Caller, session_id: Id) -> Session:
    """Show a session."""
    return Session.model_validate(caller.session(session_id))


@post("/sessions/{session_id}/end", Scope.WORKSPACES)
def end_session(caller: Caller, session_id: Id) -> Session:
    """End an open session; its processes are hung up within two seconds."""
    found = caller.session(session_id, Right.WATCH)
    return Session.model_validate(caller.store.kill_session(found.id, actor=caller.name))


@get("/sessions/{session_id}/recording")
def show_recording(caller: Caller, session_id: Id) -> Recording:
    """Show what is known of a session's recording, and who looked at it.

    404 for a session that was not recorded.
    """
    (found,) = actions.shown(caller.store, [caller.session(session_id)])
    if found.recording is None:
        raise NotFound("This session was not recorded.")
    fields = {name: getattr(found.recording, name) for name in Recording.model_fields if name != "looks"}
    return Recording.model_validate({**fields, "looks": found.looks})


@get("/sessions/{session_id}/cast", Scope.WORKSPACES)
def export_session(caller: Caller, session_id: Id) -> Annotated[Response, "application/x-asciicast"]:
    """Download the recording of a session that has ended, in asciicast v2.

    It is in the record that you did.
    """
    _watchable(caller, session_id)
    actions.look(caller.store, session_id, "export", actor=caller.name)
    size, pieces = actions.whole(recordings.find(caller.store, parts().settings.recordings, session_id))
    return Response(pieces, headers={"Content-Length": str(size)}, mimetype="application/x-asciicast")


@get("/sessions/{session_id}/watch", Scope.WORKSPACES)
def look_at_session(caller: Caller, session_id: Id) -> Annotated[Response, EVENTS]:
    """Follow what the terminal of an open session shows, as server-sent events.

    It is in the record that you do. The first message has what is shown by now (`init`, of a terminal of `cols` and
    `rows`, at `time`), each other one [time, "o", output] or [time, "r", size]; `done` comes when it has ended.
    """
    _watchable(caller, session_id)
    limits, of = parts().limits, caller.store
    if AGAIN not in request.environ:  # else it is asked whether this may go on, which it does to the end
        if limits.full(caller.user.id):
            raise too_many(30)
        actions.look(of, session_id, "watch", actor=caller.name)
    follow = actions.follow(of, parts().settings.recordings, session_id, actor=caller.name)

    async def counted(stream: Stream) -> None:
        with limits.stream(caller.user.id):
            await follow(stream)

    return stream(counted)


def _watchable(caller: Caller, session_id: int) -> None:
    """Raise NotFound, Refused unless one may look at the session's terminal, whosever it is."""
    found = caller.session(session_id, Right.WATCH)
    caller.check(Right.WATCH, found.workspace.partition("/")[0])
