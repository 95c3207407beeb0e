"""Security keys, and passwords asked for by keyboard-interactive: with real clients, and with hostile ones."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest
from asyncssh.packet import String

from sshgate import auth, limits
from sshgate.userauth import _read
from tests.support.gateway import PASSWORD, GatewayStage, Person, memory_stage, until, whoami
from tests.support.identities import TOUCHED, VERIFIED, SecurityKey
from workspaces import accounts
from workspaces.accounts import Verdict, parse_key_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    return stage.person("alice", password=True)


@pytest.fixture(autouse=True)
def fresh_limits(stage: GatewayStage) -> None:
    stage.gateway.forget_limits()


# security keys


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize(
    ("options", "flags", "lets_in"),
    [
        ("", TOUCHED, True),
        ("", TOUCHED | VERIFIED, True),
        ("", 0, False),
        ("", VERIFIED, False),
        ("no-touch-required", 0, True),
        ("verify-required", TOUCHED, False),
        ("verify-required", TOUCHED | VERIFIED, True),
        ("no-touch-required,verify-required", VERIFIED, True),
    ],
)
def test_a_security_key(alice: Person, kind: str, options: str, flags: int, lets_in: bool) -> None:
    token = SecurityKey(kind, flags)
    parsed = parse_key_line(f"{options} {token.line}".strip())
    alice.stage.store.add_key("alice", *parsed, actor="chief")
    if lets_in:
        assert whoami(alice, client_keys=[token]) == "als/alice alice"
        until(lambda: any(key.fingerprint == parsed[0] and key.last_used_at for key in alice.stage.store.keys("alice")))
    else:
        with pytest.raises(asyncssh.PermissionDenied):
            whoami(alice, client_keys=[token])


def test_a_security_key_for_another_application(alice: Person) -> None:
    """Its signature is made for a web site, say: the hash of the application is in what the token signs."""
    token = SecurityKey()
    alice.stage.store.add_key("alice", *parse_key_line(token.line), actor="chief")
    token.application = b"https://example.org"
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(alice, client_keys=[token])


def test_flags_that_were_set_afterwards(alice: Person) -> None:
    class Liar(SecurityKey):
        def sign(self, data: bytes) -> bytes:
            signed = bytearray(super().sign(data))
            signed[-5] |= TOUCHED
            return bytes(signed)

    token = Liar(flags=0)
    alice.stage.store.add_key("alice", *parse_key_line(token.line), actor="chief")
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(alice, client_keys=[token])


# passwords by keyboard-interactive


class Asked(asyncssh.SSHClient):
    """A client that knows keyboard-interactive only, and keeps the prompts."""

    answers: tuple[str, ...] = (PASSWORD,)
    prompts: list[object]

    def __init__(self) -> None:
        self.prompts = []

    def kbdint_auth_requested(self) -> str | None:
        return None if self.prompts else ""

    def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: object) -> list[str]:
        self.prompts.append(prompts)
        return list(self.answers)


def by_asking(person: Person, *answers: str, **options: object) -> tuple[str, list[object]]:
    """Who is in, and what was asked, when these are the answers to every set of prompts."""
    made: list[Asked] = []

    def factory() -> Asked:
        client = Asked()
        client.answers = answers
        made.append(client)
        return client

    given = {"client_keys": None, "client_factory": factory, "password_auth": False, **options}
    try:
        return whoami(person, **given), made[0].prompts
    except asyncssh.PermissionDenied:
        return "", made[0].prompts


def test_a_client_that_knows_nothing_else(alice: Person) -> None:
    assert by_asking(alice, PASSWORD) == ("als/alice alice", [[("Password: ", False)]])
    assert by_asking(alice, "wrong")[0] == ""


def test_an_account_that_is_not_there_is_asked_the_same(alice: Person) -> None:
    assert by_asking(alice, PASSWORD, username="nobody") == ("", [[("Password: ", False)]])


@pytest.mark.parametrize("answers", [(), (PASSWORD, PASSWORD), ("", PASSWORD), ("\0" * 5000,)])
def test_other_answers(alice: Person, answers: tuple[str, ...]) -> None:
    assert by_asking(alice, *answers)[0] == ""


def test_any_bytes_may_be_an_answer(alice: Person) -> None:
    """What is no UTF-8 is a wrong password, and the next try is heard."""
    answers = [b"\xff\xfe", PASSWORD.encode()]
    transport = paramiko.Transport(("127.0.0.1", alice.stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_interactive("alice", lambda *_: [answers.pop(0)])
        transport.auth_interactive("alice", lambda *_: [answers.pop(0)])
        assert transport.is_authenticated()
    finally:
        transport.close()


def test_openssh_asks_once(alice: Person, tmp_path: Path) -> None:
    helper, log = tmp_path / "askpass", tmp_path / "log"
    helper.write_text(f"#!/bin/sh\necho \"$1\" >> {log}\necho '{PASSWORD}'\n")
    helper.chmod(0o700)
    line = [part.replace("BatchMode=yes", "PubkeyAuthentication=no") for part in alice.line()]
    done = subprocess.run(
        [*line, "echo in"],
        env={**os.environ, "SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == b"in\n", done.stderr
    assert log.read_text().splitlines() == ["(alice@127.0.0.1) Password: "]


def test_both_methods_have_one_limit(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tries on a connection, and as many as the buckets hold, however they are made."""
    checked: list[object] = []

    def wrong(*args: object) -> Verdict:
        checked.append(args)
        return Verdict.WRONG

    monkeypatch.setattr(accounts, "check_login", wrong)
    transport = paramiko.Transport(("127.0.0.1", alice.stage.port))
    try:
        transport.start_client(timeout=10)
        for _ in range(auth.MAX_TRIES // 2):
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_password("alice", "wrong", fallback=False)
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_interactive("alice", lambda *_: ["wrong"])
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.auth_interactive("alice", lambda *_: ["wrong"])
        until(lambda: not transport.is_active())
    finally:
        transport.close()
    assert len(checked) == auth.MAX_TRIES == limits.GUESS_ACCOUNT.burst
    assert by_asking(alice, PASSWORD)[0] == ""
    assert len(checked) == auth.MAX_TRIES
    assert whoami(alice) == "als/alice alice"


def test_an_answer_that_nobody_asked_for(alice: Person, caplog: pytest.LogCaptureFixture) -> None:
    """Two in one packet's time: the second ends the connection, and is never looked at."""

    class Twice(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self.conn = conn

        def kbdint_auth_requested(self) -> str:
            return ""

        def kbdint_challenge_received(self, *_: object) -> list[str]:
            assert self.conn._auth
            self.conn._auth.send_packet(61, (1).to_bytes(4), String("wrong"))
            return [PASSWORD]

    async def run() -> None:
        with pytest.raises((asyncssh.DisconnectError, OSError)):
            await alice.connect(client_keys=None, client_factory=Twice, password_auth=False)

    asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]
    assert whoami(alice) == "als/alice alice"


def test_a_key_that_was_offered_gives_nothing_to_a_password_login(stage: GatewayStage) -> None:
    """A probe of one's own restricted key, then the password: it is the password's login, in its rights too."""
    carol = stage.person("carol", password=True)
    restricted = asyncssh.generate_private_key("ssh-ed25519")
    line = f'restrict,command="echo forced" {restricted.export_public_key().decode()}'
    stage.store.add_key("carol", *parse_key_line(line), actor="chief")
    path = stage.home / "id_restricted"
    restricted.write_private_key(path)
    wrong = paramiko.Ed25519Key.from_private_key_file(str(carol.key))

    class Mute(paramiko.Ed25519Key):
        def sign_ssh_data(self, *args: object, **named: object) -> object:  # type: ignore[override]
            return wrong.sign_ssh_data(*args, **named)  # type: ignore[arg-type]

    transport = paramiko.Transport(("127.0.0.1", stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("carol", Mute.from_private_key_file(str(path)))
        transport.auth_password("carol", PASSWORD)
        channel = transport.open_session()
        channel.exec_command("echo free")
        assert channel.makefile().read() == b"free\n"
    finally:
        transport.close()
    until(lambda: stage.store.events(actor="carol", kind="login.accepted"))
    assert stage.store.events(actor="carol", kind="login.accepted")[0].data["with"] == "password"


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0\0\0\7ssh-rsa",
        String("x509v3-ssh-rsa") + b"\0\0\0\1" + String(b"x"),
        b"\xff" * 40,
        String("ssh-rsa") + String(b"\x81\0\1") + String(b"\xff" * 256),
    ],
)
def test_x509_and_nonsense_are_no_keys(blob: bytes) -> None:
    assert _read(blob) == (None, None)


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512", "ssh-rsa"])
def test_an_rsa_key_signs_with_sha_2(alice: Person, tmp_path: Path, algorithm: str) -> None:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    line = key.export_public_key().decode()
    alice.stage.store.add_key("alice", *parse_key_line(line), actor="chief")
    options = {"client_keys": [key], "signature_algs": [algorithm], "password_auth": False, "kbdint_auth": False}
    if algorithm == "ssh-rsa":
        with pytest.raises(asyncssh.PermissionDenied):
            whoami(alice, **options)
    else:
        assert whoami(alice, **options) == "als/alice alice"
