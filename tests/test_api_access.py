"""Who may do what through the API: every operation × every role; and that no cookie opens any.

The rows of tests/support/matrixapi.py are compared with the operations: a new one without a row fails.
"""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.api import program
from tests.support.matrixapi import OPERATIONS as ROWS
from tests.support.matrixapi import Row
from tests.support.sample import public_key
from tests.support.web import Web
from tests.test_web_access import fresh, template, web
from webadmin.api import routes
from webadmin.api.operations import OPERATIONS, Operation

pytestmark = pytest.mark.slow

BY_NAME = {operation.name: operation for operation in OPERATIONS}
LISTS = ("/workspaces", "/snapshots", "/jobs", "/sessions", "/challenges")


def _path(web: Web, operation: Operation, row: Row) -> str:
    """Its address about alice's things, or bob's account."""
    values = {
        "workspace_id": web.workspace_id("alice"),
        "snapshot_id": web.store.snapshots(workspace_id=web.workspace_id(row.state))[0].id,
        "job_id": next(j.id for j in web.store.jobs() if j.kind in ("start", "stop") and j.state == row.job),
        "session_id": web.store.sessions(user="alice")[0].id,
        "token_id": next(token.id for token in web.store.tokens("alice") if token.name == "program"),
        "key_id": web.store.keys("alice")[0].id,
        "sign_in_id": web.store.sign_ins("alice")[0].id,
        "identity_id": web.store.identities("alice")[0].id,
        "announcement_id": 1,
        "name": row.account,
        "challenge": "als",
        "slug": "als",
        "freeze_id": web.store.freezes("als")[0].id,
    }
    return (operation.path + row.query).format(**values)


def _body(row: Row, who: str) -> dict[str, object] | None:
    """With a key of one's own where one is to be filled in."""
    return {name: public_key(who)[1] if value == "{key}" else value for name, value in row.body.items()} or None


def _contents(web: Web) -> list[str]:
    """All that is in the store, but that tokens are there and were used."""
    lines = web.store._db().conn.iterdump()
    return [line for line in lines if "tokens" not in line and "token.added" not in line]


@pytest.mark.parametrize("name", ROWS)
def test_each_operation_for_each_role(fresh: Callable[[], Web], name: str) -> None:
    operation, row = BY_NAME[name], ROWS[name]
    web = fresh()
    path = _path(web, operation, row)
    assert program(web, None).ask(operation.method, path, row.body or None).status_code == 401
    # Who changes something gets a host of his own, as the first would leave nothing to do for the second.
    changed = False
    for who, expected in sorted(row.outcomes().items(), key=lambda pair: pair[1] < 300):
        writes = operation.writes or row.noted
        done = expected < 300 and writes
        web = fresh() if done and changed else web
        changed = changed or done
        asks = program(web, who)
        before = _contents(web)
        answer = asks.ask(operation.method, path, _body(row, who))
        assert answer.status_code == expected, (who, answer.text)
        if expected >= 300 or not writes:
            assert _contents(web) == before, f"{who} changed something"


def test_every_operation_has_a_row(web: Web) -> None:
    assert set(BY_NAME) == set(ROWS)
    known = {f"api.{name}" for name in BY_NAME} | {"api.openapi", "api.docs"}
    assert {rule.endpoint for rule in web.app.url_map.iter_rules() if rule.endpoint.startswith("api.")} == known
    assert routes.MODULES


def test_a_cookie_opens_nothing(web: Web) -> None:
    chief = web.browser("chief")
    token, before = chief.token(), _contents(web)
    for name, row in ROWS.items():
        operation = BY_NAME[name]
        path = "/api/v1" + _path(web, operation, row)
        for headers in ({}, {"X-CSRFToken": token}):
            answer = chief.client.open(path, method=operation.method, headers=headers, json=row.body or None)
            assert answer.status_code == 401, name
    assert _contents(web) == before


def test_lists_hold_nothing_of_other_challenges(web: Web) -> None:
    for path in LISTS:
        assert '"als' in program(web, "ada").get(path).text, path
        assert '"als' not in program(web, "otto").get(path).text, path
        assert "als/bob" not in program(web, "alice").get(path).text, path


def test_what_is_not_ones_own_is_not_told_from_what_is_not_there(web: Web) -> None:
    bob = program(web, "bob")
    for name, row in ROWS.items():
        operation = BY_NAME[name]
        if row.outcomes()["bob"] != 404 or "_id}" not in operation.path:
            continue
        texts = []
        for path in (_path(web, operation, row), operation.path.format_map(_Nowhere()) + row.query):
            answer = bob.ask(operation.method, path.format_map(_Nowhere()), row.body or None)
            found = answer.get_json()
            texts.append((answer.status_code, found["detail"], found.get("hint")))
        assert texts[0] == texts[1], name


class _Nowhere(dict[str, object]):
    def __missing__(self, name: str) -> object:
        return 99_999 if name.endswith("_id") else "bob"
