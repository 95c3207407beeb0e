"""The API about people: one's own keys, sign-ins and news; accounts of others; lists; announcements."""

from __future__ import annotations

import sqlite3
import time

from tests.support.api import Program, program
from tests.support.sample import public_key
from tests.support.web import Web, web_fixture
from tests.test_api import problem
from webadmin.actions.own import RATE
from workspaces import accounts, apitokens, roster
from workspaces.model import FreezeMode, JobState, Role

__all__ = ["web_fixture"]


def _kept(web: Web) -> str:
    with sqlite3.connect(web.settings.database) as db:
        return "\n".join(db.iterdump())


# oneself


def test_ones_own_keys(web: Web) -> None:
    alice, line = program(web, "alice"), public_key("alice@phone")[1]
    made = alice.post("/me/keys", {"key": f'from="192.0.2.0/24" {line}\n'})
    assert (made.status_code, made.get_json()["options"]) == (201, 'from="192.0.2.0/24"')
    problem(alice.post("/me/keys", {"key": line}), 409)
    problem(program(web, "bob").post("/me/keys", {"key": line}), 409)
    problem(alice.post("/me/keys", {"key": "ssh-ed25519 AAAA"}), 422)
    number = made.get_json()["id"]
    problem(program(web, "bob").ask("DELETE", f"/me/keys/{number}"), 404)
    assert alice.ask("DELETE", f"/me/keys/{number}").status_code == 204
    assert number not in [key.id for key in web.store.keys("alice")]
    problem(program(web, "alice", "read", "workspaces", "snapshots").post("/me/keys", {"key": line}), 403)


def test_how_to_get_in(web: Web) -> None:
    alice, number = program(web, "alice"), web.workspace_id("alice")
    assert alice.get(f"/me/workspaces/{number}/door").get_json()["line"] == "ssh -p 2222 alice@gate.example.org"
    other = web.store.add_workspace("als", "team", ["alice", "bob"], actor="test").id
    found = alice.get(f"/me/workspaces/{other}/door").get_json()
    assert found["line"] == "ssh -p 2222 alice+als/team@gate.example.org"
    assert found["config"].startswith("Host als-team\n")
    problem(alice.get(f"/me/workspaces/{web.workspace_id('bob')}/door"), 404)


def test_ones_own_sessions_also_of_who_reviews_elsewhere(web: Web) -> None:
    web.store.add_challenge("bci", "base:1", actor="test")
    web.store.set_challenge_role("bob", "bci", Role.REVIEWER, actor="test")
    for name in ("alice", "bob"):
        web.store.begin_session(name, web.workspace_id(name), "shell", "192.0.2.1", "p", time.time())
    for q in ("", "?q=on:yes", "?q=user:alice"):
        found = program(web, "bob").get(f"/me/sessions{q}").get_json()["items"]
        assert [one["user"] for one in found] == (["bob"] if "alice" not in q else [])


def test_members_see_who_else_is_on_and_not_from_where_nor_who_was(web: Web) -> None:
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    web.store.add_user("rita", Role.PARTICIPANT, actor="test")
    team, now = web.workspace_id("team"), time.time()
    for name, address, ended in (
        ("rita", "192.0.2.9", False),
        ("alice", "192.0.2.1", True),
        ("alice", "192.0.2.2", False),
        ("bob", "192.0.2.3", True),
        ("bob", "192.0.2.4", False),
    ):
        number = web.store.begin_session(name, team, "shell", address, "p", now)
        if ended:
            web.store.end_session(number, now)
    before = web.store.begin_session("alice", team, "shell", "192.0.2.8", "p", 1.0)  # of who had the name then
    web.store.end_session(before, 2.0)

    def listed(name: str, more: str = "") -> list[tuple[str, str]]:
        found = program(web, name).get(f"/workspaces/{team}/sessions{more}").get_json()["items"]
        return [(one["user"], one["address"]) for one in found]

    assert listed("alice") == [("bob", ""), ("alice", "192.0.2.2"), ("rita", "")]
    mine = [("bob", ""), ("alice", "192.0.2.2"), ("alice", "192.0.2.1"), ("rita", "")]
    assert listed("alice", "?ended=true") == mine
    assert listed("alice", "?ended=true&limit=2") == mine[:2]
    assert len(listed("chief", "?ended=true")) == 6
    web.store.set_challenge_role("alice", "als", Role.REVIEWER, actor="test")
    assert ("bob", "192.0.2.3") in listed("alice", "?ended=true")


