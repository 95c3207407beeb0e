"""One-time codes: RFC 6238's own examples, clocks that differ, and that a code lets in once."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.stores import empty, path, store
from tests.support.web import CHEAP_HASH, PASSWORD
from workspaces import accounts, totp
from workspaces.accounts import Verdict, begin_totp, check_login
from workspaces.errors import NotFound
from workspaces.store import Store

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
NOW = 1_800_000_000.0


def code(secret: str, at: float) -> str:
    return totp._totp(secret).generate(int(at)).decode()


@pytest.fixture
def secret(store: Store) -> str:
    store.set_password_hash("alice", CHEAP_HASH, actor="chief")
    return begin_totp(store, "alice", actor="chief")[0]


@pytest.mark.parametrize(
    ("at", "digits"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_examples_of_rfc_6238(at: int, digits: str) -> None:
    assert totp.matching_step(RFC_SECRET, digits, at) == at // 30


def test_one_step_before_and_after() -> None:
    steps = {drift: totp.matching_step(RFC_SECRET, code(RFC_SECRET, NOW + 30 * drift), NOW) for drift in range(-3, 4)}
    assert steps == {-3: None, -2: None, -1: 59999999, 0: 60000000, 1: 60000001, 2: None, 3: None}


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666", "1" * 10000]
)
def test_what_is_no_code(typed: str) -> None:
    assert totp.matching_step(RFC_SECRET, typed, NOW) is None


def test_a_code_may_be_typed_in_groups() -> None:
    digits = code(RFC_SECRET, NOW)
    assert totp.matching_step(RFC_SECRET, f" {digits[:3]} {digits[3:]} ", NOW) == NOW // 30


def test_what_an_app_gets(store: Store) -> None:
    secret, uri = begin_totp(store, "alice", actor="chief")
    assert len(base64.b32decode(secret)) == 20
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.path) == ("otpauth", "totp", "/workspaces:alice")
    assert parse_qs(parts.query)["secret"] == [secret]
    assert store.user("alice").has_totp
    assert not [event for event in store.events() if secret in str(event.data)]
    with pytest.raises(NotFound):
        begin_totp(store, "nobody", actor="chief")


def test_password_and_code(store: Store, secret: str) -> None:
    now_code = code(secret, NOW)
    assert check_login(store, "alice", PASSWORD, None, NOW) is Verdict.WRONG
    assert check_login(store, "alice", PASSWORD, "", NOW) is Verdict.WRONG_CODE
    assert check_login(store, "alice", "wrong", now_code, NOW) is Verdict.WRONG
    assert check_login(store, "nobody", PASSWORD, now_code, NOW) is Verdict.WRONG
    assert check_login(store, "alice", PASSWORD, now_code, NOW) is Verdict.RIGHT
    store.set_disabled("alice", True, actor="chief")
    assert check_login(store, "alice", PASSWORD, code(secret, NOW + 60), NOW + 60) is Verdict.WRONG


def test_a_code_lets_in_once_and_none_before_it_again(store: Store, secret: str) -> None:
    earlier, current = code(secret, NOW - 30), code(secret, NOW)
    assert check_login(store, "alice", PASSWORD, current, NOW) is Verdict.RIGHT
    assert check_login(store, "alice", PASSWORD, current, NOW + 1) is Verdict.WRONG_CODE
    assert check_login(store, "alice", PASSWORD, earlier, NOW + 1) is Verdict.WRONG_CODE
    assert check_login(store, "alice", PASSWORD, code(secret, NOW + 30), NOW + 1) is Verdict.RIGHT


def test_many_at_once_with_one_code(store: Store, path: Path, secret: str) -> None:
    """Through two stores, as gateway and web application have each their own."""
    other = Store.open(path)
    stores = [store, other] * 8
    with ThreadPoolExecutor(len(stores)) as pool:
        verdicts = list(pool.map(lambda s: check_login(s, "alice", PASSWORD, code(secret, NOW), NOW), stores))
    other.close()
    assert verdicts.count(Verdict.RIGHT) == 1


def test_a_new_secret_makes_the_old_one_worthless_and_none_asks_for_none(store: Store, secret: str) -> None:
    new, _ = begin_totp(store, "alice", actor="chief")
    assert check_login(store, "alice", PASSWORD, code(secret, NOW), NOW) is Verdict.WRONG_CODE
    assert not store.accept_totp_step("alice", secret, int(NOW) // 30)
    assert check_login(store, "alice", PASSWORD, code(new, NOW), NOW) is Verdict.RIGHT
    store.set_totp_secret("alice", None, actor="chief")
    assert check_login(store, "alice", PASSWORD, None, NOW) is Verdict.RIGHT
    assert [event.kind for event in store.events(2)] == ["user.totp_removed", "user.totp_set"]


def test_without_totp_a_code_is_not_looked_at(store: Store) -> None:
    store.set_password_hash("bob", CHEAP_HASH, actor="chief")
    assert check_login(store, "bob", PASSWORD, None) is Verdict.RIGHT
    assert check_login(store, "bob", PASSWORD, "123456") is Verdict.RIGHT
