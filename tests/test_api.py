"""The API: tokens, problems, parts of lists, what is done once, limits, and what each operation does."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import datetime
from typing import Any

import pytest
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from tests.support.api import program
from tests.support.sample import public_key
from tests.support.web import Web, open_web, web_fixture
from webadmin.api import limits, routes
from webadmin.api.operations import OPERATIONS
from webadmin.context import Parts, attach
from workspaces import apitokens
from workspaces.errors import Conflict, InvalidInput, NotFound, Refused
from workspaces.model import JobKind, JobState, Role
from workspaces.scopes import Scope

__all__ = ["web_fixture"]


def problem(response: TestResponse, status: int) -> dict[str, object]:
    """The problem that is answered, which has all that it must have."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    found = response.get_json()
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert found["type"].startswith("/api/v1/docs#problem-")
    assert isinstance(found, dict)
    return found


# tokens


def test_a_token_is_needed_and_cookies_are_none(web: Web) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        response = program(web, None).get("/me", **headers)
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="workspaces"'
    chief = web.browser("chief")
    assert chief.get("/api/v1/me").status_code == 401
    workspace = web.workspace_id("alice")
    assert chief.post(f"/api/v1/workspaces/{workspace}/start").status_code == 401
    assert not web.store.jobs()
    assert program(web, "chief").get("/me").get_json()["user"]["name"] == "chief"


@pytest.mark.parametrize("wrong", ["wst_" + "a" * 43, "x", "wst_", "wst_" + "ä" * 9, "wst_" + "a" * 10_000])
def test_what_is_no_token_is_refused(web: Web, wrong: str) -> None:
    response = program(web, None).get("/me", Authorization=f"Bearer {wrong.encode().decode('latin-1')}")
    problem(response, 401)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_a_token_ends_with_its_time_its_removal_and_its_owner(web: Web) -> None:
    alice = program(web, "alice")
    assert alice.get("/me").status_code == 200
    web.store.set_disabled("alice", True, actor="test")
    problem(alice.get("/me"), 401)
    web.store.set_disabled("alice", False, actor="test")
    assert alice.get("/me").status_code == 200
    with web.store._write() as db:
        db.execute("UPDATE tokens SET expires_at = ?", [time.time() - 1])
    problem(alice.get("/me"), 401)
    again = program(web, "alice")
    assert again.ask("DELETE", "/me/token").status_code == 204
    problem(again.get("/me"), 401)
    last = program(web, "alice")
    web.store.remove_user("alice", actor="test")
    problem(last.get("/me"), 401)
    assert not web.store.tokens()


def test_a_token_does_what_its_scopes_say_and_no_more_than_its_owner(web: Web) -> None:
    workspace = web.workspace_id("alice")
    reader = program(web, "chief", "read")
    assert reader.get(f"/workspaces/{workspace}").status_code == 200
    response = reader.post(f"/workspaces/{workspace}/start")
    assert "workspaces" in str(problem(response, 403)["detail"])
    assert 'error="insufficient_scope", scope="workspaces"' in response.headers["WWW-Authenticate"]
    problem(program(web, "chief", "workspaces").get("/users"), 403)
    chief = program(web, "chief", "admin")
    assert chief.get("/users").status_code == 200
    web.store.add_user("deputy", Role.ADMIN, actor="test")
    web.store.set_role("chief", Role.PARTICIPANT, actor="deputy")
    problem(chief.get("/users"), 403)  # the token has the scope still, its owner not the right
    problem(chief.get(f"/workspaces/{workspace}"), 404)