def test_ones_own_sign_ins_and_tokens(web: Web) -> None:
    alice, here, there = program(web, "alice"), web.browser("alice"), web.browser("alice")
    assert here.get("/me").status_code == 200
    first, second = (one["id"] for one in alice.get("/me/sign-ins").get_json()["items"])
    assert alice.ask("DELETE", f"/me/sign-ins/{min(first, second)}").status_code == 204
    assert (here.get("/me").status_code, there.get("/me").status_code) == (302, 200)
    assert alice.ask("DELETE", "/me/sign-ins").get_json() == {"count": 1}
    assert there.get("/me").status_code == 302
    other, _ = apitokens.make(web.store, "alice", "lost", ["read"], 1, actor="test")
    problem(program(web, "bob").ask("DELETE", f"/me/tokens/{other.id}"), 404)
    assert alice.ask("DELETE", f"/me/tokens/{other.id}").status_code == 204
    assert [token.name for token in web.store.tokens("alice")] == ["a test"]


def test_news_and_announcements_are_read(web: Web) -> None:
    web.request("alice")
    chief, alice = program(web, "chief"), program(web, "alice")
    [item] = chief.get("/me/news").get_json()["items"]
    assert chief.post("/me/news/read", {"up_to": item["id"]}).status_code == 204
    assert chief.get("/me/news").get_json()["items"][0]["read_at"]
    made = chief.post("/announcements", {"text": "closed\r\nat six", "severity": "urgent", "challenge": "als"})
    assert (made.status_code, made.get_json()["text"]) == (201, "closed\nat six")
    path = f"/me/announcements/{made.get_json()['id']}/dismiss"
    assert [one["severity"] for one in alice.get("/me/announcements").get_json()["items"]] == ["urgent"]
    assert alice.post(path).status_code == 204
    assert alice.get("/me/announcements").get_json()["items"] == []
    assert len(program(web, "bob").get("/me/announcements").get_json()["items"]) == 1
    problem(alice.post("/me/announcements/99/dismiss"), 404)


def test_members_start_and_reset_as_on_their_page(web: Web) -> None:
    """Within the challenge's dates, one thing at a time, and not in a frozen challenge; administrators at any time."""
    alice, chief, number = program(web, "alice"), program(web, "chief"), web.workspace_id("alice")
    assert alice.post(f"/workspaces/{number}/start").status_code == 202
    problem(alice.post(f"/workspaces/{number}/restart"), 409)
    web.store.cancel_job(web.store.jobs()[0].id, actor="test")
    web.store.set_challenge("als", actor="test", closes_at=time.time() - 1)
    problem(alice.post(f"/workspaces/{number}/start"), 403)
    assert alice.post(f"/workspaces/{number}/stop").status_code == 202
    assert chief.post(f"/workspaces/{number}/start").status_code == 202
    web.store.set_challenge("als", actor="test", closes_at=None)
    web.store.begin_freeze("als", FreezeMode.COMMIT, actor="test")
    for job in web.store.jobs([JobState.QUEUED]):
        web.store.cancel_job(job.id, actor="test")
    problem(alice.post(f"/workspaces/{number}/reset", {"confirm": "als/alice"}), 403)


def test_members_do_not_start_and_stop_all_the_time(web: Web) -> None:
    alice, number = program(web, "alice"), web.workspace_id("alice")
    for _ in range(int(RATE.burst)):
        job = alice.post(f"/workspaces/{number}/stop")
        assert job.status_code == 202, job.text
        web.store.cancel_job(job.get_json()["id"], actor="test")
    refused = alice.post(f"/workspaces/{number}/stop")
    problem(refused, 429)
    assert 1 < int(refused.headers["Retry-After"]) <= RATE.every + 1


