"""Answers that last: a view looks who asks and for what, and hands the connection to a coroutine.

    @bp.get("/live")                          @bp.get("/…/socket")
    def live():                               def terminal_socket(…):
        …rights…                                  …rights…
        return stream(follow)                     return socket(talk)

    async def follow(stream: Stream): …       async def talk(socket: Socket): …

The view does nothing but look: it runs again whenever `allowed()` is asked, with AGAIN in its environment. Without
uvicorn (a test's client) the answer is empty, 200 or 426.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from flask import Response, current_app, request
from flask_login import current_user

KEY = "workspaces.handover"
WHO = "workspaces.who"  # the sign-in by which the connection came
# Has WHO, in the environ of a request that only asks whether it would be answered now: by that sign-in, if it is there
# still, since the browser may show another token by now. It is no sign that somebody is there.
AGAIN = "workspaces.again"
Allowed = Callable[[], Awaitable[bool]]
Message = dict[str, Any]


class Gone(Exception):
    """The other side has left, or this one ends."""


class Stream:
    """An answer that is written piece by piece. Raises Gone where it has no reader any more."""

    def __init__(self, send: Callable[[Message], Awaitable[None]], gone: asyncio.Event, allowed: Allowed) -> None:
        self._send, self.gone, self.allowed = send, gone, allowed

    async def write(self, data: str) -> None:
        """Returns when there is room for more."""
        if self.gone.is_set():
            raise Gone
        await self._send({"type": "http.response.body", "body": data.encode(), "more_body": True})

    async def pause(self, seconds: float) -> None:
        """Returns after so many seconds, or as soon as there is no reader any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.gone.wait()

    async def event(self, name: str, data: str = "", number: str = "") -> None:
        """A server-sent event; none of them may have a line break."""
        assert "\n" not in f"{name}{data}{number}"
        first = f"id: {number}\n" if number else ""
        await self.write(f"{first}event: {name}\ndata: {data}\n\n")


class Socket:
    """A websocket. Messages are bounded by the server; `receive` and `send` raise Gone."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        allowed: Allowed,
        address: str,
    ) -> None:
        self._receive, self._send, self.allowed, self.address = receive, send, allowed, address
        self._closed = False

    async def receive(self) -> bytes | str:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._closed = True
            raise Gone
        data = message.get("bytes")
        return str(message["text"]) if data is None else bytes(data)

    async def send(self, data: bytes | str) -> None:
        """Returns when there is room for more."""
        if self._closed:
            raise Gone
        kind = "text" if isinstance(data, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: data})
        except (OSError, RuntimeError) as exc:  # uvicorn's ClientDisconnected is an OSError
            self._closed = True
            raise Gone from exc

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """`reason` has at most 123 bytes."""
        if not self._closed:
            self._closed = True
            try:
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            except (OSError, RuntimeError):
                return


def stream(handler: Callable[[Stream], Awaitable[None]], mimetype: str = "text/event-stream") -> Response:
    """The answer of a view whose connection `handler` goes on with."""
    _hand_over(handler)
    response = Response(iter(()), mimetype=mimetype)  # of no known length
    response.headers["X-Accel-Buffering"] = "no"  # for a proxy that collects answers
    return response


def socket(handler: Callable[[Socket], Awaitable[None]]) -> Response:
    """The answer of a view that is the beginning of a websocket; to anything else it says so."""
    _hand_over(handler)
    return Response("This address takes websockets only.\n", 426, {"Upgrade": "websocket"}, mimetype="text/plain")


def _hand_over(handler: Callable[..., Awaitable[None]]) -> None:
    sign_in = getattr(current_user, "sign_in", None) if hasattr(current_app, "login_manager") else None
    request.environ[KEY] = handler
    request.environ[WHO] = None if sign_in is None else sign_in.id
