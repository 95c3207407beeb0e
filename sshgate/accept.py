"""Listens on the gateway's address, lets in as many as the keeper allows, and hands each to whoever takes it.

kernel's queue ──► accept ──► Keeper.enter ──► hand(socket, number)
                                 └─ one too many ──► closed, before anything else is spent on it
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from sshgate.keeper import Keeper
from workspaces.errors import HostError

log = logging.getLogger(__name__)

BACKLOG = 512
AT_ONCE = 64  # connections accepted in one turn of the loop
PAUSE_SECONDS = 1.0  # when there are no descriptors left

Hand = Callable[[socket.socket, int], None]
"""Gets a socket, which is its own from then on, and the number of the connection."""


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host`. Raises HostError with the remedy."""
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in made:
            sock.close()
        raise HostError(
            f"The gateway cannot listen on {host}:{port}: {error.strerror}.",
            "Set another address: [gateway] listen in workspaces.toml",
        ) from error
    return made


class Acceptor:
    """Accepts on `sockets`, which are its own, while it is not paused."""

    def __init__(self, sockets: Sequence[socket.socket], keeper: Keeper, hand: Hand) -> None:
        self.sockets = list(sockets)
        self._keeper = keeper
        self._hand = hand
        self._loop = asyncio.get_running_loop()
        self._going = False
        self._short: asyncio.TimerHandle | None = None
        for sock in self.sockets:
            sock.setblocking(False)

    def resume(self) -> None:
        """Accept, also those who came meanwhile."""
        if not self._going and self.sockets:
            self._going = True
            for sock in self.sockets:
                self._loop.add_reader(sock, self._accept, sock)

    def pause(self) -> None:
        """Let whoever comes wait in the kernel's queue."""
        if self._short:
            self._short.cancel()
            self._short = None
        if self._going:
            self._going = False
            for sock in self.sockets:
                self._loop.remove_reader(sock)

    def close(self) -> None:
        """Refuse whoever comes."""
        self.pause()
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if not self._going:
                return
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("no connection can be accepted for a moment: %s", error.strerror)
                self.pause()
                self._short = self._loop.call_later(PAUSE_SECONDS, self.resume)
                return
            number = self._keeper.enter(str(address[0]))
            if number is None:
                with suppress(OSError):
                    sock.close()
            else:
                sock.setblocking(False)
                self._hand(sock, number)
