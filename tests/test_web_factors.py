"""One-time codes set up on the web, recovery codes, confirming what is dangerous, and second factors as a rule."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.support.sample import public_key
from tests.support.web import PASSWORD, Browser, Web, web_fixture  # noqa: F401
from webadmin.throttle import ACCOUNT, WRONG_CODE
from workspaces import accounts, recovery, totp
from workspaces.model import JobKind, Role
from workspaces.settings import Access

pytestmark = pytest.mark.slow


def code(secret: str, at: float | None = None) -> str:
    """What an app shows."""
    moment = int(at or time.time())
    return totp._totp(secret).generate(moment).decode()


def offered(browser: Browser) -> str:
    found = re.search(r'id="totp-secret"[^>]*>([A-Z2-7]{32})<', browser.get("/account/codes").text)
    assert found
    return found[1]


def set_up(browser: Browser) -> tuple[str, list[str]]:
    """Set codes up as a person does: the secret, and the recovery codes."""
    secret = offered(browser)
    page = browser.post("/account/codes", {"code": code(secret)})
    assert page.status_code == 200, page.text
    return secret, re.findall(r"<li><code>([a-z2-7-]{19})</code>", page.text)


def later(web: Web, seconds: float = 601) -> None:
    """As if everybody had signed in that much earlier."""
    web.store._db().execute("UPDATE sign_ins SET proven_at = proven_at - ?", [seconds])


def demand(web: Web, who: str) -> None:
    object.__setattr__(web.settings, "access", Access(second_factor=who))


# setting up


def test_codes_are_set_up_with_a_qr_code(web: Web) -> None:
    alice, other = web.browser("alice"), web.browser("alice")
    page = alice.get("/account/codes").text
    assert "<svg" in page
    assert "style=" not in page  # the policy of the pages allows none
    assert offered(alice) == offered(alice) != offered(other)
    assert web.store.totp_secret("alice") is None  # nothing is kept before the app has shown a right code
    secret, codes = set_up(alice)
    assert web.store.totp_secret("alice") == secret
    assert len(set(codes)) == recovery.CODES
    assert alice.get("/me").status_code == 200
    assert other.get("/me").status_code == 302  # signed out
    assert web.browser().sign_in("alice").status_code == 403
    assert web.browser().sign_in("alice", code=code(secret)).status_code == 403  # used up by the setting up
    assert web.browser().sign_in("alice", code=code(secret, time.time() + 30)).status_code == 302
    assert offered(alice) != secret  # for another app


def test_a_wrong_code_sets_nothing_up(web: Web) -> None:
    alice = web.browser("alice")
    for typed in ("", "000000", "x" * 50, "１２３４５６"):
        page = alice.post("/account/codes", {"code": typed})
        assert page.status_code == 400
        assert "That is not the code." in page.text
    assert web.store.totp_secret("alice") is None
    for _ in range(int(WRONG_CODE.burst)):
        alice.post("/account/codes", {"code": "000000"})
    assert alice.post("/account/codes", {"code": code(offered(alice))}).status_code == 400


def test_recovery_codes_let_in_once_each_on_the_web_and_by_ssh(web: Web) -> None:
    _secret, codes = set_up(web.browser("alice"))
    assert web.browser().sign_in("alice", code=codes[0]).status_code == 302
    assert web.browser().sign_in("alice", code=codes[0]).status_code == 403
    assert web.browser().sign_in("alice", "wrong", code=codes[1]).status_code == 403
    assert accounts.check_login(web.store, "alice", PASSWORD, codes[1].upper()) is accounts.Verdict.RIGHT
    assert accounts.check_login(web.store, "alice", PASSWORD, codes[1]) is accounts.Verdict.WRONG_CODE
    assert accounts.check_login(web.store, "bob", PASSWORD, codes[2]) is accounts.Verdict.RIGHT  # bob needs none
    assert web.store.recovery_codes_left("alice") == recovery.CODES - 2
    digests = "\n".join(web.store._db().conn.iterdump())
    assert not any(each in digests or each.replace("-", "") in digests for each in codes)


def test_new_recovery_codes_make_those_of_before_void(web: Web) -> None:
    alice = web.browser("alice")
    assert alice.post("/account/recovery").status_code == 409  # there is nothing to recover
    _secret, codes = set_up(alice)
    page = alice.post("/account/recovery")
    assert page.status_code == 200
    fresh = re.findall(r"<li><code>([a-z2-7-]{19})</code>", page.text)
    assert not set(fresh) & set(codes)
    assert web.browser().sign_in("alice", code=codes[0]).status_code == 403
    assert web.browser().sign_in("alice", code=fresh[0]).status_code == 302


def test_codes_are_removed_by_the_person(web: Web) -> None:
    alice = web.browser("alice")
    set_up(alice)
    assert "alone" in alice.get("/account/codes/remove").text
    assert alice.post("/account/codes/remove").status_code == 302
    assert alice.get("/me").status_code == 200
    assert web.browser().sign_in("alice").status_code == 302


def test_an_administrator_helps_who_has_lost_all(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    set_up(alice)
    assert "Remove the second factor" in chief.get("/admin/users/alice").text
    assert chief.post("/admin/users/alice/factors/remove").status_code == 302
    assert alice.get("/me").status_code == 302
    assert web.browser().sign_in("alice").status_code == 302
    assert web.store.recovery_codes_left("alice") == 0
    assert web.store.events(kind="user.factors_removed")[0].data == {"user": "alice"}


@pytest.mark.parametrize(
    "typed", ["abcd efgh 2345 67mn", "ABCD-EFGH-2345-67MN", "abcdefgh234567mn", " abcd-efgh234567mn "]
)
def test_recovery_codes_may_be_typed_in_any_way(typed: str) -> None:
    assert recovery.normal(typed) == "abcdefgh234567mn"


@pytest.mark.parametrize(
    "typed", ["", "123456", "abcdefgh234567m", "abcdefgh234567mnx", "abcdefgh23456!mn", "é" * 16, "a" * 999]
)
def test_other_things_are_no_recovery_codes(typed: str) -> None:
    assert recovery.normal(typed) is None


# confirming


DANGEROUS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("chief", "GET", "/admin/workspaces/1/reset", {}),
    ("chief", "POST", "/admin/workspaces/1/reset", {"typed": "als/alice"}),
    ("chief", "POST", "/admin/users/bob/password", {"password": "another long one"}),
    ("chief", "POST", "/admin/users/bob/disable", {}),
    ("chief", "POST", "/admin/users/bob/role", {"role": "admin"}),
    ("chief", "POST", "/admin/users/bob/invite", {}),
    ("chief", "POST", "/admin/users/bob/factors/remove", {}),
    ("chief", "POST", "/admin/users", {"name": "dora", "challenge": "als", "password": "another long one"}),
    ("chief", "GET", "/admin/users/import", {}),
    ("chief", "POST", "/admin/users/import", {"text": "name\ndora\n", "do": "yes"}),
    ("chief", "POST", "/admin/challenges/als/thaw", {}),
    ("chief", "POST", "/admin/workspaces/bulk", {"action": "freeze", "id": "1", "do": "yes"}),
    ("chief", "POST", "/admin/workspaces/bulk", {"action": "thaw", "id": "1"}),
    ("chief", "POST", "/admin/challenges/als/edit", {"closes": "2020-01-01T00:00", "at_close": "stop"}),
    ("alice", "POST", "/me/keys", {"key": public_key("alice@phone")[1]}),
    ("alice", "GET", "/account/codes", {}),
    ("alice", "POST", "/account/recovery", {}),
    ("alice", "GET", "/account/passkeys/add", {}),
)


def test_what_is_dangerous_is_confirmed_first(web: Web) -> None:
    people = {name: web.browser(name) for name in ("chief", "alice")}
    later(web)
    before = "\n".join(web.store._db().conn.iterdump())
    for name, method, path, data in DANGEROUS:
        response = people[name].get(path) if method == "GET" else people[name].post(path, data)
        assert response.status_code == 302, path
        assert response.location.startswith("/confirm"), path
        if method == "GET":
            assert response.location == f"/confirm?next={path}"
    assert "\n".join(web.store._db().conn.iterdump()) == before
    assert people["alice"].get("/me").status_code == 200  # all else goes on
    assert "Nothing was done yet." in people["chief"].get("/confirm").text
    assert people["chief"].post("/admin/workspaces/bulk", {"action": "start", "id": "1"}).status_code == 200
    edit = people["chief"].post("/admin/challenges/als/edit", {"closes": "2999-01-01T00:00", "at_close": "stop"})
    assert edit.location == "/admin/challenges/als"
    for kind, leads in ((JobKind.RESET, "/confirm"), (JobKind.START, "/admin/jobs")):
        job = web.store.add_job(kind, 1, actor="test")
        web.store.cancel_job(job.id, actor="test")
        assert people["chief"].post(f"/admin/jobs/{job.id}/retry").location.startswith(leads)


def test_confirming_lasts_ten_minutes_and_changes_the_token(web: Web) -> None:
    alice = web.browser("alice")
    later(web, 599 - 5)
    assert alice.get("/account/codes").status_code == 200
    later(web, 10)
    assert alice.get("/account/codes").status_code == 302
    cookie = alice.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    done = alice.post("/confirm", {"password": PASSWORD, "next": "/account/codes"})
    assert done.location == "/account/codes"
    assert alice.get("/account/codes").status_code == 200
    thief = web.browser()
    thief.client.set_cookie(cookie.key, cookie.value)
    assert thief.get("/me").status_code == 302
    assert len(web.store.sign_ins("alice")) == 1


def test_a_cookie_of_staff_elsewhere_gets_at_nothing_that_lasts(web: Web) -> None:
    chief, alice = (web.browser(name, REMOTE_ADDR="192.0.2.1") for name in ("chief", "alice"))
    chief.environ = alice.environ = {"REMOTE_ADDR": "192.0.2.99"}  # within the ten minutes
    for _ in range(2):
        for path in ("/account/codes", "/account/passkeys/add", "/admin/users/import"):
            assert chief.get(path).location.startswith("/login"), path
        made = chief.post("/account/tokens", {"name": "program", "scope": "admin", "days": "300"})
        assert made.location.startswith("/login")
        assert web.store.tokens("chief") == []
        chief.post("/confirm", {"password": PASSWORD})  # signing in may take more than that
    chief.sign_in("chief")
    assert chief.get("/account/codes").status_code == 200
    assert alice.get("/account/codes").status_code == 200  # a telephone that walks


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_confirming_leads_nowhere_else(web: Web, target: str) -> None:
    alice = web.browser("alice")
    assert "evil" not in alice.get("/confirm", query_string={"next": target}).text
    assert alice.post("/confirm", {"password": PASSWORD, "next": target}).location == "/"


def test_a_code_confirms_and_wrong_answers_are_limited(web: Web) -> None:
    alice = web.browser("alice")
    secret, codes = set_up(alice)
    later(web)
    for data in ({"code": "000000"}, {"password": "wrong"}, {}, {"code": codes[0] + "a"}):
        assert alice.post("/confirm", data).status_code == 403
    assert alice.get("/account/codes").status_code == 302
    assert alice.post("/confirm", {"code": code(secret, time.time() + 30)}).status_code == 302
    assert alice.get("/account/codes").status_code == 200
    answers = [alice.post("/confirm", {"code": "000000"}) for _ in range(int(ACCOUNT.burst) + 1)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) > 0


# second factors as a rule


def _leads_to_setting_up(browser: Browser, path: str) -> bool:
    response: Any = browser.get(path)
    return bool(response.status_code == 302 and response.location == "/account#codes")


def test_staff_may_be_asked_for_a_second_factor(web: Web) -> None:
    demand(web, "staff")
    chief, alice, bob = web.browser("chief"), web.browser("alice"), web.browser("bob")
    web.store.set_challenge_role("bob", "als", Role.REVIEWER, actor="chief")
    assert _leads_to_setting_up(chief, "/admin/")
    assert _leads_to_setting_up(bob, "/admin/")
    assert _leads_to_setting_up(chief, "/me")
    assert chief.get("/admin/live", headers={"X-Fragment": "1"}).status_code == 403
    request_id = web.request("alice")
    assert chief.post(f"/admin/snapshots/{request_id}/approve").status_code == 302
    assert web.store.snapshot(request_id).state == "requested"
    assert "Set one up to go on." in chief.get("/account").text
    assert alice.get("/me").status_code == 200
    set_up(chief)
    assert chief.get("/admin/").status_code == 200
    demand(web, "all")
    assert _leads_to_setting_up(alice, "/me")


def test_codes_that_were_removed_are_asked_for_again(web: Web) -> None:
    demand(web, "all")
    alice = web.browser("alice")
    set_up(alice)
    assert alice.get("/me").status_code == 200
    alice.post("/account/codes/remove")
    assert _leads_to_setting_up(alice, "/me")
