"""Password and one-time code in one keyboard-interactive exchange."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest

from sshgate import limits
from tests.support.gateway import PASSWORD, GatewayStage, Person, by_password, memory_stage, until, whoami
from tests.test_gateway_identity import by_asking
from workspaces import throttle, totp
from workspaces.accounts import begin_totp

pytestmark = pytest.mark.slow

PROMPTS = [[("Password: ", False), ("One-time code: ", False)]]


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


@pytest.fixture
def secret(alice: Person) -> str:
    return begin_totp(alice.stage.store, "alice", actor="chief")[0]


def code(secret: str, steps: int = 0) -> str:
    return totp._totp(secret).generate(int(time.time()) + 30 * steps).decode()


def test_password_and_code_let_in_once(alice: Person, secret: str) -> None:
    digits = code(secret)
    assert by_asking(alice, PASSWORD, digits) == ("als/alice alice", PROMPTS)
    until(lambda: alice.stage.store.events(1, actor="alice")[0].data.get("with") == "password and code")
    assert by_asking(alice, PASSWORD, digits)[0] == ""
    assert by_asking(alice, PASSWORD, code(secret, 1))[0] == "als/alice alice"


@pytest.mark.parametrize("answers", [(PASSWORD, ""), (PASSWORD, "000"), (PASSWORD,), ("wrong", None), ("", None)])
def test_less_does_not(alice: Person, secret: str, answers: tuple[str | None, ...]) -> None:
    given = [code(secret) if answer is None else answer for answer in answers]
    assert by_asking(alice, *given)[0] == ""
    assert by_asking(alice, PASSWORD, code(secret))[0] == "als/alice alice"  # the code was not used up


def test_the_password_alone_is_neither_offered_nor_taken(alice: Person, secret: str) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        by_password(alice)
    transport = paramiko.Transport(("127.0.0.1", alice.stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.BadAuthenticationType) as caught:
            transport.auth_password("alice", PASSWORD, fallback=False)
        assert sorted(caught.value.allowed_types) == ["keyboard-interactive", "publickey"]
    finally:
        transport.close()


def test_codes_that_are_asked_for_since_the_login_began(alice: Person) -> None:
    """The client was asked for the password only; by the time it answers, that is not enough."""
    alice.stage.store.set_totp_secret("alice", None, actor="chief")

    def answer(*_: object) -> list[str]:
        begin_totp(alice.stage.store, "alice", actor="chief")
        return [PASSWORD]

    transport = paramiko.Transport(("127.0.0.1", alice.stage.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_interactive("alice", answer)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_password("alice", PASSWORD, fallback=False)
    finally:
        transport.close()


def test_keys_need_no_code(alice: Person, secret: str) -> None:
    assert whoami(alice) == "als/alice alice"


def test_openssh_asks_for_both(alice: Person, secret: str, tmp_path: Path) -> None:
    helper = tmp_path / "askpass"
    helper.write_text(f"#!/bin/sh\ncase \"$1\" in *ode:*) echo {code(secret)} ;; *) echo '{PASSWORD}' ;; esac\n")
    helper.chmod(0o700)
    line = [part.replace("BatchMode=yes", "PubkeyAuthentication=no") for part in alice.line()]
    done = subprocess.run(
        [*line, "echo in"],
        env={**os.environ, "SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == b"in\n", done.stderr


def test_codes_that_nobody_looks_at_do_not_lengthen_the_pause(alice: Person, secret: str) -> None:
    guessing = alice.stage.gateway.shared.keeper.guessing
    for _ in range(int(limits.WRONG_CODE.burst)):
        guessing.wrong_code("alice")
    for digits in (code(secret), "none", ""):
        assert by_asking(alice, PASSWORD, digits)[0] == ""
    assert guessing._codes.wait("alice") <= limits.WRONG_CODE.every


def test_wrong_codes_after_the_right_password_run_out(
    alice: Person, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From however many addresses: then no code is looked at for a while. Wrong passwords do not count there."""
    monkeypatch.setattr(limits, "GUESS_ACCOUNT", throttle.Rate(1000, 1))
    monkeypatch.setattr(limits, "WRONG_CODE", throttle.Rate(3, 1e9))
    alice.stage.gateway.forget_limits()
    for _ in range(5):
        assert by_asking(alice, "wrong", "000000")[0] == ""
    assert by_asking(alice, PASSWORD, code(secret))[0] == "als/alice alice"
    for _ in range(3):
        assert by_asking(alice, PASSWORD, "none")[0] == ""
    assert by_asking(alice, PASSWORD, code(secret, 1))[0] == ""
    assert whoami(alice) == "als/alice alice"
