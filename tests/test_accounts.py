"""Passwords and public keys: what is taken, what is refused, and what is said of it."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from argon2 import PasswordHasher, extract_parameters, profiles
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stores import empty, path, store
from workspaces import accounts
from workspaces.accounts import check_password, create_participant, create_user, hash_password, parse_public_key
from workspaces.errors import Conflict, InvalidInput, NotFound, WorkspacesError
from workspaces.model import Role
from workspaces.store import Store


def field(data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(raw)) + raw


def mpint(value: int) -> bytes:
    return field(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def line(kind: str, *fields: bytes, comment: str = "") -> str:
    blob = field(kind) + b"".join(fields)
    return f"{kind} {base64.b64encode(blob).decode()} {comment}".strip()


ED = line("ssh-ed25519", field(bytes(range(32))), comment="alice@laptop")
ODD_2048 = (1 << 2047) + 1


# passwords


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password("correct hörse")


def test_a_password_is_checked_against_its_hash(stored: str) -> None:
    assert stored.startswith("$argon2id$")
    assert check_password(stored, "correct hörse")
    assert check_password(stored, unicodedata.normalize("NFD", "correct hörse"))  # another keyboard, the same text
    assert not check_password(stored, "wrong horse")


@pytest.mark.usefixtures("dear_passwords")
def test_a_hash_is_hard_to_break() -> None:
    assert extract_parameters(hash_password("correct horse")) == profiles.RFC_9106_LOW_MEMORY


@pytest.mark.parametrize("typed", ["", "x" * 100_000, "\udcff\0\ud800"])
def test_anything_may_be_typed(stored: str, typed: str) -> None:
    assert check_password(stored, typed) is False


def test_without_an_account_the_work_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[str] = []

    class Counting(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            work.append("hash")
            return "x"

        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            work.append("verify")
            return super().verify(hash, password)

    monkeypatch.setattr(accounts, "PasswordHasher", Counting)
    assert check_password(None, "some password") is False
    assert work == ["hash"]
    assert check_password("damaged", "some password") is False
    assert work[1:] == ["verify", "hash"]


@pytest.mark.parametrize(
    "password", ["", "1234567", "x" * 1025, "tab\tin the middle", "nul\0 inside", "raw \udcff byte"]
)
def test_passwords_that_break_the_rule(password: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        hash_password(password)
    assert not password or password not in str(caught.value)


# keys


@pytest.mark.parametrize(
    "arguments",
    ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048"],
)
def test_keys_as_openssh_makes_them(arguments: str, tmp_path: Path) -> None:
    command = [
        "ssh-keygen",
        "-q",
        "-N",
        "",
        "-C",
        "alice on laptop",
        "-f",
        str(tmp_path / "key"),
        "-t",
        *arguments.split(),
    ]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen on this host")
    text = (tmp_path / "key.pub").read_text()
    said = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    assert parse_public_key(text) == (said.stdout.split()[1], text.strip())
    assert parse_public_key("\ufeff\n  " + text.replace("\n", "\r\n") + "\n")[1] == text.strip()
    with pytest.raises(InvalidInput, match="private key"):
        parse_public_key((tmp_path / "key").read_text())


@pytest.mark.parametrize(
    "good",
    [
        ED,
        line("sk-ssh-ed25519@openssh.com", field(bytes(32)), field("ssh:")),
        line("sk-ecdsa-sha2-nistp256@openssh.com", field("nistp256"), field(b"\4" + bytes(64)), field("ssh:")),
        line("ssh-rsa", mpint(65537), mpint(ODD_2048)),
    ],
)
def test_fingerprint_and_line(good: str) -> None:
    fingerprint, stored = parse_public_key(good)
    blob = base64.b64decode(good.split()[1])
    assert fingerprint == "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert stored == good


def test_comments_are_bounded_and_spaces_made_plain() -> None:
    assert parse_public_key(ED.replace(" alice@laptop", "\u00a0\t alice   on\tlaptop "))[1].endswith(" alice on laptop")
    assert parse_public_key(f"{ED} <b>ä</b>")[1].endswith(" <b>ä</b>")
    assert len(parse_public_key(f"{ED} {'x' * 5000}")[1]) < 400


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "no key"),
        (" \n", "no key"),
        ("hello", "'hello' is no type"),
        ("\x1b[31mred", "is no type"),
        ("ssh-ed25519", "cut off after its type"),
        ("ssh-ed25519 !!!!", "damaged or cut off"),
        ("ssh-ed25519 ÄÄÄÄ", "damaged or cut off"),
        (ED.split(" alice")[0][:-8], "damaged or cut off"),
        ("ssh-ed25519 " + "A" * 20_000, "too long"),
        (f"{ED}\n{ED}", "several"),
        (f'command="rm -rf /",no-pty {ED}', "Options"),
        (f'from="10.0.0.1" {ED}', "Options"),
        (f"{ED}\x1b[31m", "control characters"),
        (f"{ED} \u202egnp", "control characters"),
        (ED.replace("ssh-ed25519", "ssh-rsa"), "not of the type ssh-rsa"),
        (line("ssh-ed25519", field(bytes(31))), "32 bytes"),
        (line("ssh-ed25519", field(bytes(32)), b"x"), "after its end"),
        (line("ssh-ed25519", b"\xff\xff\xff\xff"), "damaged"),
        (line("ssh-dss", field(b"x")), "DSA"),
        (line("ssh-ed25519-cert-v01@openssh.com", field(b"x")), "certificate"),
        (line("ssh-rsa", mpint(65537), mpint((1 << 1023) + 1)), "1024 bits"),
        (line("ssh-rsa", mpint(65537), mpint((1 << 16384) + 1)), "16385 bits"),
        (line("ssh-rsa", mpint(1), mpint(ODD_2048)), "cannot be"),
        (line("ssh-rsa", mpint(65537), mpint(1 << 2047)), "cannot be"),
        (line("ssh-rsa", field(b"\0\1\0\1"), mpint(ODD_2048)), "wrong form"),
        (line("ssh-rsa", field(b""), mpint(ODD_2048)), "wrong form"),
        (line("ssh-rsa", mpint(65537), field(b"\x80" + bytes(255))), "wrong form"),
        (line("ecdsa-sha2-nistp256", field("nistp384"), field(b"\4" + bytes(64))), "curve nistp256"),
        (line("ecdsa-sha2-nistp256", field("nistp256"), field(b"\2" + bytes(32))), "curve nistp256"),
        (line("sk-ssh-ed25519@openssh.com", field(bytes(32))), "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nxxxx", "private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "private key"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nxxxx", "OpenSSH's form"),
    ],
)
def test_what_is_no_key(bad: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        parse_public_key(bad)
    assert caught.value.message.isprintable()
    assert len(str(caught.value)) < 400


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200),
    st.text(max_size=40),
    st.sampled_from(["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp521", ""]),
)
def test_no_input_breaks_the_parser(blob: bytes, text: str, kind: str) -> None:
    for attempt in (text, f"{kind} {text}", f"{kind} {base64.b64encode(field(kind) + blob).decode()} {text}"):
        try:
            fingerprint, stored = parse_public_key(attempt)
        except InvalidInput:
            continue
        assert parse_public_key(stored) == (fingerprint, stored)


# accounts


def test_a_participant_comes_with_workspace_key_and_password(store: Store) -> None:
    user = create_participant(store, "carol", "als", actor="chief", password="correct horse", key=ED)
    assert (user.role, user.has_password) == (Role.PARTICIPANT, True)
    assert check_password(store.password_hash("carol"), "correct horse")
    assert store.workspace("als/carol").members == ("carol",)
    assert [key.line for key in store.keys("carol")] == [ED]
    assert create_user(store, "boss", actor="chief", role=Role.ADMIN).role is Role.ADMIN
    assert store.workspaces_of("boss") == []


def test_an_account_is_made_whole_or_not_at_all(store: Store) -> None:
    before = len(store.events())
    store.add_workspace("als", "carol", actor="chief")
    attempts: list[tuple[type[WorkspacesError], dict[str, str]]] = [
        (NotFound, {"challenge": "nowhere"}),
        (Conflict, {"challenge": "als"}),
        (InvalidInput, {"key": "nonsense"}),
        (InvalidInput, {"password": "short"}),
    ]
    for error, extra in attempts:
        with pytest.raises(error):
            create_user(store, "carol", actor="chief", **extra)  # type: ignore[arg-type]
        assert store.find_user("carol") is None
    with pytest.raises(InvalidInput):
        create_user(store, "../carol", actor="chief")
    assert len(store.events()) == before + 1
