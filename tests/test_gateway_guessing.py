"""Those who guess, flood or open too much: how far they get, and what it does to others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

import argon2
import asyncssh
import pytest

from sshgate import auth, keeper, limits
from tests.support.gateway import PASSWORD, GatewayStage, Person, by_password, memory_stage, until, whoami
from workspaces import accounts, throttle
from workspaces.accounts import Verdict
from workspaces.store import Store


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


def test_six_passwords_on_one_connection(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUESS_ACCOUNT", throttle.Rate(1000, 1))
    alice.stage.gateway.forget_limits()
    tried: list[object] = []

    def wrong(*args: object) -> Verdict:
        tried.append(args)
        return Verdict.WRONG

    monkeypatch.setattr(accounts, "check_login", wrong)

    class Guesser(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            return "wrong"

    async def run() -> None:
        with pytest.raises(asyncssh.DisconnectError, match="Too many authentication failures"):
            await alice.connect(client_factory=Guesser, client_keys=None)

    asyncio.run(run())
    assert len(tried) == auth.MAX_TRIES


def test_many_keys_on_one_connection(alice: Person) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(100)]
    own = asyncssh.read_private_key(alice.key)
    assert whoami(alice, client_keys=[*keys[:10], own]) == "als/alice alice"
    with pytest.raises(asyncssh.DisconnectError):
        whoami(alice, client_keys=[*keys, own])


@pytest.mark.slow
def test_a_flood_of_guesses_leaves_keys_and_others_alone(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    original = accounts.check_login

    def counting(store: Store, name: str, password: str, code: str | None) -> Verdict:
        checked.append(name)
        return original(store, name, password, code)

    monkeypatch.setattr(accounts, "check_login", counting)
    for i in range(int(limits.GUESS_ACCOUNT.burst) + 5):
        with pytest.raises(asyncssh.PermissionDenied):
            by_password(alice, f"wrong {i}")
    assert len(checked) == limits.GUESS_ACCOUNT.burst
    with pytest.raises(asyncssh.PermissionDenied):
        by_password(alice)
    assert whoami(alice) == "als/alice alice"
    assert by_password(bob) == "als/bob bob"


@pytest.mark.slow
def test_who_has_to_wait_is_told(alice: Person) -> None:
    banners = []

    class Listener(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            banners.append(msg)

    for _ in range(int(limits.GUESS_ACCOUNT.burst) + 1):
        with pytest.raises(asyncssh.PermissionDenied):
            by_password(alice, "wrong", client_factory=Listener)
    assert len(banners) == 1
    assert "wait" in banners[0]
    assert "use a key" in banners[0]


def test_no_account_takes_as_long_as_a_wrong_password(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2 works once either way, with the same parameters."""
    worked: list[argon2.Parameters] = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            worked.append(argon2.extract_parameters(str(hash)))
            return super().verify(hash, password)

        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            made = super().hash(password, salt=salt)
            worked.append(argon2.extract_parameters(made))
            return made

    monkeypatch.setattr(accounts, "PasswordHasher", Counting)
    alice.stage.store.set_password_hash("alice", argon2.PasswordHasher().hash(PASSWORD), actor="chief")
    for name in ("nobody", "alice"):
        assert accounts.check_login(alice.stage.store, name, "wrong", None) is Verdict.WRONG
    assert len(worked) == 2
    assert worked[0] == worked[1]


def test_connections_that_say_nothing_are_few(stage: GatewayStage, alice: Person) -> None:
    async def run() -> int:
        opened = [await asyncio.open_connection("127.0.0.1", stage.port) for _ in range(100)]
        versions = await asyncio.gather(*(reader.readline() for reader, _ in opened))
        for _, writer in opened:
            writer.close()
        return sum(version.startswith(b"SSH-2.0-") for version in versions)

    assert asyncio.run(run()) == limits.MAX_UNAUTHENTICATED_ADDRESS
    until(lambda: stage.gateway.call(lambda: not stage.gateway.gate.servers))
    assert whoami(alice) == "als/alice alice"


def test_places_held_by_silence_are_given_to_newcomers(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNAUTHENTICATED", 10)

    async def run() -> None:
        opened = [
            await asyncio.open_connection("127.0.0.1", stage.port, local_addr=(f"127.0.0.{2 + n % 5}", 0))
            for n in range(10)
        ]
        await asyncio.gather(*(reader.readline() for reader, _ in opened))
        async with alice.connect() as connection:
            assert (await connection.run("echo in")).stdout == "in\n"
        await asyncio.wait_for(opened[0][0].read(), 10)
        for _, writer in opened:
            writer.close()

    asyncio.run(run())
    until(lambda: stage.gateway.call(lambda: not stage.gateway.gate.servers))


def test_sessions_of_one_account_are_bounded_over_its_connections(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAX_ACCOUNT_SESSIONS", 3)

    async def run() -> str:
        async with alice.connect() as one, alice.connect() as two, bob.connect() as other:
            for connection in (one, one, two):
                await connection.create_process("cat")
            with pytest.raises(asyncssh.ChannelOpenError, match="Too many sessions of this account"):
                await two.create_process("cat")
            return str((await other.run("echo fine")).stdout)

    assert asyncio.run(run()) == "fine\n"
