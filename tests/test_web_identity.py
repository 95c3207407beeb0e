"""One-time codes at the sign-in page, and options of keys on the participant's page."""

from __future__ import annotations

import time

import pytest

from tests.support.sample import public_key
from tests.support.web import PASSWORD, Browser, Web, web_fixture  # noqa: F401
from webadmin import throttle
from webadmin.context import parts
from webadmin.throttle import Throttle
from workspaces import totp
from workspaces.accounts import begin_totp
from workspaces.throttle import Buckets, Rate

pytestmark = pytest.mark.slow


@pytest.fixture
def secret(web: Web) -> str:
    return begin_totp(web.store, "alice", actor="chief")[0]


def code(secret: str, steps: int = 0) -> str:
    return totp._totp(secret).generate(int(time.time()) + 30 * steps).decode()


def inside(browser: Browser) -> bool:
    return browser.get("/me").status_code == 200


def test_password_and_code_open_the_page_once(web: Web, secret: str) -> None:
    digits, browser = code(secret), web.browser()
    assert browser.sign_in("alice", code=digits).status_code == 302
    assert inside(browser)
    again = web.browser()
    assert again.sign_in("alice", code=digits).status_code == 403
    assert not inside(again)


@pytest.mark.parametrize(
    ("password", "digits"), [(PASSWORD, None), (PASSWORD, ""), (PASSWORD, "000"), ("wrong", "right"), ("", "right")]
)
def test_anything_less_does_not_and_says_nothing_more(web: Web, secret: str, password: str, digits: str | None) -> None:
    browser = web.browser()
    data = {} if digits is None else {"code": code(secret) if digits == "right" else digits}
    refused = browser.sign_in("alice", password, **data)
    assert refused.status_code == 403
    assert not inside(browser)
    nobody = web.browser().sign_in("nobody", password, **data)

    def said(text: str) -> str:
        return text[text.index('id="login-error"') : text.index("<form", text.index('id="login-error"'))]

    assert said(refused.text) == said(nobody.text)
    assert browser.sign_in("alice", code=code(secret)).status_code == 302  # the code was not used up


def test_without_codes_the_field_may_be_left_or_filled(web: Web) -> None:
    assert web.browser().sign_in("bob", code="").status_code == 302
    assert web.browser().sign_in("bob", code="123456").status_code == 302


def test_a_code_for_the_web_is_none_for_ssh_any_more(web: Web, secret: str) -> None:
    """Both use it up in the same place."""
    web.browser().sign_in("alice", code=code(secret))
    step = totp.matching_step(secret, code(secret), time.time())
    assert step is not None
    assert not web.store.accept_totp_step("alice", secret, step)


def test_a_new_secret_ends_sessions(web: Web) -> None:
    browser, other = web.browser("alice"), web.browser("bob")
    begin_totp(web.store, "alice", actor="chief")
    assert not inside(browser)
    assert inside(other)


def test_who_is_signed_in_changes_the_password_without_a_code(web: Web, secret: str) -> None:
    browser = web.browser()
    browser.sign_in("alice", code=code(secret))
    form = {"current": PASSWORD, "new": "another password", "again": "another password"}
    assert browser.post("/me/password", form).status_code == 302
    assert web.browser().sign_in("alice", "another password").status_code == 403
    assert web.browser().sign_in("alice", "another password", code=code(secret, 1)).status_code == 302


def test_wrong_codes_after_the_right_password_run_out(
    web: Web, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From however many addresses; passwords that are wrong do not count, so nobody can lock a rival out."""
    with web.app.app_context():
        monkeypatch.setattr(parts().throttle, "_codes", Buckets(Rate(3, 1e9)))
    for n in range(5):
        web.browser(REMOTE_ADDR=f"192.0.2.{n}").sign_in("alice", "wrong", code="000000")
    for n in range(3):
        assert web.browser(REMOTE_ADDR=f"198.51.100.{n}").sign_in("alice", code="none").status_code == 403
    assert web.browser(REMOTE_ADDR="203.0.113.1").sign_in("alice", code=code(secret)).status_code == 403
    assert "too many wrong codes for 'alice'" in caplog.text


def test_codes_that_nobody_looks_at_do_not_lengthen_the_pause(
    web: Web, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(Throttle, "wrong_code", lambda _, account: counted.append(account))
    monkeypatch.setattr(Throttle, "too_many_codes", lambda *_: True)
    for digits in (code(secret), "none", ""):
        assert web.browser().sign_in("alice", code=digits).status_code == 403
    assert counted == []


def test_the_throttle_s_memory_of_codes() -> None:
    now = [0.0]
    made = Throttle(lambda: now[0])
    for _ in range(int(throttle.WRONG_CODE.burst)):
        assert not made.too_many_codes("alice")
        made.wrong_code("alice")
    assert made.too_many_codes("alice")
    assert not made.too_many_codes("bob")
    now[0] += throttle.WRONG_CODE.every
    assert not made.too_many_codes("alice")


def test_a_key_with_options(web: Web) -> None:
    bob = web.browser("bob")
    line = public_key("bob@desk")[1]
    page = bob.post("/me/keys", {"key": f'restrict,command="echo <b>\\"x\\"" {line}'}, follow_redirects=True)
    assert "options: <code>restrict,command=&#34;echo &lt;b&gt;\\&#34;x\\&#34;&#34;</code>" in page.text
    [key] = web.store.keys("bob")
    assert key.options == 'restrict,command="echo <b>\\"x\\""'
    assert "restrict,command=" in web.browser("chief").get("/admin/users/bob").text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("no-such-thing", "no option of a key"),
        ('environment="A=1"', "not taken here"),
        ('command="a', "not closed"),
        ("no-touch-required", "security key"),
        ("x" * 10000, "at most"),
        ("\x1b[2J", "control"),
    ],
)
def test_options_that_are_refused(web: Web, options: str, said: str) -> None:
    page = web.browser("bob").post("/me/keys", {"key": f"{options} {public_key('bob@desk')[1]}"})
    assert page.status_code >= 400
    assert said in page.text
    assert "\x1b" not in page.text.partition('<textarea name="key"')[0]
    assert web.store.keys("bob") == []
