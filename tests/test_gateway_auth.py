"""Who gets in, who does not, and who is shown out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import threading
import time
import unicodedata
from collections.abc import Iterator

import asyncssh
import paramiko
import pytest

from sshgate.attend import Attendants
from tests.support.gateway import (
    CHALLENGE,
    PASSWORD,
    PASSWORD_HASH,
    GatewayStage,
    Person,
    by_password,
    memory_stage,
    until,
    whoami,
)
from workspaces import accounts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    return stage.person("alice", password=True)


@pytest.fixture(scope="module")
def bob(stage: GatewayStage) -> Person:
    return stage.person("bob", password=True)


@pytest.fixture(autouse=True)
def fresh_limits(stage: GatewayStage) -> None:
    stage.gateway.forget_limits()


def test_key_and_password_let_in(alice: Person) -> None:
    assert whoami(alice) == "als/alice alice"
    assert by_password(alice) == "als/alice alice"


@pytest.mark.parametrize(
    "password", ["\u00b2\ufb01 \u043f\u0430\u0440\u043e\u043b\u044c", "\U0001f511" * 8, "\u00e4" * 8]
)
def test_a_password_is_any_text(stage: GatewayStage, alice: Person, password: str) -> None:
    """Also what asyncssh's own preparation of passwords refuses or alters; sent by a client that sends it as typed."""
    stage.store.set_password_hash("alice", accounts.hash_password(password), actor="chief")
    try:
        for typed in (password, unicodedata.normalize("NFD", password)):
            transport = paramiko.Transport(("127.0.0.1", stage.port))
            try:
                transport.start_client(timeout=10)
                transport.auth_password("alice", typed)
                assert transport.is_authenticated()
            finally:
                transport.close()
    finally:
        stage.store.set_password_hash("alice", PASSWORD_HASH, actor="chief")


