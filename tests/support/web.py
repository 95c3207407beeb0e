"""What tests of the web application share: an application over a small store, and clients that act like browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.quick import CheapHasher
from tests.support.sample import public_key
from webadmin import create_app
from webadmin.context import Parts, attach
from webadmin.security import session_key
from workspaces.model import Limits, Mount, Network, Role
from workspaces.settings import Settings
from workspaces.store import Store

PASSWORD = "correct horse"
CHEAP_HASH = CheapHasher().hash(PASSWORD)


def make_settings(home: Path, web_url: str = "", port: int = 0, gateway: int = 2222) -> Settings:
    for name in ("keys", "locks"):
        (home / name).mkdir(exist_ok=True)
    return Settings(
        home=home,
        gateway_listen=("127.0.0.1", gateway),
        gateway_host="gate.example.org",
        web_listen=("127.0.0.1", port),
        web_url=web_url,
        engine_host="",
        archive_dir=home / "archive",
    )


def fill_small(store: Store) -> None:
    """chief (admin); alice and bob with a workspace each in challenge als; key of alice."""
    store.add_user("chief", Role.ADMIN, CHEAP_HASH, actor="test")
    store.add_challenge(
        "als", "base:1", Limits(), Network.OPEN, (Mount("/srv", "/data"),), "root", None, None, actor="test"
    )
    for name in ("alice", "bob"):
        store.add_user(name, Role.PARTICIPANT, CHEAP_HASH, actor="test")
        store.add_workspace("als", name, [name], actor="test")
    store.add_key("alice", *public_key("alice@laptop"), actor="test")


class Browser:
    """One person's browser without JavaScript: keeps cookies, fills in the CSRF token, follows redirects if asked."""

    def __init__(self, app: Flask, **environ: str) -> None:
        self.client: FlaskClient = app.test_client()
        self.environ = environ

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, environ_base=self.environ, **options)

    def token(self) -> str:
        """The CSRF token of any page with a form."""
        for path in ("/login", "/me", "/account"):
            if found := re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text):
                return unescape(found[1])
        raise AssertionError("no page has a form")

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        return self.client.post(
            path, data={"csrf_token": self.token(), **(data or {})}, environ_base=self.environ, **options
        )

    def sign_in(self, name: str, password: str = PASSWORD, **data: str) -> TestResponse:
        return self.post("/login", {"name": name, "password": password, **data})


@dataclass
class Web:
    """An application with its store, and a signed-in browser for whoever is asked for."""

    app: Flask
    store: Store
    settings: Settings

    def browser(self, name: str | None = None, **environ: str) -> Browser:
        browser = Browser(self.app, **environ)
        if name:
            assert browser.sign_in(name).status_code == 302
        return browser

    def workspace_id(self, name: str) -> int:
        return self.store.workspace(f"als/{name}").id

    def request(self, name: str, message: str = "first submission") -> int:
        """A snapshot request of `als/name`; its id."""
        return self.store.request_snapshot(self.workspace_id(name), message, actor=name, via="ssh").id


_apps: list[Flask] = []


def open_web(home: Path) -> Web:
    """An application over the store in `home`, which is filled small when it is new.

    The application is made once for all tests and then only given another store: making one compiles its templates.
    """
    settings = make_settings(home)
    new = not settings.database.exists()
    store = Store.open(settings.database)
    if new:
        fill_small(store)
    if not _apps:
        _apps.append(create_app(settings, store))
        _apps[0].testing = True
        _apps[0].config["PROPAGATE_EXCEPTIONS"] = False
    attach(_apps[0], Parts(settings, store))
    _apps[0].secret_key = session_key(settings.keys)
    return Web(_apps[0], store, settings)


@pytest.fixture(name="web")
def web_fixture(tmp_path: Path) -> Iterator[Web]:
    """A small application."""
    web = open_web(tmp_path)
    yield web
    web.store.close()
