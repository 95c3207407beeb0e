"""Sign-ins in the store: what the cookie shows, how long they last, and ending them from the account's page."""

from __future__ import annotations

import time

import pytest

from tests.support.web import Browser, Web, web_fixture  # noqa: F401
from webadmin import session as sessions
from webadmin.display import browser_name
from workspaces.errors import StoreBusy
from workspaces.model import Role
from workspaces.settings import Access
from workspaces.store import signins

pytestmark = pytest.mark.slow

HOUR = 3600.0
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def age(web: Web, user: str, **hours: float) -> None:
    """Make the sign-ins of `user` look older."""
    for column, value in hours.items():
        web.store._db().execute(
            f"UPDATE sign_ins SET {column} = {column} - ? WHERE user_id = ?", [value * HOUR, web.store.user(user).id]
        )


def cookie(browser: Browser) -> str:
    with browser.client.session_transaction() as session:
        return str(session[sessions.TOKEN])


def test_the_store_knows_a_digest_of_what_the_cookie_shows(web: Web) -> None:
    alice = web.browser("alice", HTTP_USER_AGENT=LINUX, REMOTE_ADDR="192.0.2.7")
    token = cookie(alice)
    assert token not in "\n".join(web.store._db().conn.iterdump())
    (one,) = web.store.sign_ins("alice")
    assert (one.via, one.address, one.browser) == ("password", "192.0.2.7", LINUX)
    with alice.client.session_transaction() as session:
        session[sessions.TOKEN] = sessions._digest(token)  # whoever reads the database
    assert alice.get("/me").status_code == 302


@pytest.mark.parametrize("shown", ["", "x", "ä" * 5000, 7, None, ["x"]])
def test_any_other_token_is_nobodys(web: Web, shown: object) -> None:
    alice = web.browser("alice")
    with alice.client.session_transaction() as session:
        session[sessions.TOKEN] = shown
    assert alice.get("/me").status_code == 302


def test_signing_in_again_takes_the_place_of_the_sign_in_before(web: Web) -> None:
    alice = web.browser("alice")
    token, (before,) = cookie(alice), web.store.sign_ins("alice")
    assert alice.post("/login", {"name": "alice", "password": "correct horse"}).status_code == 302
    (after,) = web.store.sign_ins("alice")
    assert after.id != before.id
    assert cookie(alice) != token


def test_signing_out_is_not_only_the_browsers_word(web: Web) -> None:
    alice = web.browser("alice")
    token = cookie(alice)
    alice.post("/logout")
    assert web.store.sign_ins("alice") == []
    with alice.client.session_transaction() as session:
        session[sessions.TOKEN] = token
    assert alice.get("/me").status_code == 302


@pytest.mark.parametrize(
    ("name", "still", "over"),
    [
        ("alice", {"seen_at": 11.9}, {"seen_at": 12.1}),
        ("alice", {"created_at": 167.9}, {"created_at": 168.1}),
        ("chief", {"seen_at": 1.9}, {"seen_at": 2.1}),
        ("chief", {"created_at": 11.9}, {"created_at": 12.1}),
    ],
)
def test_a_sign_in_ends_when_it_is_idle_or_old(
    web: Web, name: str, still: dict[str, float], over: dict[str, float]
) -> None:
    for hours, status in ((still, 200), (over, 302)):
        browser = web.browser(name)
        age(web, name, **hours)
        assert browser.get("/me").status_code == status


def test_who_may_decide_somewhere_is_signed_out_sooner(web: Web) -> None:
    alice = web.browser("alice")
    age(web, "alice", seen_at=3)
    web.store.set_challenge_role("alice", "als", Role.REVIEWER, actor="chief")
    assert alice.get("/me").status_code == 302


