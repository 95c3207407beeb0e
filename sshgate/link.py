"""One end of the socket pair between the gateway's coordinator and a worker.

    send(do="connection", n=7, fd=…) ──► one packet of JSON, perhaps with a descriptor ──► handle(message, descriptors)

Packets keep their borders and their order, so a process that replaces itself finds no half message. Both ends are
this program, of two versions perhaps during a takeover: what an end does not know it ignores.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

PACKET_MAX = 64 << 10  # bytes
BUFFER = 1 << 20  # bytes that may wait in the kernel for the other end
PACKETS = 64  # taken in one turn of the loop, so that others get theirs

Message = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ends


class Link:
    """Made on the event loop. `handle` gets each message and its descriptors; `lost` is called at the other's end."""

    def __init__(
        self, sock: socket.socket, handle: Callable[[Message, list[int]], None], lost: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._handle = handle
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False
        self.taken = 0  # packets, ever
        self._loop.add_reader(sock, self._readable)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, *, fd: int | None = None, **message: Any) -> None:
        """Never waits; `fd` must stay open until the other end says that it has it. Nothing happens when it is gone."""
        if self.closed:
            return
        packet = json.dumps(message, separators=(",", ":")).encode("ascii"), [] if fd is None else [fd]
        if self._queue or not self._put(*packet):
            if not self._queue:
                self._loop.add_writer(self._socket, self._writable)
            self._queue.append(packet)
            self._empty.clear()

    def _put(self, packet: bytes, fds: list[int]) -> bool:
        try:
            socket.send_fds(self._socket, [packet], fds, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            log.debug("a message was not sent: %s", error.strerror)  # the reader finds the other end gone
        return True

    def _writable(self) -> None:
        while self._queue and self._put(*self._queue[0]):
            self._queue.popleft()
        if not self._queue:
            self._loop.remove_writer(self._socket)
            self._empty.set()

    def _readable(self) -> None:
        for _ in range(PACKETS):
            if self.closed:
                return
            try:
                packet, fds, _flags, _address = socket.recv_fds(self._socket, PACKET_MAX, 1, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet, fds = b"", []
            self.taken += 1
            if not packet:
                self.close()
                self._lost()
                return
            try:
                self._handle(json.loads(packet), list(fds))
            except Exception:
                log.exception("a message was not understood")

    def finish(self) -> None:
        """Take what a process said that is dead by now, and close."""
        while not self.closed:
            before = self.taken
            self._readable()
            if self.taken == before:
                self.close()

    async def flushed(self) -> None:
        """Wait until the other end has room for all."""
        await self._empty.wait()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._empty.set()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
