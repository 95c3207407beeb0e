"""Host certificates, and changing the host key so that clients notice nothing: with OpenSSH's client."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from sshgate.hostkey import (
    NAME,
    activate_host_key,
    ensure_host_key,
    list_host_keys,
    load_host_key,
    load_host_keys,
    prepare_host_key,
)
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.identities import Authority, keygen
from workspaces.errors import Conflict, HostError, NotFound

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path) as made:
        yield made


def certificate(authority: Authority, keys: Path, *options: str, valid: str = "-1h:+1h", name: str = NAME) -> None:
    """Sign the public half in `keys` as the documentation says it."""
    keygen("-s", authority.key, "-I", "gate", "-n", "gate", "-V", valid, *options, keys / f"{name}.pub")


def states(keys: Path) -> list[tuple[str, str, str]]:
    return [(found.state, found.fingerprint, found.certificate) for found in list_host_keys(keys)]


def test_prepare_and_activate(tmp_path: Path) -> None:
    first = ensure_host_key(tmp_path)
    with pytest.raises(NotFound, match="prepare"):
        activate_host_key(tmp_path)
    second = prepare_host_key(tmp_path)
    with pytest.raises(Conflict):
        prepare_host_key(tmp_path)
    assert states(tmp_path) == [("in use", first, "none"), ("next", second, "none")]
    loaded = load_host_keys(tmp_path)
    assert loaded.current.get_fingerprint() == first
    assert [key.get_fingerprint() for key in loaded.others] == [second]
    assert activate_host_key(tmp_path) == second
    assert states(tmp_path) == [("in use", second, "none")]
    assert asyncssh.read_public_key(tmp_path / f"{NAME}.pub").get_fingerprint() == second
    assert asyncssh.read_private_key(tmp_path / f"{NAME}.old").get_fingerprint() == first
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / NAME, tmp_path / f"{NAME}.old")} == {0o600}
    third = prepare_host_key(tmp_path)
    assert activate_host_key(tmp_path) == third
    assert asyncssh.read_private_key(tmp_path / f"{NAME}.old").get_fingerprint() == second


def test_certificates_go_with_their_keys(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    keys = tmp_path / "keys"
    first, second = ensure_host_key(keys), prepare_host_key(keys)
    certificate(authority, keys, "-h")
    certificate(authority, keys, "-h", name=f"{NAME}.next")
    assert states(keys) == [("in use", first, "right"), ("next", second, "right")]
    activate_host_key(keys)
    assert states(keys) == [("in use", second, "right")]
    ensure_host_key(keys)
    third = prepare_host_key(keys)
    activate_host_key(keys)
    assert states(keys) == [("in use", third, "none")]


@pytest.mark.parametrize("at", range(1, 4))
def test_killed_while_activating(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After however many renames: one whole key is in use, and the public half is its own."""
    first, second = ensure_host_key(tmp_path), prepare_host_key(tmp_path)
    left = at

    def counted(original: str) -> object:
        real = getattr(Path, original)

        def rename(path: Path, target: Path) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(path, target)

        return rename

    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(Path, name, counted(name))
        with suppress(KeyboardInterrupt):
            activate_host_key(tmp_path)
    used = load_host_key(tmp_path).get_fingerprint()
    assert used in (first, second)
    assert asyncssh.read_public_key(tmp_path / f"{NAME}.pub").get_fingerprint() == used
    if (tmp_path / f"{NAME}.next").exists():
        activate_host_key(tmp_path)
    assert states(tmp_path)[0][1] == second


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("user", "it is a user's"),
        ("other", "for another key"),
        ("expired", "it is expired"),
        ("early", "it is not yet valid"),
        ("damaged", "cannot be read"),
        ("key", "cannot be read"),
    ],
)
def test_a_wrong_certificate_is_left_out(tmp_path: Path, how: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    authority, keys = Authority(tmp_path), tmp_path / "keys"
    ensure_host_key(keys)
    file = keys / f"{NAME}-cert.pub"
    if how == "other":
        ensure_host_key(tmp_path / "others")
        certificate(authority, tmp_path / "others", "-h")
        (tmp_path / "others" / file.name).rename(file)
    elif how == "damaged":
        file.write_bytes(b"ssh-ed25519-cert-v01@openssh.com AAAA\xff\x1b[2J")
    elif how == "key":
        file.write_bytes((keys / f"{NAME}.pub").read_bytes())
    else:
        times = {"expired": "-2h:-1h", "early": "+1h:+2h", "user": "-1h:+1h"}
        certificate(authority, keys, *(() if how == "user" else ("-h",)), valid=times[how])
    with caplog.at_level(logging.WARNING):
        assert load_host_keys(keys).certificate is None
    assert said in caplog.text
    assert "\x1b" not in caplog.text
    assert said in list_host_keys(keys)[0].certificate


def test_the_next_key_must_be_private_too(tmp_path: Path) -> None:
    prepare_host_key(tmp_path)
    (tmp_path / f"{NAME}.next").chmod(0o644)
    with pytest.raises(HostError, match="chmod 600"):
        load_host_keys(tmp_path)


def aliased(person: Person, known_hosts: Path, *options: str) -> list[str]:
    line = [
        f"UserKnownHostsFile={known_hosts}" if part.startswith("UserKnownHosts") else part for part in person.line()
    ]
    return [*line[:-1], "-oHostKeyAlias=gate", *options, line[-1]]


def restart(stage: GatewayStage) -> None:
    stage.gateway.close()
    stage.start()


def test_a_certified_host_is_believed_by_its_authority_alone(stage: GatewayStage) -> None:
    authority, alice = Authority(stage.home), stage.person("alice")
    known = stage.home / "known"
    known.write_text(f"@cert-authority gate {authority.line}")
    command = [*aliased(alice, known), "echo in"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 255
    certificate(authority, stage.home / "keys", "-h")
    restart(stage)
    done = subprocess.run([*aliased(alice, known), "echo in"], capture_output=True, timeout=30)
    assert done.stdout == b"in\n", done.stderr
    assert alice.run("echo in").stdout == b"in\n"  # who knows the key itself still may


def test_clients_learn_the_next_key_and_then_forget_the_old_one(stage: GatewayStage) -> None:
    alice, keys, known = stage.person("alice"), stage.home / "keys", stage.home / "known"

    def public(name: str) -> str:
        return " ".join((keys / name).read_text().split()[:2])

    def visit() -> None:
        """A login that lasts until the client has written down what it wants."""
        line = aliased(alice, known, "-oUpdateHostKeys=yes")
        with subprocess.Popen([*line, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(b"in\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"in\n"
            until(lambda: wanted == known_keys(), what=f"{known_keys()}")
            client.stdin.close()
            assert client.wait(10) == 0

    def known_keys() -> set[str]:
        return {line.split(" ", 1)[1] for line in known.read_text().splitlines()}

    first = public(f"{NAME}.pub")
    known.write_text(f"gate {first}\n")
    prepare_host_key(keys)
    second = public(f"{NAME}.next.pub")
    restart(stage)
    wanted = {first, second}
    visit()
    activate_host_key(keys)
    restart(stage)
    wanted = {second}
    visit()


def test_what_is_announced_is_keys_and_each_is_proven(stage: GatewayStage) -> None:
    """Not the certificate, which clients could not write down. asyncssh's client checks the proofs."""
    keys = stage.home / "keys"
    prepare_host_key(keys)
    certificate(Authority(stage.home), keys, "-h")
    restart(stage)
    alice = stage.person("alice")
    told: list[list[str]] = []

    async def run() -> None:
        heard = asyncio.Event()

        def learned(*lists: list[asyncssh.SSHKey]) -> None:
            told.extend([key.get_fingerprint() for key in found] for found in lists)
            heard.set()

        trusted = load_host_key(keys).convert_to_public()
        async with alice.connect(
            known_hosts=([trusted], [], []), server_host_keys_handler=learned, server_host_key_algs=["ssh-ed25519"]
        ):
            await asyncio.wait_for(heard.wait(), 10)

    asyncio.run(run())
    current, following = (found.fingerprint for found in list_host_keys(keys))
    assert told == [[following], [], [current], []]


def test_a_proof_of_a_key_that_is_not_ours_is_refused(stage: GatewayStage) -> None:
    alice = stage.person("alice")
    stranger = asyncssh.generate_private_key("ssh-ed25519").public_data

    async def run() -> int:
        async with alice.connect() as connection:
            said = await connection._make_global_request(
                b"hostkeys-prove-00@openssh.com", asyncssh.packet.String(stranger)
            )
            return int(said[0])

    assert asyncio.run(run()) == 82  # MSG_REQUEST_FAILURE


@pytest.mark.parametrize(("times", "answer"), [(1, 81), (2, 82)])
def test_no_more_proofs_than_there_are_keys(stage: GatewayStage, times: int, answer: int) -> None:
    """MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE: each proof is a signature, and a packet has room for thousands."""
    alice = stage.person("alice")
    key = asyncssh.packet.String(load_host_key(stage.home / "keys").public_data)

    async def run() -> int:
        async with alice.connect() as connection:
            said = await connection._make_global_request(b"hostkeys-prove-00@openssh.com", key * times)
            return int(said[0])

    assert asyncio.run(run()) == answer
