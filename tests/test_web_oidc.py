"""Signing in with a real OpenID provider: whose account it opens, linking, confirming, invitations; forged answers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from authlib.integrations.base_client import sync_openid
from authlib.integrations.flask_client import FlaskOAuth2App

from tests.support.provider import CLIENT, SECRET, Person, provider
from tests.support.web import Browser, Web, web_fixture  # noqa: F401
from webadmin import oidc
from workspaces import accounts, settings
from workspaces.errors import SettingsError
from workspaces.model import Role
from workspaces.settings import Oidc

pytestmark = pytest.mark.slow

BACK = "http://localhost/login/oidc/callback"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider(BACK) as found:
        yield found


@pytest.fixture(autouse=True)
def configured(web: Web, issuer: str) -> Iterator[None]:
    """The host knows the provider; accounts are linked by hand."""
    (web.settings.keys / "oidc-secret").write_text(SECRET + "\n")
    (web.settings.keys / "oidc-secret").chmod(0o600)
    allow(web, issuer)
    yield
    web.app.extensions.pop(oidc._EXTENSION, None)


def allow(web: Web, issuer: str, claim: str = "", create: str = "") -> None:
    found = Oidc(issuer, CLIENT, "Example University", claim=claim, create=create)
    object.__setattr__(web.settings, "oidc", found)


def go(browser: Browser, person: Person, path: str = "/login/oidc", *, refuse: bool = False) -> str:
    """From a link of a page to the path that the provider sends back to."""
    if found := re.fullmatch("(/account)/provider/link|(/invite/.*)/provider", path):  # these have the browser's key
        link = re.search(rf'href="({path}\?key=[^"]+)"', browser.get(found[1] or found[2]).text)
        assert link, path
        path = unescape(link[1])
    response = browser.get(path)
    assert response.status_code == 302, response.text
    return person.follow(response.location, BACK, refuse=refuse)


def subject(web: Web, name: str, issuer: str, sub: str) -> None:
    web.store.link_identity(name, issuer, sub, sub, actor="test")


def test_a_linked_account_is_signed_in(web: Web, issuer: str) -> None:
    subject(web, "alice", issuer, "u-1")
    visitor = web.browser()
    assert "Sign in with Example University" in visitor.get("/login?next=/me").text
    asked = visitor.get("/login/oidc?next=/me")
    sent = parse_qs(urlsplit(asked.location).query)
    assert sent["code_challenge_method"] == ["S256"]
    assert len(sent["state"][0]) >= 20
    assert len(sent["nonce"][0]) >= 16
    assert sent["redirect_uri"] == [BACK]
    back = Person(sub="u-1").follow(asked.location, BACK)
    assert visitor.get(back).location == "/me"
    assert visitor.get("/me").status_code == 200
    assert web.store.sign_ins("alice")[0].via == "oidc"
    assert web.store.events(1)[0].data["by"] == "oidc"
    assert web.store.identities("alice")[0].last_used_at


def test_nobody_else_is(web: Web, issuer: str) -> None:
    subject(web, "alice", issuer, "u-1")
    for person in (Person(sub="u-2"), Person(sub="alice"), Person(sub="u-3", preferred_username="alice")):
        visitor = web.browser()
        response = visitor.get(go(visitor, person))
        assert response.status_code == 403
        assert "No account here belongs to that sign-in." in response.text
        assert visitor.get("/me").status_code == 302
    web.store.set_disabled("alice", True, actor="chief")
    visitor = web.browser()
    assert visitor.get(go(visitor, Person(sub="u-1"))).status_code == 403
    assert len(web.store.users()) == 3  # no account is made by itself


def test_who_turns_away_is_told(web: Web) -> None:
    visitor = web.browser()
    response = visitor.get(go(visitor, Person(sub="u"), refuse=True))
    assert response.status_code == 403
    assert "You did not sign in there." in response.text


def test_a_name_at_the_provider_opens_an_account_that_nothing_more_protects(web: Web, issuer: str) -> None:
    allow(web, issuer, claim="preferred_username")
    web.store.set_challenge_role("bob", "als", Role.REVIEWER, actor="chief")
    for name in ("chief", "bob", "nobody", "../../etc", "<script>"):
        visitor = web.browser()
        assert visitor.get(go(visitor, Person(sub=f"s-{name}", preferred_username=name))).status_code == 403
    visitor = web.browser()
    assert visitor.get(go(visitor, Person(sub="s-alice", preferred_username="alice"))).location == "/"
    # It is linked now: another one there who gets that name later does not get the account.
    other = web.browser()
    assert other.get(go(other, Person(sub="s-other", preferred_username="alice"))).status_code == 403
    again = web.browser()
    assert again.get(go(again, Person(sub="s-alice", preferred_username="renamed"))).location == "/"
    web.store.add_user("dora", actor="test")
    web.store.set_totp_secret("dora", "A" * 32, actor="test")
    factor = web.browser()
    assert factor.get(go(factor, Person(sub="s-dora", preferred_username="dora"))).status_code == 403


def test_an_address_must_be_verified_and_one_persons(web: Web, issuer: str) -> None:
    allow(web, issuer, claim="email")
    web.store.set_email("alice", "a@example.org", actor="test")
    for claims in (
        {"email": "a@example.org"},
        {"email": "a@example.org", "email_verified": False},
        {"email": "a@example.org", "email_verified": "true"},
        {"email": "b@example.org", "email_verified": True},
    ):
        visitor = web.browser()
        assert visitor.get(go(visitor, Person(sub="e", **claims))).status_code == 403, claims
    right = Person(sub="e", email="a@example.org", email_verified=True)
    web.store.set_email("bob", "a@example.org", actor="test")
    visitor = web.browser()
    assert visitor.get(go(visitor, right)).status_code == 403
    web.store.set_email("bob", None, actor="test")
    assert visitor.get(go(visitor, Person(**right.claims))).location == "/"
    assert web.store.identities("alice")[0].shown == "a@example.org"


def test_accounts_are_made_where_the_settings_say_so(web: Web, issuer: str) -> None:
    allow(web, issuer, claim="preferred_username", create="als")
    visitor = web.browser()
    assert visitor.get(go(visitor, Person(sub="n-1", preferred_username="erna"))).location == "/"
    assert web.store.user("erna").role is Role.PARTICIPANT
    assert web.store.workspace("als/erna").members == ("erna",)
    assert web.store.events(kind="user.added")[0].actor == "oidc"
    for name in ("Not A Name", "../x", "w" * 500):
        visitor = web.browser()
        assert visitor.get(go(visitor, Person(sub=f"n-{name[:9]}", preferred_username=name))).status_code == 403


def test_a_person_links_and_unlinks(web: Web, issuer: str) -> None:
    alice = web.browser("alice")
    assert "Link my account at Example University" in alice.get("/account").text
    person = Person(sub="l-1", email="<b>x</b>@example.org")
    assert alice.get(go(alice, person, "/account/provider/link")).location == "/account#provider"
    assert "&lt;b&gt;x" in alice.get("/account").text
    (known,) = web.store.identities("alice")
    bob = web.browser("bob")
    taken = bob.get(go(bob, Person(sub="l-1"), "/account/provider/link"))
    assert taken.status_code == 409
    web.store._db().execute("UPDATE sign_ins SET proven_at = proven_at - 601")
    assert alice.get("/account/provider/link").location.startswith("/confirm")
    assert alice.post(f"/account/provider/{known.id}/unlink").location.startswith("/confirm")
    assert alice.get(go(alice, Person(sub="l-1"), "/confirm/provider?next=/account")).location == "/account"
    assert bob.get(go(bob, Person(sub="l-1"), "/confirm/provider")).status_code == 403
    assert alice.post(f"/account/provider/{known.id}/unlink").status_code == 302
    visitor = web.browser()
    assert visitor.get(go(visitor, Person(sub="l-1"))).status_code == 403


def test_an_invitation_is_accepted_with_the_provider(web: Web) -> None:
    web.store.add_user("dora", actor="test")
    token = accounts.invite(web.store, "dora", actor="chief")
    visitor = web.browser()
    assert "Use my account at Example University" in visitor.get(f"/invite/{token}").text
    assert visitor.get(go(visitor, Person(sub="i-1"), f"/invite/{token}/provider")).location == "/"
    assert visitor.get("/me").status_code == 200
    assert not web.store.user("dora").has_password
    assert web.browser().get(f"/invite/{token}").status_code == 404
    late = web.browser()
    again = accounts.invite(web.store, "dora", actor="chief")
    back = go(late, Person(sub="i-2"), f"/invite/{again}/provider")
    web.store.withdraw_invitation("dora", actor="chief")
    assert late.get(back).status_code == 404


def test_an_invitation_does_not_link_an_account_that_has_a_second_factor(web: Web) -> None:
    token = accounts.invite(web.store, "alice", actor="chief")
    visitor = web.browser()
    back = go(visitor, Person(sub="i-3"), f"/invite/{token}/provider")
    web.store.set_totp_secret("alice", "A" * 32, actor="test")
    assert "Use my account" not in visitor.get(f"/invite/{token}").text
    assert visitor.get(back).status_code == 403
    assert web.store.identities("alice") == []
    assert web.store.invitation_of("alice")


def test_who_has_no_password_sets_one_and_keeps_a_way_in(web: Web, issuer: str) -> None:
    web.store.add_user("dora", actor="test")
    subject(web, "dora", issuer, "d-1")
    dora = web.browser()
    assert dora.get(go(dora, Person(sub="d-1"))).location == "/"
    (known,) = web.store.identities("dora")
    assert dora.post(f"/account/provider/{known.id}/unlink").status_code == 409
    assert web.store.identities("dora")
    assert "Current password" not in dora.get("/me").text
    new = {"new": "a long password", "again": "a long password"}
    web.store._db().execute("UPDATE sign_ins SET proven_at = proven_at - 601")
    assert dora.post("/me/password", new).location.startswith("/confirm")
    assert not web.store.user("dora").has_password
    assert dora.get(go(dora, Person(sub="d-1"), "/confirm/provider?next=/me")).location == "/me"
    assert dora.post("/me/password", new).location == "/me#password"
    assert web.store.sign_ins("dora")[0].via == "oidc"
    assert dora.post("/me/password", {"new": "another password", "again": "another password"}).status_code == 403
    assert web.browser().sign_in("dora", "a long password").status_code == 302
    assert dora.post(f"/account/provider/{known.id}/unlink").status_code == 302


def test_a_sign_in_of_long_ago_at_the_provider_confirms_nothing(
    web: Web, issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject(web, "alice", issuer, "u-1")
    claims = oidc._claims
    for ago, status in ((3600, 302), (60, 200), (-(10**6), 200)):
        monkeypatch.setattr(oidc, "_claims", lambda client: {**claims(client), "auth_time": time.time() - ago})  # noqa: B023
        alice = web.browser()
        assert alice.get(go(alice, Person(sub="u-1"))).location == "/"
        assert alice.get("/account/codes").status_code == status, ago


def test_a_sign_in_that_asked_nobody_is_no_proof(web: Web, issuer: str) -> None:
    """The provider has a session of its own: it sends people back without a question, and says when it last asked."""
    subject(web, "alice", issuer, "u-1")
    person, browsers = Person(sub="u-1"), (web.browser(), web.browser())
    for browser in browsers:
        assert browser.get(go(browser, person)).location == "/"
        person.claims = {}  # what would be typed there
    (later, first) = sorted(web.store.sign_ins("alice"), key=lambda one: -one.id)
    assert later.proven_at == first.proven_at == int(first.proven_at)


def test_a_provider_that_does_not_say_when_it_asked_proves_nothing(
    web: Web, issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject(web, "alice", issuer, "u-1")
    web.store.add_user("dora", actor="test")
    token = accounts.invite(web.store, "dora", actor="chief")
    claims = oidc._claims

    def silent(client: FlaskOAuth2App) -> dict[str, Any]:
        return {key: value for key, value in claims(client).items() if key != "auth_time"}

    monkeypatch.setattr(oidc, "_claims", silent)
    alice, dora = web.browser(), web.browser()
    assert alice.get(go(alice, Person(sub="u-1"))).location == "/"
    assert dora.get(go(dora, Person(sub="i-1"), f"/invite/{token}/provider")).location == "/"
    for browser in (alice, dora):
        assert browser.get("/me").status_code == 200
        assert browser.get("/account/codes").location.startswith("/confirm")
    refused = alice.get(go(alice, Person(sub="u-1"), "/confirm/provider"))
    assert refused.status_code == 403
    assert "sign out" not in refused.text.lower().partition("<main")[2]  # that would not help
    monkeypatch.setattr(oidc, "_claims", claims)
    assert alice.get(go(alice, Person(sub="u-1"), "/confirm/provider?next=/account")).location == "/account"
    assert alice.get("/account/codes").status_code == 200


# forged answers


@pytest.mark.parametrize("key", ["", "?key=", "?key=forged", "?key={other}"])
def test_another_site_begins_no_linking(web: Web, key: str) -> None:
    """It could have signed the browser in as somebody else at the provider before."""
    alice, token = web.browser("alice"), accounts.invite(web.store, "bob", actor="chief")
    key = key.format(other=web.browser("bob").token())
    assert alice.get(f"/account/provider/link{key}").status_code == 403
    assert alice.get(f"/invite/{token}/provider{key}").status_code == 403


def test_a_token_for_another_client_is_refused(web: Web, issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject(web, "alice", issuer, "u-1")
    decode = sync_openid.jwt.decode

    def for_another(*args: Any, **options: Any) -> Any:
        token = decode(*args, **options)
        token.claims |= {"aud": "another", "azp": CLIENT}
        return token

    monkeypatch.setattr(sync_openid.jwt, "decode", for_another)
    visitor = web.browser()
    assert visitor.get(go(visitor, Person(sub="u-1"))).status_code == 403
    assert visitor.get("/me").status_code == 302


def test_an_answer_is_for_the_browser_that_asked_and_for_once(web: Web, issuer: str) -> None:
    subject(web, "alice", issuer, "u-1")
    asker, victim = web.browser(), web.browser()
    back = go(asker, Person(sub="u-1"))
    assert victim.get(back).status_code == 403  # signing somebody else in with one's own account
    assert asker.get(back).location == "/"
    asker.post("/logout")
    assert asker.get(back).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        {"state": ["forged"]},
        {"code": ["forged"]},
        {"iss": ["https://evil.example"]},
        {"code": []},
        {"state": []},
    ],
)
def test_what_was_changed_on_the_way_is_refused(web: Web, issuer: str, change: dict[str, list[str]]) -> None:
    subject(web, "alice", issuer, "u-1")
    visitor = web.browser()
    path, _, query = go(visitor, Person(sub="u-1")).partition("?")
    response = visitor.get(f"{path}?{urlencode({**parse_qs(query), **change}, doseq=True)}")
    assert response.status_code == 403
    assert visitor.get("/me").status_code == 302


def test_nonce_and_verifier_are_looked_at(web: Web, issuer: str) -> None:
    subject(web, "alice", issuer, "u-1")
    for name in ("nonce", "code_verifier"):
        visitor = web.browser()
        back = go(visitor, Person(sub="u-1"))
        with visitor.client.session_transaction() as cookie:
            (key,) = [key for key in cookie if key.startswith("_state_provider_")]
            cookie[key] = {**cookie[key], "data": {**cookie[key]["data"], name: "x" * 43}}
        assert visitor.get(back).status_code == 403, name


def test_what_the_link_was_for_cannot_be_changed_on_the_way(web: Web, issuer: str) -> None:
    bob = web.browser("bob")
    back = go(bob, Person(sub="u-9"), "/account/provider/link")
    bob.post("/logout")
    bob.sign_in("alice")  # another person at the same browser
    assert bob.get(back).status_code == 403
    assert web.store.identities("alice") == []


def test_nothing_is_linked_from_elsewhere(web: Web) -> None:
    web.store.set_role("alice", Role.ADMIN, actor="chief")
    alice = web.browser("alice", REMOTE_ADDR="192.0.2.1")
    back = go(alice, Person(sub="u-9"), "/account/provider/link")
    alice.environ = {"REMOTE_ADDR": "192.0.2.99"}
    assert alice.get(back).location.startswith("/login")
    assert web.store.identities("alice") == []


def test_a_provider_that_does_not_answer_or_is_another_one(web: Web, issuer: str) -> None:
    for wrong in ("http://localhost:1", issuer + "/"):
        allow(web, wrong)
        response = web.browser().get("/login/oidc")
        assert response.status_code == 502, wrong
    (web.settings.keys / "oidc-secret").chmod(0o644)
    allow(web, issuer)
    assert "Others may read" not in web.browser().get("/login/oidc").text


def test_a_provider_that_hangs_holds_few_threads(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Semaphore(0), threading.Event()

    def hang(_self: object) -> dict[str, str]:
        asked.release()
        answer.wait(20)
        return {}

    monkeypatch.setattr(FlaskOAuth2App, "load_server_metadata", hang)
    with ThreadPoolExecutor(oidc.PLACES) as pool:
        waiting = [pool.submit(web.browser().get, "/login/oidc") for _ in range(oidc.PLACES)]
        for _ in waiting:
            assert asked.acquire(timeout=10)
        assert web.browser().get("/login/oidc").status_code == 502
        assert not asked.acquire(blocking=False)
        answer.set()
        assert [one.result().status_code for one in waiting] == [502] * oidc.PLACES


def test_returning_is_limited_by_address(web: Web) -> None:
    visitor = web.browser()
    codes = [visitor.get("/login/oidc/callback?state=x&code=y").status_code for _ in range(41)]
    assert (codes[0], codes[-1]) == (403, 429)


# settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('issuer = "ftp://x"\nclient_id = "a"', "must be https"),
        ('issuer = "http://id.example"\nclient_id = "a"', "on this host only"),
        ('issuer = "https://id.example"', "needs .oidc. client_id"),
        ('issuer = "https://id.example"\nclient_id = "a"\nclaim = "sub"', "preferred_username or email"),
        ('issuer = "https://id.example"\nclient_id = "a"\ncreate = "als"', "create needs"),
        ('issuer = "https://id.example"\nclient_id = "a"\nscope = "email"', "openid"),
        ('secret = "x"', "not a setting"),
    ],
)
def test_settings_are_checked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "workspaces.toml").write_text(f"[oidc]\n{text}\n")
    with pytest.raises(SettingsError, match=said):
        settings.load(tmp_path)


def test_settings_of_access(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.toml"
    path.write_text(
        '[access]\nidle = 1\nsecond_factor = "staff"\n[oidc]\nissuer = "https://id.example/x"\nclient_id = "a"\n'
    )
    found = settings.load(tmp_path)
    assert (found.access.idle, found.access.second_factor) == (3600, "staff")
    assert found.oidc is not None
    assert found.oidc.name == "id.example"
    for wrong in ('second_factor = "some"', "idle = 0"):
        path.write_text(f"[access]\n{wrong}\n")
        with pytest.raises(SettingsError):
            settings.load(tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        found.oidc.secret(tmp_path)