def test_making_a_token_keeps_the_rules(web: Web) -> None:
    def make(name: str = "x", scopes: list[str] | None = None, days: int = 1, user: str = "alice") -> str:
        return apitokens.make(web.store, user, name, scopes or ["read"], days, actor="test")[1]

    wrong: list[dict[str, Any]] = [
        {"days": 0},
        {"days": 367},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 61},
        {"scopes": ["everything"]},
    ]
    for values in wrong:
        with pytest.raises(InvalidInput):
            make(**values)
    for scope in ("users", "challenges", "metrics", "admin"):
        with pytest.raises(Refused):
            make(scopes=["read", scope])
    with pytest.raises(NotFound):
        make(user="nobody")
    assert web.store.tokens("alice") == []
    secret = make(scopes=["workspaces", "read", "read"])
    token = web.store.tokens("alice")[0]
    assert token.scopes == (Scope.READ, Scope.WORKSPACES)
    assert secret.startswith(token.hint)
    with sqlite3.connect(web.settings.database) as db:
        kept = "".join(db.iterdump())
    assert secret not in kept
    assert secret[10:] not in kept
    for _ in range(49):
        make()
    with pytest.raises(Conflict):
        make()


def test_tokens_on_the_account_page(web: Web) -> None:
    alice = web.browser("alice")
    page = alice.get("/account/tokens").text
    assert 'value="read"' in page
    assert 'value="users"' not in page
    answer = alice.post("/account/tokens", {"name": "<b>laptop</b>", "scope": ["read", "workspaces"], "days": "30"})
    assert answer.status_code == 200
    secret = answer.text.split('<code id="secret" tabindex="0">')[1].split("<")[0]
    assert secret.startswith("wst_")
    page = alice.get("/account/tokens").text
    assert secret not in page
    assert "&lt;b&gt;laptop&lt;/b&gt;" in page
    assert program(web, None).get("/me", Authorization=f"Bearer {secret}").status_code == 200
    for form in (
        {"scope": "read", "days": "3"},
        {"name": "x", "days": "3"},
        {"name": "x", "scope": "read", "days": "x"},
    ):
        assert alice.post("/account/tokens", form).status_code == 400
    assert alice.post("/account/tokens", {"name": "x", "scope": "admin", "days": "3"}).status_code == 403
    token = web.store.tokens("alice")[0]
    assert web.browser("bob").post(f"/account/tokens/{token.id}/remove").status_code == 404
    assert alice.post(f"/account/tokens/{token.id}/remove").status_code == 302
    problem(program(web, None).get("/me", Authorization=f"Bearer {secret}"), 401)


# problems


def test_every_error_is_a_problem(web: Web) -> None:
    chief = program(web, "chief")
    problem(chief.get("/nothing"), 404)
    response = chief.ask("PATCH", "/me")
    assert "hint" not in problem(response, 405)
    assert "GET" in response.headers["Allow"]
    problem(chief.get("/workspaces/99"), 404)
    problem(chief.get(f"/workspaces/{10**30}"), 404)
    problem(chief.get("/users/Not-a-name"), 404)
    problem(chief.post("/users", {"name": "alice"}), 409)
    path, headers = "/api/v1/users", {"Authorization": f"Bearer {chief.secret}"}
    problem(chief.client.post(path, data="{}", headers=headers), 415)
    headers["Content-Type"] = "application/json"
    problem(chief.client.post(path, data="{" * 50_000, headers=headers), 400)
    problem(chief.client.post(path, data="[" * 50_000 + "]" * 10_000, headers=headers), 400)
    problem(chief.client.post(path, data="\xff", headers=headers), 400)
    problem(chief.client.post(path, data=f'{{"name": "{"x" * 70_000}"}}', headers=headers), 413)


