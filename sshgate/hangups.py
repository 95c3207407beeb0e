"""Tells when the other end of a socket is gone for good, although its half of the connection had ended before.

A socket at end-of-file is readable for ever, so nobody reads it any more; what comes later is seen here. One kernel
object (epoll, edge-triggered) watches all of them and costs the event loop a single descriptor.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress


class Hangups:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        """Call once when the other end of `fd` is gone, which it may be already."""
        with suppress(OSError, ValueError):
            self._epoll.register(fd, select.EPOLLHUP | select.EPOLLET)
            self._calls[fd] = call

    def forget(self, fd: int) -> None:
        """Before `fd` is closed; nothing happens when it is not watched."""
        if self._calls.pop(fd, None) is not None:
            with suppress(OSError, ValueError):  # ValueError: the gateway is at its end
                self._epoll.unregister(fd)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            call = self._calls.get(fd)
            self.forget(fd)
            if call:
                call()
