"""The web application and a real gateway over one state directory, for terminals in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask.testing import FlaskClient
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.support.gateway import GatewayStage, memory_stage
from tests.support.serving import in_a_thread
from tests.support.web import Browser, make_settings
from webadmin import create_app
from webadmin.server import Server
from workspaces.settings import Settings


@dataclass
class WebGate:
    """Both, with the address of the pages."""

    stage: GatewayStage
    settings: Settings
    server: Server
    browser: Browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def sign_in(self, name: str, password: str) -> Browser:
        browser = Browser(self.browser.client.application)
        assert browser.sign_in(name, password).status_code == 302
        return browser

    def cookie(self, client: FlaskClient) -> str:
        found = client.get_cookie(client.application.config["SESSION_COOKIE_NAME"])
        assert found is not None
        return f"{found.key}={found.value}"

    def socket(self, browser: Browser | None, workspace_id: int, origin: str | None = "") -> ClientConnection:
        """A websocket as the page opens one; `origin` is this site's unless another or None is given."""
        return connect(
            f"{self.url.replace('http', 'ws')}/me/workspaces/{workspace_id}/terminal/socket",
            origin=None if origin is None else Origin(origin or self.url),
            additional_headers={"Cookie": self.cookie(browser.client)} if browser else {},
            compression=None,
            max_queue=None,
            legacy=True,
        )


@contextmanager
def web_gate(home: Path) -> Iterator[WebGate]:
    """A gateway over the in-memory engine and the pages, served."""
    with memory_stage(home) as stage:
        settings = make_settings(home, gateway=stage.port)
        app = create_app(settings, stage.store)
        server = Server(app, settings)
        with in_a_thread(server):
            yield WebGate(stage, settings, server, Browser(app))
