"""Signing in: sessions, their cookie, guessing, redirects, and what ends a session."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.web import CHEAP_HASH, PASSWORD, Web, make_settings, open_web, web_fixture  # noqa: F401
from webadmin import create_app
from webadmin.security import safe_next, session_key
from webadmin.throttle import ACCOUNT, ADDRESS, TOTAL, WRONG_CODE, Throttle
from workspaces import throttle as buckets_module
from workspaces.errors import SettingsError

pytestmark = pytest.mark.slow


def test_the_right_password_opens_the_right_page(web: Web) -> None:
    for name, path in (("alice", "/me"), ("chief", "/admin/")):
        browser = web.browser()
        assert browser.get("/").location == "/login"
        assert browser.sign_in(name).location == "/"
        assert browser.get("/").location == path
        assert browser.get(path).status_code == 200
    assert [e.actor for e in web.store.events(kind="login.accepted")] == ["chief", "alice"]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("alice", ""),
        ("", ""),
        ("a" * 1024, "x"),
        ("al\0ice", "x"),
        ("älice", "x"),
    ],
)
def test_anything_else_does_not(web: Web, name: str, password: str) -> None:
    browser = web.browser()
    response = browser.sign_in(name, password)
    assert response.status_code == 403
    assert "The name or the password is wrong." in response.text
    assert browser.get("/me").status_code == 302


def test_a_disabled_account_is_told_nothing_more(web: Web) -> None:
    web.store.set_disabled("alice", True, actor="chief")
    response = web.browser().sign_in("alice")
    assert response.status_code == 403
    assert "disabled" not in response.text


def test_an_account_without_password_cannot_sign_in(web: Web) -> None:
    web.store.add_user("keyonly", actor="test")
    for password in ("", "None", "x"):
        assert web.browser().sign_in("keyonly", password).status_code == 403


def test_signing_in_starts_a_new_session(web: Web) -> None:
    browser = web.browser()
    planted = browser.token()
    with browser.client.session_transaction() as session:
        session["planted"] = "by somebody else"
    browser.sign_in("alice")
    with browser.client.session_transaction() as session:
        assert "planted" not in session
    response = browser.client.post("/logout", data={"csrf_token": planted})
    assert response.status_code == 400  # the token from before the sign-in is of no use after it


def test_a_cookie_that_was_tampered_with_is_nobodys(web: Web) -> None:
    browser = web.browser("alice")
    cookie = browser.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    browser.client.set_cookie(cookie.key, cookie.value[:-4] + "AAAA")
    assert browser.get("/me").status_code == 302


def test_signing_out_ends_it(web: Web) -> None:
    browser = web.browser("alice")
    assert browser.post("/logout").location == "/login"
    assert "You are signed out." in browser.get("/login").text
    assert browser.get("/me").status_code == 302


def test_a_new_password_ends_all_other_sessions(web: Web) -> None:
    here, there = web.browser("alice"), web.browser("alice")
    form = {"current": PASSWORD, "new": "a new long password", "again": "a new long password"}
    assert here.post("/me/password", form).status_code == 302
    assert here.get("/me").status_code == 200
    assert there.get("/me").status_code == 302
    assert web.browser().sign_in("alice").status_code == 403
    assert web.browser().sign_in("alice", "a new long password").status_code == 302


def test_an_administrator_setting_a_password_ends_sessions(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    assert chief.post("/admin/users/alice/password", {"password": "a new long password"}).status_code == 302
    assert alice.get("/me").status_code == 302


def test_disabling_ends_sessions(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    assert chief.post("/admin/users/alice/disable").status_code == 302
    assert alice.get("/me").status_code == 302
    assert alice.get("/me/live", headers={"X-Fragment": "1"}).status_code == 401


def test_an_account_of_the_same_name_is_another_one(web: Web) -> None:
    web.store.add_user("dora", password_hash=CHEAP_HASH, actor="test")
    dora = web.browser("dora")
    web.store.remove_user("dora", actor="test")
    web.store.add_user("dora", password_hash=CHEAP_HASH, actor="test")
    assert dora.get("/me").status_code == 302


def test_a_session_that_moves_may_look_but_an_administrator_signs_in_again_to_act(web: Web) -> None:
    request_id = web.request("alice")
    chief = web.browser("chief", REMOTE_ADDR="192.0.2.1")
    chief.environ = {"REMOTE_ADDR": "192.0.2.99"}
    assert chief.get("/admin/").status_code == 200
    response = chief.post(f"/admin/snapshots/{request_id}/approve")
    assert response.location == "/login"
    assert web.store.snapshot(request_id).state == "requested"
    assert "nothing was done yet" in chief.get("/login").text
    chief.sign_in("chief")
    assert chief.post(f"/admin/snapshots/{request_id}/approve").status_code == 302
    assert web.store.snapshot(request_id).state == "approved"


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(web: Web, tmp_path: Path) -> None:
    cookie = web.browser().sign_in("alice").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    app = create_app(make_settings(tmp_path, "https://gate.example.org"), web.store)
    response = app.test_client().get("/login", base_url="https://gate.example.org")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-workspaces-")
    assert "Secure" in cookie
    assert response.headers["Strict-Transport-Security"]


def test_nothing_of_the_password_hash_is_in_the_cookie(web: Web) -> None:
    browser = web.browser("alice")
    with browser.client.session_transaction() as session:
        text = repr(dict(session))
    stored = web.store.password_hash("alice") or ""
    assert stored.split("$")[-1][:12] not in text
    assert PASSWORD not in text


# where a sign-in leads


@pytest.mark.parametrize("target", ["/me", "/admin/?x=1", "/me#keys", "/a//b"])
def test_next_leads_within_this_site(web: Web, target: str) -> None:
    assert safe_next(target) == target
    assert web.browser().sign_in("alice", next=target).location == target


@pytest.mark.parametrize(
    "target",
    [
        *(
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            " //evil.example",
            "evil.example",
        ),
        *("https://evil.example", "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "/%0d%0a\r\nX: y"),
        *("/me\\..", "", "/" + "a" * 3000),
    ],
)
def test_next_never_leads_to_another(web: Web, target: str) -> None:
    assert safe_next(target) is None
    assert web.browser().sign_in("alice", next=target).location == "/"
    assert "evil" not in web.browser().get("/login", query_string={"next": target}).text


def test_a_visitor_comes_back_to_where_he_wanted(web: Web) -> None:
    browser = web.browser()
    response = browser.get("/admin/jobs?page=2")
    assert response.location == "/login?next=/admin/jobs?page%3D2"
    page = browser.get(response.location).text
    assert 'name="next" value="/admin/jobs?page=2"' in page


# guessing


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _drain(throttle: Throttle, account: str, address: str) -> int:
    tries = 0
    while not throttle.take(account, address):
        tries += 1
    return tries


def test_few_tries_for_an_account_from_an_address() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert _drain(throttle, "alice", "192.0.2.1") == ACCOUNT.burst
    assert not throttle.take("alice", "192.0.2.2")  # a rival elsewhere does not lock the owner out
    assert not throttle.take("bob", "192.0.2.1")
    wait = throttle.take("alice", "192.0.2.1")
    clock.now += wait
    assert not throttle.take("alice", "192.0.2.1")


def test_few_tries_from_an_address_whatever_the_account() -> None:
    throttle = Throttle(Clock())
    tries = sum(_drain(throttle, f"user{n}", "2001:db8::1") for n in range(20))
    assert tries == ADDRESS.burst
    assert throttle.take("other", "2001:db8::ffff")  # the same /64 is the same host
    assert not throttle.take("other", "2001:db8:0:1::1")


def test_few_tries_in_total() -> None:
    throttle = Throttle(Clock())
    assert sum(not throttle.take(f"user{n}", f"192.0.{n % 250}.{n // 250}") for n in range(1000)) == TOTAL.burst


def test_a_flood_of_passwords_leaves_other_ways_in_and_who_is_signed_in(web: Web) -> None:
    alice = web.browser("alice")
    token, throttle = alice.token(), web.app.extensions["workspaces"].throttle
    for n in range(1000):
        throttle.take("alice", f"192.0.{n % 250}.{n // 250}")
    _drain(throttle, "alice", "127.0.0.1")
    assert web.browser().sign_in("alice").status_code == 429
    assert alice.client.post("/confirm", data={"csrf_token": token, "password": PASSWORD}).status_code == 302
    assert web.browser().post("/login/passkey").status_code == 403  # it was looked at


def test_a_right_password_forgives() -> None:
    throttle = Throttle(Clock())
    for _ in range(50):
        for _ in range(3):
            assert not throttle.take("alice", "192.0.2.1")
        throttle.give_back("alice", "192.0.2.1")
        throttle.give_back("alice", "192.0.2.1")
        throttle.give_back("alice", "192.0.2.1")


def test_the_memory_of_tries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets_module, "MAX_TRACKED", 10)
    clock = Clock()
    throttle = Throttle(clock)
    for n in range(100):
        clock.now += 10
        assert not throttle.take(f"u{n}", f"2001:db8:{n:x}::1")
    assert [len(b._rows) for b in (throttle._account, throttle._address, throttle._total)] == [10, 10, 1]


def test_tries_that_are_refused_push_nothing_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets_module, "MAX_TRACKED", 10)
    throttle = Throttle(Clock())
    for _ in range(int(WRONG_CODE.burst)):
        throttle.wrong_code("alice")
    _drain(throttle, "bob", "192.0.2.1")
    for n in range(100):
        throttle.take(f"u{n}", "198.51.100.1")
    assert throttle.too_many_codes("alice")
    _drain(throttle, "bob", "192.0.2.2")
    for n in range(100):
        assert throttle.take(f"u{n}", "198.51.100.1")
    assert throttle.take("bob", "192.0.2.2")


def test_the_page_stops_a_guesser_even_with_the_right_password_at_last(web: Web) -> None:
    guesser = web.browser(REMOTE_ADDR="192.0.2.66")
    codes = [guesser.sign_in("alice", f"guess {n}").status_code for n in range(int(ACCOUNT.burst) + 1)]
    assert codes == [403] * int(ACCOUNT.burst) + [429]
    response = guesser.sign_in("alice")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    assert "Too many tries." in response.text
    assert web.browser(REMOTE_ADDR="192.0.2.1").sign_in("alice").status_code == 302


def test_signing_in_rightly_is_not_limited(web: Web) -> None:
    for _ in range(int(ACCOUNT.burst) + 2):
        assert web.browser().sign_in("alice", "wrong once").status_code == 403
        assert web.browser().sign_in("alice").status_code == 302


def test_guessing_in_parallel_gets_no_more_tries(web: Web) -> None:
    browsers = [web.browser() for _ in range(12)]
    tokens = [b.token() for b in browsers]
    with ThreadPoolExecutor(12) as pool:
        codes = list(
            pool.map(
                lambda pair: (
                    pair[0]
                    .client.post("/login", data={"csrf_token": pair[1], "name": "alice", "password": "guess"})
                    .status_code
                ),
                zip(browsers, tokens, strict=True),
            )
        )
    assert codes.count(403) == ACCOUNT.burst


def test_the_password_form_is_limited_as_well(web: Web) -> None:
    alice = web.browser("alice")
    form = {"current": "guess", "new": "a new long password", "again": "a new long password"}
    codes = [alice.post("/me/password", form).status_code for _ in range(int(ACCOUNT.burst) + 1)]
    assert codes[0] == 403
    assert codes[-1] == 429


# the key


def test_the_session_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: session_key(tmp_path / "keys"), range(8)))
    assert len(keys) == 1
    files = list((tmp_path / "keys").iterdir())
    assert [(f.name, f.stat().st_mode & 0o777) for f in files] == [("web-session.key", 0o600)]
    files[0].chmod(0o644)
    with pytest.raises(SettingsError, match="Others may read"):
        session_key(tmp_path / "keys")
    files[0].chmod(0o600)
    files[0].write_bytes(b"short")
    with pytest.raises(SettingsError, match="too short"):
        session_key(tmp_path / "keys")


def test_a_session_survives_a_restart_of_the_application(web: Web) -> None:
    alice = web.browser("alice")
    cookie = alice.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    app = create_app(web.settings, web.store)
    client = app.test_client()
    client.set_cookie(app.config["SESSION_COOKIE_NAME"], cookie.value)
    assert client.get("/me").status_code == 200


def test_the_login_page_does_not_repeat_passwords(web: Web) -> None:
    assert not re.search("super-secret", web.browser().sign_in("alice", "super-secret").text)