def test_what_breaks_a_rule_is_named(web: Web) -> None:
    chief = program(web, "chief")
    found = problem(chief.post("/users", {"name": "Ä", "role": "king", "more": 1}), 422)
    assert {error["pointer"] for error in found["errors"]} == {"#/name", "#/role", "#/more"}  # type: ignore[attr-defined]
    found = problem(chief.get("/workspaces?limit=0&wide=yes"), 422)
    assert {error["parameter"] for error in found["errors"]} == {"limit", "wide"}  # type: ignore[attr-defined]
    problem(chief.get("/workspaces?limit=1&limit=2"), 422)
    assert "wide" in str(problem(chief.get("/workspaces?q=wide:yes"), 422)["detail"])
    problem(chief.get("/me?x=1"), 422)
    workspace = web.workspace_id("alice")
    problem(chief.post(f"/workspaces/{workspace}/start", {"now": True}), 422)
    problem(chief.post(f"/workspaces/{workspace}/snapshots", {"message": "\ud800"}), 400)
    problem(chief.post(f"/workspaces/{workspace}/snapshots", {"message": "\x00"}), 422)
    assert not web.store.jobs()


def test_a_mistake_of_ours_is_a_problem_without_a_word_of_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    chief = program(web, "chief")
    monkeypatch.setattr(type(web.store), "tokens", lambda *_: 1 / 0)
    found = problem(chief.get("/me/tokens"), 500)
    assert "Zero" not in str(found)


# lists


def test_a_list_is_read_in_parts(web: Web) -> None:
    for number in range(5):
        web.store.add_workspace("als", f"w{number}", actor="test")
    chief, seen, path = program(web, "chief"), [], "/api/v1/workspaces?limit=3&q=challenge:als"
    while path:
        response = chief.get(path)
        found = response.get_json()
        seen += [item["ref"] for item in found["items"]]
        path = found["next"]
        assert response.headers.get("Link") == (f'<{path}>; rel="next"' if path else None)
    assert seen == ["als/alice", "als/bob", *(f"als/w{number}" for number in range(5))]
    assert [item["ref"] for item in chief.get("/workspaces?ref=w3").get_json()["items"]] == ["als/w3"]
    assert chief.get("/workspaces?ref=als/nobody").get_json()["items"] == []


def test_participants_see_what_is_theirs(web: Web) -> None:
    web.request("bob")
    alice = program(web, "alice")
    assert [item["ref"] for item in alice.get("/workspaces").get_json()["items"]] == ["als/alice"]
    for q in ("user:bob", '"', "user:bob -x", "challenge:als"):
        response = alice.get("/workspaces?q=" + q)
        assert response.status_code == 422 or [i["ref"] for i in response.get_json()["items"]] in ([], ["als/alice"])
    assert alice.get("/snapshots").get_json()["items"] == []
    assert [item["workspace"] for item in program(web, "bob").get("/snapshots").get_json()["items"]] == ["als/bob"]
    assert alice.get("/workspaces?ref=als/bob").get_json()["items"] == []
    problem(alice.get("/jobs"), 403)


def test_what_is_unchanged_is_not_sent_again(web: Web) -> None:
    alice, path = program(web, "alice"), f"/workspaces/{web.workspace_id('alice')}"
    tag = alice.get(path).headers["ETag"]
    assert alice.get(path, If_None_Match=tag).status_code == 304
    web.store.touch_login(web.workspace_id("alice"))
    assert alice.get(path, If_None_Match=tag).status_code == 200


# what is done once


def test_a_write_with_a_key_is_done_once(web: Web) -> None:
    alice, path = program(web, "alice"), f"/workspaces/{web.workspace_id('alice')}/snapshots"
    first = alice.post(path, {"message": "one"}, Idempotency_Key="k-1")
    again = alice.post(path, {"message": "one"}, Idempotency_Key="k-1")
    assert (first.status_code, first.get_json()) == (201, again.get_json())
    assert again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(web.store.snapshots()) == 1
    problem(alice.post(path, {"message": "two"}, Idempotency_Key="k-1"), 422)
    problem(alice.post(path, {"message": "two"}, Idempotency_Key="k-2"), 409)  # one is open: nothing was done,
    problem(alice.post(path, {"message": "two"}, Idempotency_Key="k-2"), 409)  # so it is looked at again
    for key in ("", "x" * 201, "ä"):
        problem(alice.post(path, {"message": "one"}, Idempotency_Key=key), 400)
    with web.store._write() as db:
        db.execute("UPDATE answers SET at = at - 86401")
    problem(alice.post(path, {"message": "one"}, Idempotency_Key="k-1"), 409)  # a day later it is another request


