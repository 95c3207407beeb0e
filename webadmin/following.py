"""`/live`: the one event stream of an open page, which tells it which of its topics have changed.

    GET /live?topic=me&topic=workspace:7&since=VERSION      rights for every topic, else none of them
      hello VERSION      what the next `since` is
      changed TOPIC      fetch what shows it again; at once for all of them when VERSION is not `since`
      over               you may follow no more; ask again, and be told why

`static/live.js` reads it. It fetches by itself what has changed, so that rights are asked for what is shown as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from flask import Blueprint, Response, g, request

from webadmin import access, session
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.serving.handover import AGAIN, Stream, stream
from webadmin.watching import Watching
from workspaces.errors import InvalidInput, NotFound, Refused, WorkspacesError
from workspaces.rights import Right
from workspaces.store.topics import split_topic

bp = Blueprint("following", __name__)
bp.before_request(access.require_login)

TOPICS_MAX = 16  # of one page
BEAT_SECONDS = 20.0  # of silence, after which something is sent: it shows who is gone
RIGHTS = {"queue": Right.DECIDE} | dict.fromkeys(("workspaces", "jobs", "sessions", "overview"), Right.SEE)


class TooManyPages(Refused):
    http_status = 429


@bp.get("/live")
def live() -> Response:
    """Tell the page what changes."""
    topics = set(request.args.getlist("topic"))
    if not 0 < len(topics) <= TOPICS_MAX:
        raise InvalidInput(_("A page follows 1 to %(most)s topics.", most=TOPICS_MAX))
    for topic in topics:
        _check(topic)
    name, watching = session.me().name, parts().watching
    if AGAIN not in request.environ and watching.full(name):
        raise TooManyPages(_("Too many pages are open."), _("This one looks for news now and then instead."))
    return stream(partial(_follow, watching, name, sorted(topics), request.args.get("since", "")))


def note_version() -> None:
    """Keep which state of the store a page is made from, before anything is read for it."""
    with suppress(WorkspacesError):  # then the page says so itself
        g.store_version = parts().watching.version()


def version() -> str:
    """For the page's event stream."""
    return str(g.get("store_version", ""))


def _check(topic: str) -> None:
    """Raises NotFound, Refused, InvalidInput unless who is signed in may know whether it changes."""
    kind, number = split_topic(topic)
    if number is not None:
        _check_thing(kind, number)
    elif kind in RIGHTS:
        access.check(RIGHTS[kind])
    elif kind != "me":
        raise InvalidInput(_("There is no such topic."))


def _check_thing(kind: str, number: int) -> None:
    challenge = store().challenge_of(kind, number)
    if challenge is not None and access.may(Right.SEE, challenge):
        return
    if challenge is None and access.may(Right.HOST) and kind == "job" and not store().job(number).workspace_id:
        return  # it is about the host
    try:
        access.own_workspace(store().job(number).workspace_id if kind == "job" else number)
    except NotFound:
        raise NotFound(_("There is nothing at this address, or it is not yours to see.")) from None


async def _follow(watching: Watching, name: str, topics: Iterable[str], since: str, stream: Stream) -> None:
    follower = await watching.follow(name, topics)
    left = asyncio.create_task(_wake(stream.gone, follower.wake))
    try:
        version = watching.version()
        await stream.event("hello", version)
        if since != version:  # something happened since the page was made
            follower.changed.update(topics)
            follower.wake.set()
        while not stream.gone.is_set():
            changed, ask = await follower.news(BEAT_SECONDS)
            if ask and not await stream.allowed():
                await stream.event("over")
                return
            for topic in sorted(changed):
                await stream.event("changed", topic)
            if not changed:
                await stream.write(":\n\n")
    finally:
        left.cancel()
        watching.leave(follower)


async def _wake(gone: asyncio.Event, wake: asyncio.Event) -> None:
    await gone.wait()
    wake.set()
