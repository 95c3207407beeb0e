"""One end of the socket pair between the gateway's coordinator and a worker.

    send(do="sessions", n=7, count=1) ──► what was said in one turn of the loop is one packet, a JSON list ──► handle
    send(do="connection", n=8, fd=…)  ──► a packet of its own, with a descriptor

Each packet wakes a process, which costs more than what is in it; so news that can wait for 20 ms are sent with the next
that cannot. Packets keep their borders and their order, so a process that replaces itself finds no half message.
Both ends are this program, of two versions perhaps during a takeover: what an end does not know it ignores.
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
LAZY_SECONDS = 0.02

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
        self._said: list[bytes] = []  # messages of the next packet
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._queue: deque[tuple[bytes, list[int]]] = deque()  # packets that the other end had no room for
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False
        self.taken = 0  # packets, ever
        self._loop.add_reader(sock, self._readable)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, *, fd: int | None = None, lazy: bool = False, **message: Any) -> None:
        """Never waits; `fd` must stay open until the other end says that it has it. Nothing happens when it is gone.

        `lazy`: it is enough if the other end knows in 20 ms. Messages keep their order all the same.
        """
        if self.closed:
            return
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
        if fd is not None:
            self.flush()
            self._transmit(b"[%b]" % text, [fd])
            return
        self._said.append(text)
        if lazy:
            if self._soon is None and self._later is None:
                self._later = self._loop.call_later(LAZY_SECONDS, self.flush)
        elif self._soon is None:
            self._soon = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what was said."""
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None
        said, self._said = self._said, []
        while said and not self.closed:
            size, count = 0, 0
            while count < len(said) and (count == 0 or size + len(said[count]) < PACKET_MAX // 2):
                size += len(said[count])
                count += 1
            self._transmit(b"[%b]" % b",".join(said[:count]), [])
            del said[:count]

    def _transmit(self, packet: bytes, fds: list[int]) -> None:
        if self._queue or not self._put(packet, fds):
            if not self._queue:
                self._loop.add_writer(self._socket, self._writable)
            self._queue.append((packet, fds))
            self._empty.clear()

    def _put(self, packet: bytes, fds: list[int]) -> bool:
        try:
            if fds:
                socket.send_fds(self._socket, [packet], fds, socket.MSG_NOSIGNAL)
            else:
                self._socket.send(packet, socket.MSG_NOSIGNAL)
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
        for message in json.loads(packet):
            try:
                self._handle(message, list(fds))
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
        """Send what was said, and wait until the other end has room for all."""
        self.flush()
        await self._empty.wait()

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self._empty.set()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
