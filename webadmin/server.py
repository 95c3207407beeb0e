"""Serves the application with waitress until SIGTERM or SIGINT, then lets running requests end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from waitress.server import create_server

from webadmin.app import create_app
from workspaces.errors import HostError
from workspaces.settings import Settings
from workspaces.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

THREADS = 8
STALLED_SECONDS = 120.0  # without a byte taken; whoever reads a long answer so slowly holds a thread
BODY_MAX = 1 << 20  # bytes; the application answers with a page far below, this bounds what is ever read
Ready = Callable[[str, int], None]


class PublicAddress:
    """Behind a proxy, what the browser typed is the configured address, whatever Host the proxy sends."""

    def __init__(self, app: WSGIApplication, url: str) -> None:
        parts = urlsplit(url)
        self._app = app
        self._scheme, self._host, self._path = parts.scheme, parts.netloc, parts.path.rstrip("/")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.url_scheme"] = self._scheme
        environ["HTTP_HOST"] = self._host
        environ["SCRIPT_NAME"] = self._path
        return self._app(environ, start_response)


def make_server(settings: Settings, store: Store) -> Any:
    """A waitress server bound to `[web] listen`; its `run()` serves. Raises HostError when the port is taken."""
    app: WSGIApplication = create_app(settings, store)
    options: dict[str, Any] = {"clear_untrusted_proxy_headers": True}
    if settings.web_url:
        app = PublicAddress(app, settings.web_url)
        # With a public address set, only the proxy reaches the port; it tells who the visitor is.
        options |= {"trusted_proxy": "*", "trusted_proxy_count": 1, "trusted_proxy_headers": {"x-forwarded-for"}}
    host, port = settings.web_listen
    parts: dict[int, Any] = {}
    try:
        server = create_server(
            app,
            map=parts,
            host=host,
            port=port,
            threads=THREADS,
            ident=None,
            max_request_body_size=BODY_MAX,
            channel_timeout=60,
            **options,
        )
    except OSError as exc:
        raise HostError(f"The web application cannot listen on {host}:{port}: {exc.strerror}.") from exc
    for part in parts.values():
        if getattr(part, "accepting", False):  # the connections that it accepts have it too
            part.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALLED_SECONDS * 1000))
    return server


def main(settings: Settings, store: Store, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with address and port once requests are taken."""
    server = make_server(settings, store)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
    host, port = server.effective_listen[0] if hasattr(server, "effective_listen") else _bound(server)
    log.info("web application on http://%s:%d", host, port)
    if ready is not None:
        ready(host, port)
    server.run()  # returns after SystemExit, when its threads have ended
    server.close()


def _bound(server: Any) -> tuple[str, int]:
    return server.effective_host, int(server.effective_port)


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)