# others


def test_somebody_is_invited(web: Web) -> None:
    chief = program(web, "chief")
    web.store.add_user("carla", actor="test")
    made = chief.post("/users/carla/invitation")
    assert made.status_code == 201, made.text
    address = made.get_json()["address"]
    assert chief.get("/users/carla").get_json()["invitation"]["invited_by"] == "chief"
    assert address not in _kept(web)
    assert web.browser().get(address).status_code == 200
    assert chief.ask("DELETE", "/users/carla/invitation").status_code == 204
    assert web.browser().get(address).status_code == 404
    assert chief.get("/users/carla").get_json()["invitation"] is None
    web.store.set_disabled("carla", True, actor="test")
    problem(chief.post("/users/carla/invitation"), 409)


def test_the_answer_with_an_address_is_kept_for_its_token_alone(web: Web) -> None:
    chief = program(web, "chief")
    first = chief.post("/users/bob/invitation", Idempotency_Key="k")
    again = chief.post("/users/bob/invitation", Idempotency_Key="k")
    assert (again.headers["Idempotency-Replayed"], again.get_json()) == ("true", first.get_json())
    assert first.get_json()["address"].rpartition("/")[2] not in _kept(web)
    with web.store._write() as db:
        db.execute("UPDATE answers SET body = ?", [apitokens.seal("another's", "{}")])
    problem(chief.post("/users/bob/invitation", Idempotency_Key="k"), 409)


def test_how_somebody_signs_in_is_looked_after(web: Web) -> None:
    chief = program(web, "chief")
    accounts.begin_totp(web.store, "bob", actor="test")
    web.store.link_identity("bob", "https://id.example", "1", "bob@id.example", actor="test")
    web.store.begin_sign_in("bob", "digest", via="password", address="192.0.2.1", browser="b")
    found = chief.get("/users/bob").get_json()
    assert (found["has_totp"], found["passkeys"], [one["address"] for one in found["sign_ins"]]) == (
        True,
        0,
        ["192.0.2.1"],
    )
    assert chief.ask("DELETE", "/users/bob/sign-ins").get_json() == {"count": 1}
    assert chief.ask("DELETE", "/users/bob/factors").get_json()["has_totp"] is False
    path = f"/users/bob/identities/{found['identities'][0]['id']}"
    problem(chief.ask("DELETE", path.replace("bob", "alice")), 404)
    assert chief.ask("DELETE", path).status_code == 204
    assert chief.get("/users/bob").get_json()["identities"] == []


def test_a_token_for_users_does_not_become_an_administrator(web: Web) -> None:
    """What would let its bearer in as somebody who may do more takes the scope admin."""
    web.store.set_challenge_role("bob", "als", Role.REVIEWER, actor="test")
    web.store.add_user("deputy", Role.ADMIN, actor="test")
    users, before = program(web, "chief", "users"), _kept(web)
    key = public_key("anybody's")[1]

    def tries(asks: Program) -> list[int]:
        return [
            asks.post("/roster", {"text": f"name,key\ndeputy,{key}\n"}).status_code,
            asks.post("/roster", {"text": "name,email\ndeputy,mine@example.org\n"}).status_code,
            asks.post("/users/deputy/invitation").status_code,
            asks.ask("DELETE", "/users/deputy/factors").status_code,
            asks.ask("PUT", "/users/deputy/role", {"role": "participant"}).status_code,
            asks.post("/users/deputy/disable").status_code,
            asks.post("/users/bob/invitation").status_code,
            asks.ask("PUT", "/users/alice/roles/als", {"role": "admin"}).status_code,
        ]

    assert tries(users) == [403] * 8
    assert [line for line in _kept(web).splitlines() if "tokens" not in line] == [
        line for line in before.splitlines() if "tokens" not in line
    ]
    assert tries(program(web, "chief", "admin")) == [200, 200, 201, 200, 200, 200, 201, 200]
    assert users.post("/users/new/invitation").status_code == 404
    assert users.post("/users", {"name": "new"}).status_code == 201
    assert users.post("/users/new/invitation").status_code == 201


