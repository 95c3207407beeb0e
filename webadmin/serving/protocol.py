"""uvicorn's connections, with what a public server needs and uvicorn lacks: deadlines, and how many there may be.

a request, head and body     must be there REQUEST_SECONDS after it began, or after the connection was made
between two requests         KEEP_SECONDS (uvicorn's own)
a reader that takes nothing  is cut off by the kernel (TCP_USER_TIMEOUT, server.py)
one that takes too little    SLOW_SECONDS, and one more for each SLOW_RATE of what waits for him
what waits for all readers   UNSENT_MAX; who has most loses the oldest
one connection too many      takes the place of one that waits for a request, of the network that has most
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cached_property
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from workspaces.throttle import network

REQUEST_SECONDS = 60.0
KEEP_SECONDS = 15
SLOW_SECONDS = 60.0
SLOW_RATE = 8 << 10  # bytes a second
UNSENT_MAX = 128 << 20  # bytes
HEAD_MAX = 32 << 10  # bytes of a request's line and headers
MESSAGE_MAX = 64 << 10  # bytes of a websocket's message


class Protocol(H11Protocol):
    """A connection, until it becomes a websocket. `connections_max` is set by the server."""

    connections_max = 4096
    unsent: ClassVar[dict[Protocol, int]] = {}  # bytes that wait for slow readers, the oldest first

    _deadline: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.connections_max and not self._make_room():
            self._refused = True
            transport.abort()
            return
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._has_room()
        if not self._refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY or (self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]):
            self._await_request()
        else:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        self._has_room()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        self._has_room()
        self._slow = self.loop.call_later(SLOW_SECONDS + size / SLOW_RATE, self.transport.abort)
        self.unsent[self] = size
        while sum(self.unsent.values()) > UNSENT_MAX:
            networks = Counter[str]()
            for one, waiting in self.unsent.items():
                networks[one.network] += waiting
            most = networks.most_common(1)[0][0]
            spared = next(one for one in self.unsent if one.network == most)
            spared._has_room()
            spared.transport.abort()

    def resume_writing(self) -> None:
        self._has_room()
        super().resume_writing()

    @property
    def waits(self) -> bool:
        """Whether no request is being answered, or the rest of one has yet to come."""
        return self.cycle is None or self.cycle.response_complete or self._deadline is not None

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.transport.abort()

    def _has_room(self) -> None:
        """Nothing waits for the reader any more."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self.unsent.pop(self, None)

    def _make_room(self) -> bool:
        """End the connection that can best be spared; False when all are in use."""
        waiting = [one for one in self.connections if isinstance(one, Protocol) and one.waits]
        if not waiting:
            return False
        most = Counter(one.network for one in waiting).most_common(1)[0][0]
        spared = next(one for one in waiting if one.network == most)
        self.connections.discard(spared)
        spared.transport.abort()
        return True

    @cached_property
    def network(self) -> str:
        """Of the client, or of the proxy."""
        return network(str(self.client[0])) if self.client else "?"


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's, which breaks on some of what breaks the protocol, and waits for ever after a head it cannot read."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():  # all of its head was there
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > MESSAGE_MAX:  # it asks, and takes no answers
            self.transport.abort()
        else:
            super().handle_ping()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1002, "reason": None})
        self.close_sent = True
        self.transport.abort()


def options() -> dict[str, Any]:
    """What uvicorn is told for them."""
    return {
        "http": cast(Any, Protocol),
        "ws": cast(Any, WebSocket),
        "h11_max_incomplete_event_size": HEAD_MAX,
        "timeout_keep_alive": KEEP_SECONDS,
        "ws_max_size": MESSAGE_MAX,
        "ws_per_message_deflate": False,  # terminals' bytes would be compressed for each person
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
    }