def test_the_limits_are_settings(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = web.browser("alice")
    age(web, "alice", seen_at=3)
    settings = web.app.extensions["workspaces"].settings
    object.__setattr__(settings, "access", Access(idle=2 * HOUR))
    assert alice.get("/me").status_code == 302


def test_a_page_that_keeps_itself_up_to_date_is_nobody_there(web: Web) -> None:
    alice = web.browser("alice")
    age(web, "alice", seen_at=1)
    before = web.store.sign_ins("alice")
    assert alice.get("/me/live", headers={"X-Fragment": "1"}).status_code == 200
    assert alice.get("/live?topic=me", headers={"Accept": "text/event-stream"}).status_code == 200
    assert web.store.sign_ins("alice") == before
    assert alice.get("/me").status_code == 200
    assert time.time() - web.store.sign_ins("alice")[0].seen_at < 60


def test_being_there_is_noted_once_a_minute_at_most(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = web.browser("alice")
    version = web.store.data_version()
    for _ in range(3):
        assert alice.get("/account").status_code == 200
    assert web.store.data_version() == version
    age(web, "alice", seen_at=1)

    def busy(_sign_in_id: int) -> None:
        raise StoreBusy("busy")

    monkeypatch.setattr(web.store, "touch_sign_in", busy)
    assert alice.get("/account").status_code == 200  # no reason to keep anybody from a page


def test_a_request_reads_the_account_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    chief = web.browser("chief")
    asked: list[str] = []
    find = web.store.find_sign_in
    monkeypatch.setattr(web.store, "find_sign_in", lambda digest: asked.append(digest) or find(digest))  # type: ignore[func-returns-value]
    assert chief.get("/admin/jobs").status_code == 200
    assert len(asked) == 1


def test_one_sign_in_is_ended_from_another_browser(web: Web) -> None:
    here, there = web.browser("alice"), web.browser("alice", HTTP_USER_AGENT=LINUX)
    page = here.get("/account").text
    assert "Firefox 140 on Linux" in page
    assert page.count("this browser") == 1
    other = next(one for one in web.store.sign_ins("alice") if one.browser == LINUX)
    assert here.post(f"/account/sign-ins/{other.id}/end").status_code == 302
    assert there.get("/me").status_code == 302
    assert here.get("/me").status_code == 200
    mine = web.store.sign_ins("alice")[0].id
    assert here.post(f"/account/sign-ins/{mine}/end").location == "/login"
    assert here.get("/me").status_code == 302
    assert [event.kind for event in web.store.events(2)] == ["signin.ended", "signin.ended"]


def test_signing_out_everywhere_else(web: Web) -> None:
    here, *others = [web.browser("alice") for _ in range(3)]
    bob = web.browser("bob")
    response = here.post("/account/sign-ins/end", follow_redirects=True)
    assert "2 other browsers are signed out." in response.text
    assert [browser.get("/me").status_code for browser in (here, *others, bob)] == [200, 302, 302, 200]


def test_a_browser_may_call_itself_anything(web: Web) -> None:
    hostile = '<script>alert(1)</script>"\u202e\x1b[31m' + "W" * 1000
    web.store.begin_sign_in("alice", "digest", via="password", address="'><b>", browser=hostile)
    (one,) = web.store.sign_ins("alice")
    assert len(one.browser) <= signins.BROWSER_MAX * 2
    page = web.browser("alice").get("/account").text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "'><b>" not in page


def test_a_person_has_so_many_sign_ins_and_old_ones_go(web: Web) -> None:
    first = web.store.begin_sign_in("alice", "first", via="password", address="a", browser="b")
    for number in range(signins.AT_ONCE):
        web.store.begin_sign_in("alice", f"{number}", via="password", address="a", browser="b")
    assert first.id not in {one.id for one in web.store.sign_ins("alice")}
    assert len(web.store.sign_ins("alice")) == signins.AT_ONCE
    age(web, "alice", seen_at=24 * 31)
    web.store.begin_sign_in("bob", "bobs", via="password", address="a", browser="b")
    assert web.store.sign_ins("alice") == []


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (LINUX, "Firefox 140 on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/141.0 Safari/537.36 Edg/141.0",
            "Edge 141 on Windows",
        ),
        ("Mozilla/5.0 (Linux; Android 16) Chrome/141.0.0.0 Mobile Safari/537.36", "Chrome 141 on Android"),
        ("Mozilla/5.0 (Macintosh; Intel) Version/19.0 Safari/605.1.15", "Safari 19 on macOS"),
        ("curl/8.9", "curl/8.9"),
        ("", "?"),
    ],
)
def test_browsers_are_called_by_their_names(agent: str, name: str) -> None:
    assert browser_name(agent) == name


def test_the_account_is_a_link_on_every_page(web: Web) -> None:
    assert '<a href="/account"' in web.browser("alice").get("/me").text
