"""Passwords cost a core and tens of MiB each: who has them hashed, how many at once, and what a rush gets."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest
import requests
from argon2 import PasswordHasher

from tests.support.chromium import served
from tests.support.gateway import until
from tests.support.quick import CheapHasher
from tests.support.web import CHEAP_HASH, PASSWORD, Web, web_fixture  # noqa: F401
from webadmin import auth, oidc
from webadmin.serving import bridge
from webadmin.throttle import ACCOUNT, TOTAL
from workspaces import accounts, recovery
from workspaces.model import Role

pytestmark = pytest.mark.slow


def test_a_new_password_is_hashed_only_for_who_knows_the_current_one(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing takes a core and tens of MiB: whoever is signed in could have it done in a loop."""
    hashed: list[str] = []
    hash_password = accounts.hash_password
    monkeypatch.setattr(accounts, "hash_password", lambda word: hashed.append(word) or hash_password(word))  # type: ignore[func-returns-value]
    alice = web.browser("alice")
    form = {"new": "a new long password", "again": "a new long password"}
    for _ in range(int(ACCOUNT.burst) - 2):
        assert alice.post("/me/password", {**form, "current": "guess"}).status_code == 403
    short = alice.post("/me/password", {"current": "guess", "new": "x", "again": "x"})
    assert short.status_code == 400  # before the current one is looked at: no try is lost
    assert hashed == []
    assert alice.post("/me/password", {**form, "current": PASSWORD}).status_code == 302
    assert hashed == ["a new long password"]


INVITATION = "token-of-an-invitation"
HASHING = [
    ("", "/login", {"name": "alice", "password": PASSWORD}),
    ("alice", "/confirm", {"password": PASSWORD}),
    ("alice", "/me/password", {"current": PASSWORD, "new": "another long one", "again": "another long one"}),
    ("", f"/invite/{INVITATION}", {"new": "another long one", "again": "another long one"}),
    ("chief", "/admin/users", {"name": "carla", "challenge": "als", "password": "another long one"}),
    ("chief", "/admin/users/bob/password", {"password": "another long one"}),
]


@pytest.mark.parametrize(("who", "path", "form"), HASHING, ids=[path for _, path, _ in HASHING])
def test_whatever_hashes_takes_its_turn(
    web: Web, monkeypatch: pytest.MonkeyPatch, who: str, path: str, form: dict[str, str]
) -> None:
    web.store.invite("bob", recovery.digest(INVITATION), time.time() + 3600, actor="test")
    browser = web.browser(who)
    token, turns, left = browser.token(), auth._turns._value, list[int]()

    def hasher() -> PasswordHasher:
        left.append(auth._turns._value)
        return CheapHasher()

    monkeypatch.setattr(accounts, "PasswordHasher", hasher)
    assert browser.client.post(path, data={"csrf_token": token, **form}).status_code == 302
    assert set(left) == {turns - 1}
    assert auth._turns._value == turns


@pytest.mark.parametrize(("who", "path", "form"), HASHING, ids=[path for _, path, _ in HASHING])
def test_who_finds_no_place_is_told_to_come_back(
    web: Web, monkeypatch: pytest.MonkeyPatch, who: str, path: str, form: dict[str, str]
) -> None:
    web.store.invite("bob", recovery.digest(INVITATION), time.time() + 3600, actor="test")
    browser = web.browser(who)
    token, one = browser.token(), threading.BoundedSemaphore(1)
    with monkeypatch.context() as patch:
        for places in ("_places", "_places_apart"):
            patch.setattr(auth, places, one)
        with auth.hashing():
            for _ in range(int(TOTAL.burst) + 1 if path == "/login" else 1):
                response = browser.client.post(path, data={"csrf_token": token, **form})
                assert response.status_code == 503
                assert response.headers["Retry-After"] == str(auth.COME_BACK)
                assert "Too many people are signing in right now." in response.text
                assert form.get("password", "another long one") not in response.text
                assert "<form" in response.text
    # No try was used up, and nothing was done.
    assert browser.client.post(path, data={"csrf_token": token, **form}).status_code == 302


def test_pages_go_on_while_many_sign_in(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    check = accounts.check_login

    def slow(*args: object) -> accounts.Verdict:
        begun.release()
        assert go_on.wait(60)
        return check(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(accounts, "check_login", slow)
    monkeypatch.setattr(auth, "_places_apart", threading.BoundedSemaphore(2 * bridge.THREADS))
    rush = 3 * bridge.THREADS
    names = [web.store.add_user(f"guest{n}", Role.PARTICIPANT, CHEAP_HASH, actor="test").name for n in range(rush)]

    def token(session: requests.Session) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', session.get(f"{url}/login", timeout=20).text)
        assert found
        return unescape(found[1])

    def sign_in(name: str, session: requests.Session, token: str) -> int:
        form = {"csrf_token": token, "name": name, "password": PASSWORD}
        answer = session.post(f"{url}/login", data=form, allow_redirects=False, timeout=60)
        return answer.status_code

    with served(web.app) as url, ThreadPoolExecutor(rush) as pool:
        people = [(name, session, token(session)) for name, session in ((name, requests.Session()) for name in names)]
        try:
            waiting = [pool.submit(sign_in, *person) for person in people]
            for _ in range(auth.TURNS):
                assert begun.acquire(timeout=20)
            until(lambda: sum(one.done() for one in waiting) == bridge.THREADS)
            assert requests.get(f"{url}/login", timeout=20).status_code == 200
            assert not begun.acquire(blocking=False)
        finally:
            go_on.set()
        assert Counter(one.result() for one in waiting) == {302: 2 * bridge.THREADS, 503: bridge.THREADS}
    assert auth.PLACES_APART < bridge.APART_THREADS  # so that there is always one to say that there is no place
    assert auth.PLACES + oidc.PLACES < bridge.THREADS  # whatever waits for a provider as well
