"""Commands about authorities, host keys, options of keys and one-time codes."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.identities import Authority
from tests.test_cli import KEY, Run, engine, ready, run
from workspaces.accounts import Verdict, check_login
from workspaces.store import Store
from workspaces.totp import uri

pytestmark = pytest.mark.slow


@pytest.fixture
def store(ready: Run, tmp_path: Path) -> Any:
    opened = Store.open(tmp_path / "home" / "workspaces.db")
    yield opened
    opened.close()


def test_authorities(ready: Run, tmp_path: Path, store: Store) -> None:
    authority = Authority(tmp_path)
    fingerprint, file = authority.parsed[0], f"{authority.key}.pub"
    assert "No authority is trusted" in ready("authority", "list").err
    assert ready("authority", "add", file, "--challenge", "als").out == (
        f"Certificates signed by {fingerprint} let into workspaces of als.\n"
    )
    assert ready("authority", "add", file).status == 0
    assert ready("authority", "add", file).status == 1
    assert ready("authority", "add", file, "--challenge", "nope").status == 1
    assert [a["challenge"] for a in ready("authority", "list", "--json").json] == ["als", None]  # type: ignore[attr-defined]
    assert "authority" in ready("authority", "list").out
    assert ready("authority", "remove", fingerprint).status == 0
    assert ready("authority", "remove", fingerprint).status == 1
    assert ready("authority", "remove", fingerprint, "--challenge", "als").status == 0
    assert store.authorities() == []
    said = [(event.kind, event.data.get("challenge")) for event in store.events(4)]
    kinds = ("authority.removed", "authority.removed", "authority.added", "authority.added")
    assert said == list(zip(kinds, ("als", None, None, "als"), strict=True))


@pytest.mark.parametrize("text", ["restrict {key}", "cert-authority {key}", "nonsense", "{private}"])
def test_what_is_no_authority(ready: Run, tmp_path: Path, text: str) -> None:
    authority = Authority(tmp_path)
    path = tmp_path / "file"
    path.write_text(text.format(key=KEY, private=authority.key.read_text()))
    ran = ready("authority", "add", str(path))
    assert (ran.status, ran.out) == (1, "")


def test_where_certificates_are_trusted_an_account_needs_nothing_else(ready: Run, tmp_path: Path) -> None:
    assert ready("user", "add", "bob", "--challenge", "als").status == 2
    assert ready("authority", "add", f"{Authority(tmp_path).key}.pub").status == 0
    assert ready("user", "add", "bob", "--challenge", "als").status == 0


def test_a_key_with_options(ready: Run, tmp_path: Path) -> None:
    path = tmp_path / "key"
    ready("key", "remove", "alice", json.loads(ready("key", "list", "alice", "--json").out)[0]["fingerprint"])
    path.write_text(f'restrict,from="192.0.2.0/24" {KEY}\n')
    assert ready("key", "add", "alice", str(path)).status == 0
    assert 'restrict,from="192.0.2.0/24"' in ready("key", "list", "alice").out
    assert json.loads(ready("key", "list", "alice", "--json").out)[0]["options"] == 'restrict,from="192.0.2.0/24"'
    path.write_text(f"no-such-thing {KEY}\n")
    ran = ready("key", "add", "alice", str(path))
    assert ran.status == 1
    assert "no-such-thing" in ran.err


def test_one_time_codes(ready: Run, store: Store) -> None:
    ran = ready("user", "totp", "alice")
    secret = ran.out.splitlines()[0].removeprefix("secret: ")
    assert ran.out.splitlines()[1] == uri(secret, "alice")
    assert store.totp_secret("alice") == secret
    assert ready("user", "totp", "alice").out != ran.out
    assert ready("user", "totp", "alice", "--remove").status == 0
    assert store.totp_secret("alice") is None
    assert ready("user", "totp", "nobody").status == 1
    assert secret not in str(store.events(100))


def test_the_list_says_who_needs_a_code(ready: Run, store: Store) -> None:
    ready("user", "totp", "chief")
    assert "with code" in ready("user", "list").out
    assert check_login(store, "chief", "correct horse", None) is Verdict.WRONG


def test_host_keys(ready: Run) -> None:
    [current] = json.loads(ready("hostkey", "list", "--json").out)
    assert (current["state"], current["certificate"]) == ("in use", "none")
    assert ready("hostkey", "activate").status == 1
    assert ready("hostkey", "prepare").status == 0
    assert ready("hostkey", "prepare").status == 1
    following = json.loads(ready("hostkey", "list", "--json").out)[1]
    assert following["state"] == "next"
    assert following["fingerprint"] in ready("hostkey", "activate").out
    [now] = json.loads(ready("hostkey", "list", "--json").out)
    assert now["fingerprint"] == following["fingerprint"] != current["fingerprint"]
    assert [event["kind"] for event in json.loads(ready("audit", "list", "--json").out)[:2]] == [
        "hostkey.activated",
        "hostkey.prepared",
    ]