def test_openssh_with_a_password(alice: Person, tmp_path: object) -> None:
    helper = f"{tmp_path}/askpass"
    with open(helper, "w") as file:
        file.write(f"#!/bin/sh\necho '{PASSWORD}'\n")
    os.chmod(helper, 0o700)
    line = [part.replace("BatchMode=yes", "PubkeyAuthentication=no") for part in alice.line()]
    done = subprocess.run(
        [*line, "echo in"],
        env={**os.environ, "SSH_ASKPASS": helper, "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == b"in\n", done.stderr


def test_paramiko(alice: Person, stage: GatewayStage) -> None:
    client = paramiko.SSHClient()
    client.load_host_keys(str(stage.known_hosts))
    with client:
        client.connect(
            "127.0.0.1", stage.port, "alice", key_filename=str(alice.key), allow_agent=False, look_for_keys=False
        )
        transport = client.get_transport()
        assert transport
        channel = transport.open_session()
        channel.exec_command("sha256sum; exit 3")
        channel.sendall(b"x" * 3_000_000)
        channel.shutdown_write()
        assert channel.makefile().read().split()[0].decode() == hashlib.sha256(b"x" * 3_000_000).hexdigest()
        assert channel.recv_exit_status() == 3


@pytest.mark.parametrize(
    "options",
    [
        {"username": "nobody"},
        {"username": "nobody", "client_keys": None, "password": PASSWORD},
        {"client_keys": None, "password": "wrong"},
        {"client_keys": None, "password": ""},
        {"client_keys": None, "password": "x" * 30_000},
        {"client_keys": None},
        {"username": "bob"},  # with alice's key
    ],
)
def test_nobody_else(alice: Person, bob: Person, options: dict[str, object]) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(alice, **options)


HOSTILE_NAMES = (
    "../alice", "alice/../bob", "alice\0", "a" * 1000, "älïce", "\u202ealice", "root", "alice;id", "$(id)", "'--",
    "alice' OR '1'='1", "+", "+alice", " alice", "ALICE", "alice@als", "%00", "alice\r\n", "\U0001f600", "\x1b[2J",
)  # fmt: skip


@pytest.mark.parametrize("way", ["auth_publickey", "auth_password"])
def test_hostile_user_names(
    alice: Person, way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With paramiko, which sends any name as it is."""
    monkeypatch.setattr("workspaces.accounts.check_password", lambda stored, typed: stored is not None)
    proof = paramiko.Ed25519Key.from_private_key_file(str(alice.key)) if way == "auth_publickey" else PASSWORD
    for name in HOSTILE_NAMES:
        transport = paramiko.Transport(("127.0.0.1", alice.stage.port))
        try:
            transport.start_client(timeout=10)
            with pytest.raises((paramiko.SSHException, EOFError)):
                getattr(transport, way)(name, proof)
            assert not transport.is_authenticated()
        finally:
            transport.close()
    ours = [record for record in caplog.records if record.name.startswith("sshgate")]
    assert not [record for record in ours if record.exc_info or "\x1b" in record.getMessage()]
    assert whoami(alice) == "als/alice alice"


@pytest.mark.parametrize("wanted", ["alice", "als", "als/alice"])
def test_the_workspace_may_be_named(alice: Person, wanted: str) -> None:
    assert alice.run("echo in", workspace=wanted).stdout == b"in\n"


@pytest.mark.parametrize("wanted", ["bob", "als/bob", "", "../als", "x" * 500])
def test_a_workspace_of_others_is_as_unknown_as_one_that_is_not(alice: Person, bob: Person, wanted: str) -> None:
    done = alice.run("echo in", workspace=wanted or " ")
    assert done.returncode == 254
    assert done.stdout == b""
    assert b"You are in no workspace" in done.stderr
    assert b"ssh alice+als/alice@" in done.stderr


def test_somebody_without_workspace(stage: GatewayStage) -> None:
    chief = stage.person("chief", challenge=None)
    done = chief.run("echo in")
    assert (done.returncode, done.stdout) == (254, b"")
    assert b"You are in no workspace" in done.stderr


def test_before_the_opening_and_after_the_end(stage: GatewayStage) -> None:
    now = time.time()
    stage.store.add_challenge("early", stage.image, opens_at=now + 1000, actor="chief")
    stage.store.add_challenge("late", stage.image, closes_at=now - 1, actor="chief")
    early, late = stage.person("early-bird", challenge="early"), stage.person("latecomer", challenge="late")
    assert b"opens on" in early.run("true").stderr
    assert b"closed on" in late.run("true").stderr
    assert early.run("true").returncode == 254


def test_an_offered_key_of_another_proves_nothing(alice: Person, bob: Person) -> None:
    """Probe alice's key under her name and bob's, then log in with bob's own password: it is bob who is in."""

    transport = paramiko.Transport(("127.0.0.1", bob.stage.port))
    try:
        transport.start_client(timeout=10)
        other = paramiko.Ed25519Key.from_private_key_file(str(alice.key))
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("bob", other)
        transport.auth_password("bob", PASSWORD)
        channel = transport.open_session()
        channel.exec_command("echo $WORKSPACE $WORKSPACE_USER")
        assert channel.makefile().read() == b"als/bob bob\n"
    finally:
        transport.close()


def test_a_name_cannot_be_changed_on_the_way(alice: Person, bob: Person) -> None:
    transport = paramiko.Transport(("127.0.0.1", bob.stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_password("alice", "wrong")
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.auth_password("bob", PASSWORD)
        assert not transport.is_authenticated()
    finally:
        transport.close()


def test_a_signature_by_another_key_is_refused(alice: Person, bob: Person) -> None:
    """bob claims alice's public key and signs with his own."""

    class Liar(paramiko.Ed25519Key):
        def asbytes(self) -> bytes:
            return paramiko.Ed25519Key.from_private_key_file(str(alice.key)).asbytes()

    transport = paramiko.Transport(("127.0.0.1", bob.stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("alice", Liar.from_private_key_file(str(bob.key)))
    finally:
        transport.close()


def test_a_disabled_account(stage: GatewayStage) -> None:
    carol = stage.person("carol", password=True)
    assert whoami(carol) == "als/carol carol"
    stage.store.set_disabled("carol", True, actor="chief")
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(carol)
    with pytest.raises(asyncssh.PermissionDenied):
        by_password(carol)
    stage.store.set_disabled("carol", False, actor="chief")
    assert whoami(carol) == "als/carol carol"


def test_disabling_ends_what_is_open(stage: GatewayStage) -> None:
    dave = stage.person("dave")

    async def run() -> tuple[str, object]:
        async with dave.connect() as connection:
            process = await connection.create_process("echo up; exec sleep 100")
            await process.stdout.readline()
            await asyncio.to_thread(stage.store.set_disabled, "dave", True, actor="chief")
            done = await asyncio.wait_for(process.wait(), 10)
            assert (await connection.run("echo again")).exit_status == 254
            await asyncio.wait_for(connection.wait_closed(), 10)
            return str(done.stderr), done.exit_status

    assert asyncio.run(run()) == ("This account was disabled.\n", 254)


def test_a_member_who_is_removed_is_out(stage: GatewayStage) -> None:
    erin = stage.person("erin")
    assert erin.workspace

    async def run() -> str:
        async with erin.connect() as connection:
            process = await connection.create_process("echo up; exec sleep 100")
            await process.stdout.readline()
            assert erin.workspace
            await asyncio.to_thread(stage.store.remove_member, erin.workspace.id, "erin", actor="chief")
            return str((await asyncio.wait_for(process.wait(), 10)).stderr)

    assert "no longer a member of als/erin" in asyncio.run(run())


def test_a_key_s_use_and_the_login_are_noted(stage: GatewayStage) -> None:
    frank = stage.person("frank")
    assert frank.run("true").returncode == 0
    until(lambda: stage.store.keys("frank")[0].last_used_at)
    assert stage.store.keys("frank")[0].last_used_from == "127.0.0.1"
    until(lambda: stage.store.events(actor="frank", kind="login.accepted"))
    event = stage.store.events(actor="frank", kind="login.accepted")[0]
    assert event.data["with"] == "key"
    until(lambda: stage.store.workspace(f"{CHALLENGE}/frank").last_login_at)


def test_disabling_does_not_wait_for_workspaces_that_do_not_answer(
    stage: GatewayStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gina = stage.person("gina")
    looking, released = threading.Event(), threading.Event()

    async def stuck(workspace: object) -> None:
        looking.set()
        await asyncio.to_thread(released.wait, 10)

    async def run() -> object:
        async with gina.connect() as connection:
            process = await connection.create_process("echo up; exec sleep 100")
            await process.stdout.readline()
            monkeypatch.setattr(Attendants, "attended", frozenset())
            assert await asyncio.to_thread(looking.wait, 5)
            await asyncio.to_thread(stage.store.set_disabled, "gina", True, actor="chief")
            return (await asyncio.wait_for(process.wait(), 5)).exit_status

    monkeypatch.setattr(stage.gateway.shared.attending, "_look", stuck)
    try:
        assert asyncio.run(run()) == 254
    finally:
        released.set()