def test_a_key_is_one_tokens_own(web: Web) -> None:
    workspace = web.workspace_id("alice")
    for name in ("chief", "chief"):
        answer = program(web, name).post(f"/workspaces/{workspace}/start", Idempotency_Key="k")
        assert answer.status_code == 202
        assert "Idempotency-Replayed" not in answer.headers


def test_an_answer_survives_a_restart(web: Web) -> None:
    alice, path = program(web, "alice"), f"/workspaces/{web.workspace_id('alice')}/snapshots"
    first = alice.post(path, {"message": "one"}, Idempotency_Key="k").get_json()
    web.store.close()
    again = open_web(web.settings.home)
    try:
        alice.client = again.app.test_client()
        assert alice.post(path, {"message": "one"}, Idempotency_Key="k").get_json() == first
    finally:
        again.store.close()


def test_what_cannot_be_kept_is_not_done(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer and what it answers are one: a crash between them leaves neither."""
    alice, path = program(web, "alice"), f"/workspaces/{web.workspace_id('alice')}/snapshots"

    def fails(*_: object) -> None:
        raise OSError("the plug is pulled")

    with monkeypatch.context() as patch:
        patch.setattr(type(web.store), "keep_answer", fails)
        problem(alice.post(path, {"message": "one"}, Idempotency_Key="k"), 500)
    assert web.store.snapshots() == []
    assert alice.post(path, {"message": "one"}, Idempotency_Key="k").status_code == 201


def test_two_at_once_with_one_key_are_one(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, path = program(web, "alice"), f"/workspaces/{web.workspace_id('alice')}/snapshots"
    begun, go_on = threading.Event(), threading.Event()
    real = type(web.store).request_snapshot

    def slow(*args: object, **options: object) -> object:
        begun.set()
        assert go_on.wait(30)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(web.store), "request_snapshot", slow)
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(alice.post(path, {"message": "one"}, Idempotency_Key="k").status_code)
    )
    thread.start()
    assert begun.wait(30)
    response = alice.post(path, {"message": "one"}, Idempotency_Key="k")
    go_on.set()
    thread.join(30)
    problem(response, 409)
    assert response.headers["Retry-After"]
    assert answers == [201]
    assert len(web.store.snapshots()) == 1


# limits


def test_too_many_requests_wait_and_leave_others_alone(web: Web) -> None:
    attach(web.app, Parts(web.settings, web.store, limits=limits.Limits(lambda: 1000.0)))
    alice, bob = program(web, "alice"), program(web, "bob")
    path, body = "/me/news/read", {"up_to": 1}
    codes = [alice.post(path, body).status_code for _ in range(int(limits.WRITE.burst) + 3)]
    assert codes.count(204) == limits.WRITE.burst
    response = alice.post(path, body)
    problem(response, 429)
    assert response.headers["Retry-After"] == "1"
    assert alice.get("/me").status_code == 200
    assert bob.post(f"/workspaces/{web.workspace_id('bob')}/start").status_code == 202


def test_more_tokens_are_not_more_requests_nor_more_streams(web: Web) -> None:
    attach(web.app, Parts(web.settings, web.store, limits=limits.Limits(lambda: 1000.0)))
    path, number = "/me/news/read", web.workspace_id("alice")
    tokens = [program(web, "alice") for _ in range(3)]
    codes = [tokens[n % 3].post(path, {"up_to": 1}).status_code for n in range(int(limits.WRITE.burst) + 3)]
    assert codes.count(204) == limits.WRITE.burst
    codes = [tokens[n % 3].get("/me").status_code for n in range(int(limits.READ.burst) + 3)]
    assert codes.count(200) == limits.READ.burst
    counted = limits.Limits()
    attach(web.app, Parts(web.settings, web.store, limits=counted))
    for _ in range(limits.STREAMS):
        counted.open_stream(web.store.user("alice").id)
    for token in tokens:
        problem(token.get(f"/events?workspace={number}"), 429)
    assert program(web, "bob").get(f"/events?workspace={web.workspace_id('bob')}").status_code == 200


def test_wrong_tokens_are_limited_and_right_ones_from_there_are_not(web: Web) -> None:
    nobody = program(web, None)
    codes = [
        nobody.get("/me", Authorization="Bearer wst_wrong").status_code for _ in range(int(limits.WRONG.burst) + 5)
    ]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert program(web, "alice").get("/me").status_code == 200


# what operations do


def test_a_snapshot_from_request_to_decision(web: Web) -> None:
    alice, chief = program(web, "alice"), program(web, "chief")
    workspace = web.workspace_id("alice")
    asked = alice.post(f"/workspaces/{workspace}/snapshots", {"message": "v1", "cmd": "python run.py"}).get_json()
    assert (asked["state"], asked["command"]["cmd"]) == ("requested", ["/bin/sh", "-c", "python run.py"])
    assert datetime.fromisoformat(asked["requested_at"]).tzinfo is not None
    number = asked["id"]
    problem(alice.post(f"/snapshots/{number}/approve"), 403)
    problem(chief.post(f"/snapshots/{number}/reject", {"reason": ""}), 422)
    problem(chief.get(f"/snapshots/{number}/changes"), 404)
    assert chief.post(f"/snapshots/{number}/reject", {"reason": "too big"}).get_json()["state"] == "rejected"
    assert alice.get(f"/snapshots/{number}").get_json()["reason"] == "too big"
    second = alice.post(f"/workspaces/{workspace}/snapshots", {"message": "v1"}).get_json()["id"]
    job = chief.post(f"/snapshots/{second}/approve")
    assert (job.status_code, job.get_json()["kind"]) == (202, "commit")
    problem(chief.post(f"/snapshots/{second}/approve"), 409)
    assert alice.get(f"/jobs/{job.get_json()['id']}").status_code == 200
    problem(alice.post(f"/jobs/{job.get_json()['id']}/cancel"), 403)
    problem(program(web, "bob").get(f"/jobs/{job.get_json()['id']}"), 404)
    cancelled = chief.post(f"/jobs/{job.get_json()['id']}/cancel").get_json()
    assert cancelled["state"] == JobState.CANCELLED
    assert "chief" in chief.get(f"/jobs/{cancelled['id']}/log").get_json()["items"][-1]["line"]


def test_what_loses_something_must_be_confirmed(web: Web) -> None:
    chief, workspace = program(web, "chief"), web.workspace_id("alice")
    for body in ({}, {"confirm": "als/bob"}):
        assert chief.post(f"/workspaces/{workspace}/reset", body).status_code in (403, 422)
    assert not web.store.jobs()
    job = chief.post(f"/workspaces/{workspace}/reset", {"confirm": "als/alice"}).get_json()
    assert job["kind"] == JobKind.RESET


def test_people_and_roles(web: Web) -> None:
    chief, users = program(web, "chief"), program(web, "chief", "read", "users")
    made = chief.post("/users", {"name": "carla", "challenge": "als", "key": public_key("carla@laptop")[1],
                                 "email": "carla@example.org"})  # fmt: skip
    assert made.status_code == 201, made.text
    assert made.get_json()["workspaces"] == ["als/carla"]
    assert made.get_json()["keys"][0]["user"] == "carla"
    problem(users.post("/users", {"name": "dora", "role": "admin"}), 403)
    problem(users.ask("PUT", "/users/carla/role", {"role": "admin"}), 403)
    assert chief.ask("PUT", "/users/carla/role", {"role": "reviewer"}).get_json()["role"] == "reviewer"
    problem(chief.ask("PUT", "/users/chief/role", {"role": "participant"}), 409)
    assert chief.ask("PUT", "/users/bob/roles/als", {"role": "reviewer"}).get_json()["challenges"] == {
        "als": "reviewer"
    }
    assert chief.ask("DELETE", "/users/bob/roles/als").get_json()["challenges"] == {}
    assert chief.post("/users/bob/disable").get_json()["disabled"]
    assert not chief.post("/users/bob/enable").get_json()["disabled"]
    problem(chief.post("/users/chief/disable"), 409)
    problem(chief.post("/users", {"name": "eve", "challenge": "nothing"}), 404)
    assert web.store.find_user("eve") is None
    lines = {item["name"]: item for item in chief.get("/users").get_json()["items"]}
    assert lines["carla"]["keys"] == 1
    assert lines["carla"]["workspaces"] == ["als/carla"]


def test_challenges(web: Web) -> None:
    chief = program(web, "chief")
    made = chief.post(
        "/challenges",
        {
            "slug": "bci",
            "image": "base:2",
            "cpus": 2.5,
            "closes_at": "2030-01-01T00:00:00Z",
            "mounts": [{"source": "/srv", "target": "/data"}],
        },
    )
    assert made.status_code == 201, made.text
    assert made.get_json()["limits"]["cpus"] == 2.5
    assert made.get_json()["closes_at"] == "2030-01-01T00:00:00.000Z"
    web.store.set_challenge_role("bob", "bci", Role.ADMIN, actor="test")
    bob = program(web, "bob")
    changed = bob.ask("PATCH", "/challenges/bci", {"memory": 1 << 30, "closes_at": None})
    assert changed.get_json()["limits"] == {"cpus": 2.5, "memory": 1 << 30, "pids": 512}
    assert changed.get_json()["closes_at"] is None
    problem(bob.ask("PATCH", "/challenges/bci", {"mounts": []}), 403)  # what concerns the host
    problem(bob.ask("PATCH", "/challenges/als", {"memory": 1 << 30}), 404)
    problem(bob.post("/challenges", {"slug": "new", "image": "x"}), 403)
    problem(chief.ask("PATCH", "/challenges/bci", {"image": None}), 422)
    problem(chief.post("/challenges/als/freeze", {"confirm": "bci"}), 403)
    frozen = chief.post("/challenges/als/freeze", {"confirm": "als", "mode": "stop"})
    assert [one["workspace"] for one in frozen.get_json()["workspaces"]] == ["als/alice", "als/bob"]
    assert chief.get("/challenges/als").get_json()["frozen"] == "stop"
    assert chief.post("/challenges/als/thaw").get_json()["frozen"] is None
    assert [item["slug"] for item in bob.get("/challenges").get_json()["items"]] == ["bci"]
    assert len(chief.get("/challenges/als/freezes").get_json()["items"]) == 1


def test_times_beyond_the_calendar_are_answered(web: Web) -> None:
    with web.store.transaction():  # what no form lets through
        web.store._db().execute("UPDATE challenges SET closes_at = 1e300")
    assert program(web, "chief").get("/challenges/als").get_json()["closes_at"].startswith("9999-12-31")


# the document


def test_the_document_is_openapi_3_1_and_complete(web: Web) -> None:
    document = web.app.test_client().get("/api/v1/openapi.json").get_json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        said = document["paths"][operation.path][operation.method.lower()]
        assert said["summary"]
        assert said["operationId"] == operation.name
        for status, response in said["responses"].items():
            if status >= "4":
                assert list(response["content"]) == ["application/problem+json"]
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_the_document_for_people_names_every_operation(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.app.test_client().get("/api/v1/docs")
    monkeypatch.setattr(routes, "sections", None)  # made once: it is long
    for browser in (web.browser(), web.browser("alice")):
        page = browser.get("/api/v1/docs")
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert " style=" not in page.text
        for operation in OPERATIONS:
            assert f'id="{operation.name}"' in page.text
            assert f"{operation.method} {operation.path}" in page.text