def test_a_list_of_people(web: Web) -> None:
    chief, key = program(web, "chief"), public_key("carla@laptop")[1]
    text = f"name,email,key\ncarla,carla@example.org,{key}\nalice,,\n"
    body = {"text": text, "challenge": "als"}
    found = chief.post("/roster/check", body).get_json()
    assert [(step["line"], step["workspace"], step["does"]) for step in found["steps"]] == [
        (2, "als/carla", ["account", "email", "key", "workspace"]),
        (3, "als/alice", []),
    ]
    assert web.store.find_user("carla") is None
    assert chief.post("/roster", body).get_json() == found
    assert web.store.workspace("als/carla").members == ("carla",)
    wrong = {"text": "name,challenge\ndora,als\nDora,als\nerik,none\n"}
    assert [one["line"] for one in chief.post("/roster/check", wrong).get_json()["problems"]] == [3, 4]
    told = problem(chief.post("/roster", wrong), 422)["errors"]
    assert isinstance(told, list)
    assert told[0]["pointer"] == "#/text"
    assert told[0]["detail"].startswith("Line 3, name: ")
    assert web.store.find_user("dora") is None
    problem(chief.post("/roster", {"text": "nothing"}), 422)


def test_a_long_list_is_taken_and_a_longer_one_is_not(web: Web) -> None:
    chief = program(web, "chief")
    text = "name\n" + "".join(f"participant-{number}\n" for number in range(10_000))
    assert 100_000 < len(text) < roster.MAX_BYTES
    assert "rows" in str(problem(chief.post("/roster/check", {"text": text}), 422)["detail"])
    problem(chief.post("/roster/check", {"text": "x" * (roster.MAX_BYTES + (64 << 10))}), 413)
    problem(chief.post("/users", {"name": "x" * (65 << 10)}), 413)


# announcements


def test_what_can_be_announced(web: Web) -> None:
    chief = program(web, "chief")
    wrong: list[tuple[int, dict[str, object]]] = [
        (422, {"text": ""}),
        (422, {"text": "x", "severity": "loud"}),
        (404, {"text": "x", "challenge": "none"}),
        (422, {"text": "x", "until_at": "2001-01-01T00:00:00Z"}),
        (422, {"text": "x", "until_at": "2901-01-01T00:00:00"}),  # of which time zone?
    ]
    for status, body in wrong:
        problem(chief.post("/announcements", body), status)
    assert web.store.announcements() == []
    later = {"text": "x", "from_at": "2900-01-01T00:00:00+02:00", "until_at": "2901-01-01T00:00:00Z"}
    assert chief.post("/announcements", later).get_json()["from_at"] == "2899-12-31T22:00:00.000Z"


def test_announcements_are_ended_and_listed_for_who_may_tell(web: Web) -> None:
    chief = program(web, "chief")
    web.store.add_challenge("bci", "base:1", actor="test")
    web.store.set_challenge_role("bob", "bci", Role.ADMIN, actor="test")
    bob = program(web, "bob")
    numbers = [
        chief.post("/announcements", {"text": "x", "challenge": slug}).get_json()["id"] for slug in ("als", None)
    ]
    problem(bob.post("/announcements", {"text": "x"}), 403)
    problem(bob.post("/announcements", {"text": "x", "challenge": "als"}), 404)
    assert bob.post("/announcements", {"text": "x", "challenge": "bci"}).status_code == 201
    assert [one["challenge"] for one in bob.get("/announcements").get_json()["items"]] == ["bci", None]
    problem(bob.post(f"/announcements/{numbers[0]}/end"), 404)
    problem(bob.post(f"/announcements/{numbers[1]}/end"), 403)
    assert chief.post(f"/announcements/{numbers[0]}/end").get_json()["until_at"]
    problem(chief.post(f"/announcements/{numbers[0]}/end"), 409)
    assert len(chief.get("/announcements").get_json()["items"]) == 2
    assert len(chief.get("/announcements?ended=true").get_json()["items"]) == 3
