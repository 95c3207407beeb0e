"""Programs that use the API in tests: a token for whoever is asked for, over the test client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.web import Web
from workspaces import apitokens
from workspaces.rights import Rights
from workspaces.scopes import Scope, offered

BASE = "/api/v1"


@dataclass
class Program:
    """One that shows a token with each request; None: none."""

    client: FlaskClient
    secret: str | None

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> TestResponse:
        """`headers` are named with underscores."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret is not None:
            said.setdefault("Authorization", f"Bearer {self.secret}")
        options: dict[str, Any] = {} if body is None else {"json": body}
        return self.client.open(path if path.startswith("/") and "/api/" in path else BASE + path, method=method,
                                headers=said, **options)  # fmt: skip

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: object = None, **headers: str) -> TestResponse:
        return self.ask("POST", path, body, **headers)


def all_scopes(rights: Rights) -> list[Scope]:
    """What is offered to somebody."""
    return offered(rights)


def program(web: Web, name: str | None, *scopes: str, days: int = 30) -> Program:
    """A program of `name`, with all the scopes that it can have, or those that are named; or one without a token."""
    if name is None:
        return Program(web.app.test_client(), None)
    wanted = scopes or all_scopes(web.store.rights_of(name))
    _, secret = apitokens.make(web.store, name, "a test", wanted, days, actor="test")
    return Program(web.app.test_client(), secret)
