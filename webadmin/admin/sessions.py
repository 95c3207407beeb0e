"""Sessions: who is on and who was, one session, ending it, and what its terminal shows or showed."""

from __future__ import annotations

from typing import Any

from flask import Response, flash, redirect, render_template, request, url_for

from webadmin import access, listing
from webadmin.actions import sessions as actions
from webadmin.admin.base import actor, bp
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.live import fragment
from webadmin.security import PLAYER_POLICY
from webadmin.serving.handover import AGAIN, stream
from workspaces import recordings
from workspaces.errors import Conflict
from workspaces.queries import Listed
from workspaces.rights import Right


def _list() -> dict[str, Any]:
    """Those that match the address: `show=all` has the ended ones too."""
    every = request.args.get("show") == "all"
    always = "" if every else "on:yes"
    asked = listing.found(store().find_sessions, always=always, within=access.scope(Right.SEE))
    return {
        "asked": asked,
        "every": every,
        "page": asked.page,
        "items": actions.shown(store(), asked.page.items),
        "syntax": listing.syntax(Listed.SESSIONS),
    }


@bp.get("/sessions")
@access.require(Right.SEE)
def sessions() -> Any:
    found = _list()
    error = found["asked"].error
    return render_template("admin/sessions.html", **found), error.http_status if error else 200


@bp.get("/sessions/live")
@access.require(Right.SEE)
def live_sessions() -> Any:
    return fragment(lambda: render_template("admin/_sessions.html", **_list()))


def _one(session_id: int) -> actions.Shown:
    return actions.shown(store(), [store().session(session_id)])[0]


@bp.get("/sessions/<int:session_id>")
@access.require(Right.SEE)
def session(session_id: int) -> Any:
    return render_template("admin/session.html", item=_one(session_id))


@bp.get("/sessions/<int:session_id>/live")
@access.require(Right.SEE)
def live_session(session_id: int) -> Any:
    return fragment(lambda: render_template("admin/_session.html", item=_one(session_id)))


@bp.route("/sessions/<int:session_id>/end", methods=["GET", "POST"])
@access.require(Right.WATCH)
def end_session(session_id: int) -> Any:
    """Say what ends with it (GET); end it (POST)."""
    found = store().session(session_id)
    if request.method == "GET":
        if found.ended_at is not None:
            raise Conflict(_("This session has ended already."))
        return render_template("admin/end_session.html", session=found)
    store().kill_session(session_id, actor=actor())
    flash(_("The session of %(user)s ends within two seconds.", user=found.user))
    return redirect(url_for(".session", session_id=session_id))


@bp.post("/sessions/<int:session_id>/<any(watch,replay):action>/begin")
@access.require(Right.WATCH)
def look(session_id: int, action: str) -> Any:
    """Begin to watch or replay; from now on it is in the record."""
    actions.look(store(), session_id, action, actor=actor())
    return redirect(url_for(".screen", session_id=session_id, action=action))


@bp.get("/sessions/<int:session_id>/<any(watch,replay):action>")
@access.require(Right.WATCH)
def screen(session_id: int, action: str) -> Any:
    """The page with the terminal, for who has begun to look."""
    found = _one(session_id)
    if not store().is_looking(session_id, action, actor=actor()):
        flash(_("Looks are in the record, so each begins with the button."), "warning")
        return redirect(url_for(".session", session_id=session_id))
    response = Response(render_template("admin/screen.html", item=found, action=action))
    response.headers["Content-Security-Policy"] = PLAYER_POLICY
    return response


@bp.get("/sessions/<int:session_id>/stream")
@access.require(Right.WATCH)
def stream_session(session_id: int) -> Any:
    """What its terminal shows from now on, as an event stream, to its end. Refused when it has ended by then."""
    name, of = actor(), store()
    actions.check_looking(of, session_id, "watch", actor=name)
    if AGAIN not in request.environ and of.session(session_id).ended_at is not None:
        raise Conflict(_("This session has ended."))
    return stream(actions.follow(of, parts().settings.recordings, session_id, actor=name))


@bp.get("/sessions/<int:session_id>/recording")
@access.require(Right.WATCH)
def recording(session_id: int) -> Any:
    """The whole recording of a session that has ended, for the page that replays it."""
    actions.check_looking(store(), session_id, "replay", actor=actor())
    return _file(session_id)


@bp.post("/sessions/<int:session_id>/export")
@access.require(Right.WATCH)
def export_session(session_id: int) -> Any:
    """The same as a file to keep."""
    actions.look(store(), session_id, "export", actor=actor())
    response = _file(session_id)
    response.headers["Content-Disposition"] = f'attachment; filename="session-{session_id}.cast"'
    return response


def _file(session_id: int) -> Response:
    size, pieces = actions.whole(recordings.find(store(), parts().settings.recordings, session_id))
    return Response(pieces, headers={"Content-Length": str(size)}, mimetype="application/x-asciicast")
