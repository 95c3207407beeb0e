"""Fragments that an open page fetches again: same markup as in the page, with an ETag.

`static/app.js` fetches each `data-live` address with the header X-Fragment, and patches what differs: when the event
stream says that its `data-topic` has changed (following.py), or now and then while there is none. A tag has two halves:
what the markup was made from (the store's version, the minute, the session), and a digest of the markup.

    first half the same             ─► 304, without a look at the store
    first half new, markup the same ─► 304, with the new tag
    else                            ─► the markup

The answer says how much of the processor's time it took. The script asks again after 150 times as long at the
soonest, so that an open page costs less than one per cent of a core, however much happens.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from flask import Response, g, request
from flask import session as cookie
from flask_wtf.csrf import generate_csrf

from webadmin import session
from webadmin.context import parts

HEADER = session.FRAGMENT
AROUND = 0.002  # seconds that an answer takes the server outside of the application


def note_time() -> None:
    """Keep how much time this thread had taken when the request came."""
    g.thread_time = time.thread_time()


def wanted() -> bool:
    """Whether the request is a page's poll."""
    return HEADER in request.headers


def fragment(render: Callable[[], str]) -> Response:
    """What `render` makes as an answer to a poll: 304 when the page has exactly this."""
    response = _fragment(render)
    spent = time.thread_time() - g.thread_time + AROUND
    response.headers["Server-Timing"] = f"cpu;dur={spent * 1000:.1f}"
    return response


def _fragment(render: Callable[[], str]) -> Response:
    token = generate_csrf()
    # Times are shown to the minute. Another session needs other CSRF tokens in the forms.
    session_now = _digest(f"{session.me().get_id()} {cookie['csrf_token']}")
    origin = f"{parts().watching.version()}-{int(time.time() // 60)}-{session_now}"
    known = request.if_none_match.to_header().strip('"')
    if known.startswith(f"{origin}."):
        return _unchanged(known)
    html = render()
    # The token is signed anew at each request; that is no news.
    markup = _digest(session_now + html.replace(token, ""))
    tag = f"{origin}.{markup}"
    if known.endswith(f".{markup}"):
        return _unchanged(tag)
    response = Response(html)
    response.set_etag(tag)
    return response


def _unchanged(tag: str) -> Response:
    response = Response(status=304)
    response.set_etag(tag)
    return response


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
