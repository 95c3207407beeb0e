"""Passkeys: adding, signing in without a name, the second half after a password, confirming; and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.authenticator import PRESENT, Authenticator
from tests.support.web import Browser, Web, web_fixture  # noqa: F401
from webadmin import passkeys
from webadmin.throttle import Once
from workspaces import recovery
from workspaces.errors import Conflict, NotFound
from workspaces.store import factors
from workspaces.throttle import MAX_TRACKED

pytestmark = pytest.mark.slow


def options(browser: Browser, path: str) -> dict[str, Any]:
    """What the page asks its authenticator with."""
    response = browser.post(f"{path}/options", headers={"Accept": "application/json"})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = json.loads(response.text)
    return found


def add(browser: Browser, key: Authenticator, name: str = "laptop") -> Any:
    return browser.post(
        "/account/passkeys", {"name": name, "credential": key.create(options(browser, "/account/passkeys"))}
    )


def use(browser: Browser, key: Authenticator, path: str = "/login/passkey", **data: str) -> Any:
    return browser.post(path, {"credential": key.get(options(browser, path)), **data})


@pytest.fixture
def key(web: Web) -> Authenticator:
    """A passkey of alice."""
    found = Authenticator()
    assert "Recovery codes" in add(web.browser("alice"), found).text
    return found


def test_a_passkey_signs_in_without_a_name(web: Web, key: Authenticator) -> None:
    (known,) = web.store.passkeys("alice")
    assert (known.name, known.transports, known.sign_count) == ("laptop", ("internal",), 0)
    visitor = web.browser()
    assert use(visitor, key, next="/me#keys").location == "/me#keys"
    assert visitor.get("/me").status_code == 200
    (known,) = web.store.passkeys("alice")
    assert (known.sign_count, known.last_used_from) == (1, "127.0.0.1")
    assert web.store.events(1)[0].data["by"] == "passkey"
    assert web.store.sign_ins("alice")[0].via == "passkey"


def test_after_the_password_the_passkey_is_asked_for(web: Web, key: Authenticator) -> None:
    visitor = web.browser()
    response = visitor.sign_in("alice", next="/me")
    assert response.location == "/login/second?next=/me"
    assert visitor.get("/me").status_code == 302
    assert "And your passkey" in visitor.get(response.location).text
    asked = options(visitor, "/login/second/passkey")
    assert [one["id"] for one in asked["allowCredentials"]] == [web.store.passkeys("alice")[0].credential]
    key.flags = PRESENT  # its presence is enough beside a password
    answer = visitor.post("/login/second/passkey", {"credential": key.get(asked), "next": "/me"})
    assert answer.location == "/me"
    assert visitor.get("/me").status_code == 200


def test_a_recovery_code_takes_the_place_of_the_passkey_once(web: Web, key: Authenticator) -> None:
    codes = ["abcd-efgh-2345-67mn", "zzzz-zzzz-zzzz-zzzz"]
    web.store.set_recovery_codes("alice", [recovery.digest(recovery.normal(code) or "") for code in codes], actor="x")
    for typed, status in ((codes[0].upper().replace("-", " "), 302), (codes[0], 403), ("wrong", 403), ("", 403)):
        visitor = web.browser()
        visitor.sign_in("alice")
        assert visitor.post("/login/second", {"code": typed}).status_code == status
    assert web.store.recovery_codes_left("alice") == 1
    assert web.store.events(kind="user.recovery_code_used")[0].data == {"left": "1"}


def test_without_the_password_there_is_no_second_half(web: Web, key: Authenticator) -> None:
    visitor = web.browser()
    assert visitor.get("/login/second").status_code == 403
    assert visitor.post("/login/second", {"code": "x"}).status_code == 403
    assert visitor.post("/login/second/passkey/options").status_code == 403
    bob = Authenticator()
    add(web.browser("bob"), bob)
    visitor.sign_in("alice")
    refused = use(visitor, bob, "/login/second/passkey")
    assert refused.status_code == 403
    assert "belongs to another account" in refused.text
    with visitor.client.session_transaction() as session:
        session["half"] = [*session["half"][:2], 0]
    assert visitor.get("/login/second").status_code == 403


def test_a_passkey_confirms(web: Web, key: Authenticator) -> None:
    alice = web.browser()
    use(alice, key)
    web.store._db().execute("UPDATE sign_ins SET proven_at = proven_at - 601")
    assert alice.get("/account/codes").location == "/confirm?next=/account/codes"
    verified, key.flags = key.flags, PRESENT  # touched, without PIN or finger
    assert use(alice, key, "/confirm/passkey").status_code == 403
    key.flags = verified
    assert use(alice, key, "/confirm/passkey", next="/account/codes").location == "/account/codes"
    assert alice.get("/account/codes").status_code == 200
    bob = Authenticator()
    add(web.browser("bob"), bob)
    assert use(alice, bob, "/confirm/passkey").status_code == 403


Spoil = Callable[[Authenticator, dict[str, Any]], None]


def _origin(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.origin = "https://evil.example"


def _challenge(_key: Authenticator, asked: dict[str, Any]) -> None:
    asked["challenge"] = "AAAA"


def _unverified(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.flags = PRESENT


def _absent(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.flags = 0


def _host(_key: Authenticator, asked: dict[str, Any]) -> None:
    asked["rpId"] = "evil.example"


def _other_key(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.key = Authenticator().key


def _unknown(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.id = b"nobody"


def _handle(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.handle = b"another"


def _cloned(key: Authenticator, _asked: dict[str, Any]) -> None:
    key.count = -1


@pytest.mark.parametrize(
    "spoil", [_origin, _challenge, _unverified, _absent, _host, _other_key, _unknown, _handle, _cloned]
)
def test_what_is_not_right_does_not_sign_in(web: Web, key: Authenticator, spoil: Spoil) -> None:
    assert use(web.browser(), key).status_code == 302
    visitor = web.browser()
    asked = options(visitor, "/login/passkey")
    spoil(key, asked)
    response = visitor.post("/login/passkey", {"credential": key.get(asked)})
    assert response.status_code == 403
    assert "The passkey was not accepted." in response.text
    assert visitor.get("/me").status_code == 302


def test_an_answer_is_good_once_even_with_its_cookie(web: Web, key: Authenticator) -> None:
    visitor = web.browser()
    asked = options(visitor, "/login/passkey")
    cookie = visitor.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    answer, token = key.get(asked), visitor.token()
    assert visitor.post("/login/passkey", {"credential": answer}).status_code == 302
    thief = web.browser()
    thief.client.set_cookie(cookie.key, cookie.value)
    assert thief.client.post("/login/passkey", data={"csrf_token": token, "credential": answer}).status_code == 403


def test_an_answer_for_one_thing_is_none_for_another(web: Web, key: Authenticator) -> None:
    alice = web.browser("bob")
    asked = options(alice, "/confirm/passkey")
    assert alice.post("/login/passkey", {"credential": key.get(asked)}).status_code == 403
    late = options(alice, "/login/passkey")
    with alice.client.session_transaction() as session:
        session["asked"] = [*session["asked"][:2], time.time() - passkeys.ASKED_SECONDS - 1]
    assert alice.post("/login/passkey", {"credential": key.get(late)}).status_code == 403


BEGUN = '"id": "%s", "rawId": "%s", "type": "public-key", "response"'


@pytest.mark.parametrize(
    "answer",
    [
        *("", "x", "[]", "null", "7", '{"id": 7}', '{"id": {"a": 1}}', "[" * 20_000, "x" * 30_000, '{"id": "%s"}'),
        *(
            '{"id": "%s", "response": 7}',
            f"{{{BEGUN}: {{}}}}",
            f'{{{BEGUN}: {{"userHandle": 7}}}}',
            '{"id": "\\ud800"}',
        ),
    ],
)
def test_any_answer_gets_a_sentence(web: Web, key: Authenticator, answer: str) -> None:
    name = web.store.passkeys("alice")[0].credential
    visitor = web.browser()
    options(visitor, "/login/passkey")
    assert visitor.post("/login/passkey", {"credential": answer.replace("%s", name)}).status_code == 403
    alice = web.browser("chief")
    options(alice, "/account/passkeys")
    assert alice.post("/account/passkeys", {"credential": answer.replace("%s", name), "name": "x"}).status_code == 403


def test_a_disabled_account_has_no_passkeys(web: Web, key: Authenticator) -> None:
    web.store.set_disabled("alice", True, actor="chief")
    assert use(web.browser(), key).status_code == 403


def test_an_account_of_the_same_name_is_another_one(web: Web, key: Authenticator) -> None:
    web.store.remove_user("alice", actor="chief")
    web.store.add_user("alice", actor="chief")
    assert use(web.browser(), key).status_code == 403


def test_names_are_anything_and_shown_as_they_are(web: Web) -> None:
    alice = web.browser("alice")
    hostile = "<script>alert(1)</script>\u202e'\"" + "W" * 900
    add(alice, Authenticator(), hostile)
    page = alice.get("/account").text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    (known,) = web.store.passkeys("alice")
    assert len(known.name) <= factors.NAME_MAX * 10
    assert alice.post(f"/account/passkeys/{known.id}/name", {"name": " my   phone "}).status_code == 302
    assert web.store.passkeys("alice")[0].name == "my phone"
    assert alice.post(f"/account/passkeys/{known.id}/name", {"name": " "}).status_code == 400
    assert add(alice, Authenticator(), "").status_code == 400


def test_adding_one_signs_other_browsers_out(web: Web) -> None:
    there, here, bob = web.browser("alice"), web.browser("alice"), web.browser("bob")
    mine = max(one.id for one in web.store.sign_ins("alice"))
    assert add(here, Authenticator(), "").status_code == 400  # nothing was added
    assert there.get("/me").status_code == 200
    assert "other browsers are signed out" in add(here, Authenticator()).text
    assert [browser.get("/me").status_code for browser in (here, there, bob)] == [200, 302, 200]
    assert [one.id for one in web.store.sign_ins("alice")] == [mine]  # what is open in this browser goes on
    assert add(here, Authenticator(), "telephone").location == "/account#passkeys"
    web.store.add_passkey("alice", "c", b"k", 0, "n", actor="alice")
    assert here.get("/me").status_code == 302


def test_removing_one_signs_other_browsers_out(web: Web, key: Authenticator) -> None:
    here, there = web.browser(), web.browser()
    use(here, key)
    use(there, key)
    (known,) = web.store.passkeys("alice")
    assert "laptop" in here.get(f"/account/passkeys/{known.id}/remove").text
    assert here.post(f"/account/passkeys/{known.id}/remove").status_code == 302
    assert web.store.passkeys("alice") == []
    assert (here.get("/me").status_code, there.get("/me").status_code) == (200, 302)
    assert use(web.browser(), key).status_code == 403


def test_one_authenticator_is_added_once(web: Web, key: Authenticator) -> None:
    for name in ("alice", "bob"):
        browser = web.browser()
        if name == "alice":
            use(browser, key)
        else:
            browser.sign_in(name)
        assert add(browser, key).status_code == 409


def test_a_host_that_is_a_number_says_what_to_do(web: Web) -> None:
    object.__setattr__(web.settings, "web_url", "http://127.0.0.1:8080")
    response = web.browser().post("/login/passkey/options")
    assert response.status_code == 400
    assert "name of this host" in response.text


def test_limits_of_the_store(web: Web) -> None:
    store = web.store
    for number in range(factors.PASSKEYS_MAX):
        store.add_passkey("bob", f"c{number}", b"k", 0, "n", actor="bob")
    with pytest.raises(Conflict, match="enough"):
        store.add_passkey("bob", "more", b"k", 0, "n", actor="bob")
    with pytest.raises(NotFound):
        store.remove_passkey("alice", store.passkeys("bob")[0].id, actor="alice")
    assert store.find_passkey("x" * 5000) is None
    store.remove_factors("bob", actor="chief")
    assert store.passkeys("bob") == []


def test_what_may_be_used_once() -> None:
    now = [0.0]
    once = Once(lambda: now[0])
    assert once.use("a", 10)
    assert not once.use("a", 10)
    now[0] = 11
    assert once.use("a", 10)
    for number in range(MAX_TRACKED + 5):
        once.use(str(number), 10)
    assert len(once._used) == MAX_TRACKED
    assert not once.use("more", 10)  # rather nobody than somebody twice


def test_tries_are_limited_by_address(web: Web, key: Authenticator) -> None:
    visitor = web.browser()
    token = visitor.token()
    codes = [
        visitor.client.post("/login/passkey", data={"csrf_token": token, "credential": "x"}).status_code
        for _ in range(41)
    ]
    assert codes[0] == 403
    assert codes[-1] == 429
