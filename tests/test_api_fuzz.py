"""schemathesis over the API's document: nothing that it makes up finds a 5xx, and every answer is as documented."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.web import Web, open_web
from webadmin.api import limits
from webadmin.context import Parts, attach
from workspaces import apitokens
from workspaces.model import JobKind

pytestmark = pytest.mark.slow

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


LEFT_OUT = ("end_token", "remove_my_token", "follow_events")  # what ends the test, or never ends


class _Endless(limits.Limits):
    def take(self, token_id: int, *, writes: bool) -> float:
        return 0.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Web, dict[str, str]]]:
    """A server with one of each thing, and what an administrator's program shows."""
    web = open_web(tmp_path_factory.mktemp("state"))
    attach(web.app, Parts(web.settings, web.store, limits=_Endless()))
    web.request("alice")
    web.store.add_job(JobKind.START, web.workspace_id("bob"), actor="chief")
    web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    secret = apitokens.make(web.store, "chief", "fuzz", ["admin"], 1, actor="test")[1]
    yield web, {"Authorization": f"Bearer {secret}"}
    web.store.close()


def _try(api: tuple[Web, dict[str, str]], examples: int, phases: tuple[Phase, ...]) -> None:
    web, headers = api
    schema: Any = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", web.app)
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] in LEFT_OUT:
            continue

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @_given(operation)  # type: ignore[untyped-decorator]
        def check(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        check()
        tried += 1
    assert tried > 40
    assert web.app.test_client().get("/api/v1/me", headers=headers).status_code == 200, "else all was 401"


def _given(operation: Any) -> Any:
    from hypothesis import given, strategies

    modes = schemathesis.GenerationMode
    both = strategies.one_of(
        operation.as_strategy(generation_mode=modes.POSITIVE), operation.as_strategy(generation_mode=modes.NEGATIVE)
    )
    return given(case=both)


def test_nothing_made_up_breaks_it(api: tuple[Web, dict[str, str]]) -> None:
    _try(api, 4, (Phase.generate,))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nothing_made_up_for_long_breaks_it(api: tuple[Web, dict[str, str]]) -> None:
    _try(api, 200, (Phase.explicit, Phase.generate))


def test_hostile_words_stay_words(api: tuple[Web, dict[str, str]], tmp_path: Path) -> None:
    web, headers = api
    client = web.app.test_client()
    workspace = web.workspace_id("bob")
    for text in (
        "<script>alert(1)</script>",
        '"; DROP TABLE users; --',
        "\u202egnp.exe",
        "a" * 1000,
        "{{ 7 * 7 }}",
        "%s",
    ):
        path = f"/api/v1/workspaces/{workspace}/snapshots"
        asked = client.post(path, json={"message": text}, headers=headers)
        assert asked.status_code == 201, asked.text
        assert asked.get_json()["message"] == text
        number = asked.get_json()["id"]
        assert client.post(f"/api/v1/snapshots/{number}/withdraw", headers=headers).status_code == 200
        for path in ("workspaces", "snapshots", "jobs", "sessions", "audit", "users"):
            answer = client.get(f"/api/v1/{path}", query_string={"q": text}, headers=headers)
            assert answer.status_code in (200, 422), (path, text)
    for path in (
        "users/..%2F..%2Fetc",
        "users/%00",
        "users/" + "a" * 5000,
        "challenges/%F0%9F%98%80",
        "jobs/-1",
        "jobs/1e3",
    ):
        assert client.get(f"/api/v1/{path}", headers=headers).status_code == 404
