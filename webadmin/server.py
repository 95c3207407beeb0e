"""Serves the application with uvicorn until SIGTERM or SIGINT, then lets running requests end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from flask import Flask

from webadmin.app import create_app
from webadmin.serving.bridge import Bridge
from webadmin.serving.protocol import Protocol, options
from workspaces.errors import HostError
from workspaces.settings import Settings
from workspaces.store import Store

log = logging.getLogger(__name__)

STALLED_SECONDS = 120.0  # without a byte taken; who takes some, but too few, is protocol.py's
END_SECONDS = 10  # for running requests, when the server is to end
APART = ("/login",)  # where people wait for their turn: see auth.py
BACKLOG = 512
CONNECTIONS_MAX = 4096
DESCRIPTORS_ELSE = 256  # for the store, terminals and what Python opens
Ready = Callable[[str, int], None]


class Server(uvicorn.Server):
    """A server of `app` bound to `[web] listen`; `run()` serves until `stop()`. Raises HostError for a taken port."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.bridge = Bridge(app, settings.web_url, APART)
        super().__init__(
            uvicorn.Config(
                self.bridge,
                loop="asyncio",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                log_level="critical",  # what it calls errors are a client's; the bridge tells of ours
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=END_SECONDS,
                **options(),
            )
        )
        host, port = settings.web_listen
        try:
            self._sockets = list(_listen(host, port))
        except OSError as exc:
            why = exc.strerror or str(exc)
            raise HostError(f"The web application cannot listen on {host}:{port}: {why}.") from exc
        self.address: tuple[str, int] = self._sockets[0].getsockname()[:2]
        self._ready: Ready | None = None

    @property
    def port(self) -> int:
        return self.address[1]

    def serve_until_stopped(self, ready: Ready | None = None) -> None:
        """Serve. `ready` is called with address and port once requests are taken."""
        self._ready = ready
        Protocol.connections_max = min(CONNECTIONS_MAX, _descriptors() - DESCRIPTORS_ELSE)
        try:
            asyncio.run(self.serve(self._sockets))
        finally:
            self.bridge.close()

    def stop(self, *_: object) -> None:
        """May be called from any thread, or as a signal's handler."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready(*self.address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.bridge.end_lasting()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As `main` does; uvicorn would end by the signal, with its status."""
        before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_server(settings: Settings, store: Store) -> Server:
    """A server of the application over `store`. Raises HostError when the port is taken."""
    return Server(create_app(settings, store), settings)


def main(settings: Settings, store: Store, ready: Ready | None = None, app: Flask | None = None) -> None:
    """Serve until SIGTERM or SIGINT, this application or another one. `ready` is called with address and port once
    requests are taken."""
    server = Server(app, settings) if app else make_server(settings, store)
    # What is there now stays: modules, routes, parts of templates. To walk through it again and again for garbage
    # would hold up everybody for 80 ms, now and then.
    gc.collect()
    gc.freeze()
    log.info("web application on http://%s:%d", *server.address)
    server.serve_until_stopped(ready)


def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Sockets on every address of `host`; the connections that they accept have their options too."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALLED_SECONDS * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        yield sock


def _descriptors() -> int:
    """How many this process may open, after asking for as many as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + DESCRIPTORS_ELSE
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
