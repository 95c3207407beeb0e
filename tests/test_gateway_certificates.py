"""User certificates, made with ssh-keygen: whom they let in, where, and with what."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncssh
import pytest

from sshgate import userauth
from sshgate.grant import forced
from tests.support.gateway import PASSWORD, GatewayStage, Person, memory_stage, until, whoami
from tests.support.identities import TOUCHED, VERIFIED, Authority, Pair, SecurityKey, certify, loaded
from workspaces.guest.client import SpawnRequest

pytestmark = pytest.mark.slow

HERE, ELSEWHERE = "127.0.0.0/8", "192.0.2.0/24"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        made.store.add_challenge("brain", made.image, actor="chief")
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    """In als and brain, as `alice` and `thinker`."""
    person = stage.person("alice", password=True)
    stage.store.add_workspace("brain", "thinker", ["alice"], actor="chief")
    return person


@pytest.fixture(scope="module")
def bob(stage: GatewayStage) -> Person:
    return stage.person("bob")


@pytest.fixture(scope="module")
def host_wide(stage: GatewayStage) -> Authority:
    authority = Authority(stage.home)
    stage.store.add_authority(*authority.parsed, actor="chief")
    return authority


@pytest.fixture(scope="module")
def of_brain(stage: GatewayStage) -> Authority:
    authority = Authority(stage.home)
    stage.store.add_authority(*authority.parsed, "brain", actor="chief")
    return authority


@pytest.fixture(autouse=True)
def fresh_limits(stage: GatewayStage) -> None:
    stage.gateway.forget_limits()


def with_pair(person: Person, pair: Pair | asyncssh.SSHKeyPair, workspace: str = "alice") -> str:
    """The workspace and the name that the certificate, and it alone, gets."""
    offered = pair if isinstance(pair, asyncssh.SSHKeyPair) else loaded(pair)
    return whoami(person, username=f"{person.name}+{workspace}", client_keys=[offered])


def test_a_certificate_lets_in_and_is_written_down(stage: GatewayStage, alice: Person, host_wide: Authority) -> None:
    pair = host_wide.sign("-z", "42", principals="root,alice")
    assert with_pair(alice, pair) == "als/alice alice"
    assert with_pair(alice, pair, "brain") == "brain/thinker alice"
    until(lambda: stage.store.events(actor="alice", kind="login.accepted"))
    data = stage.store.events(1, actor="alice", kind="login.accepted")[0].data
    said = {"with": "certificate", "authority": host_wide.parsed[0], "key_id": "some id", "serial": "42"}
    assert data == {"address": "127.0.0.1", **said}


def test_openssh(alice: Person, host_wide: Authority) -> None:
    key, certificate = host_wide.sign()
    line = [key if part == str(alice.key) else part for part in alice.line(f"-oCertificateFile={certificate}")]
    line[-1] = line[-1].replace("alice@", "alice+alice@")
    assert subprocess.run([*line, "echo in"], capture_output=True, timeout=30).stdout == b"in\n"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_authorities_of_other_kinds(stage: GatewayStage, alice: Person, kind: str) -> None:
    authority = Authority(stage.home, kind)
    stage.store.add_authority(*authority.parsed, actor="chief")
    assert with_pair(alice, authority.sign()) == "als/alice alice"
    stage.store.remove_authority(authority.parsed[0], actor="chief")
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(alice, authority.sign())


def test_sha_1_makes_no_certificate(stage: GatewayStage, alice: Person) -> None:
    authority = Authority(stage.home, "rsa")
    stage.store.add_authority(*authority.parsed, actor="chief")
    assert with_pair(alice, authority.sign("-t", "rsa-sha2-256")) == "als/alice alice"
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(alice, authority.sign("-t", "ssh-rsa"))


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ((), {"principals": "bob"}),
        ((), {"principals": "bob,alice+alice,ALICE,*,alic,alice "}),
        ((), {"principals": None}),  # everybody's, says asyncssh
        ((), {"valid": "-2h:-1h"}),
        ((), {"valid": "+1h:+2h"}),
        (("-h",), {}),
        (("-O", f"source-address={ELSEWHERE}"), {}),
        (("-O", "critical:no-such-option@example.org=x"), {}),
        (("-O", "critical:permit-pty"), {}),
        (("-O", "critical:source-address="), {}),
        (("-O", f"critical:source-address={HERE},nonsense"), {}),
        (("-O", "force-command=echo in", "-O", "critical:force-command=id"), {}),
        (("-O", "verify-required"), {}),  # of a key that cannot
    ],
)
def test_who_is_refused(alice: Person, host_wide: Authority, options: tuple[str, ...], more: dict[str, Any]) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(alice, host_wide.sign(*options, **more))


def test_an_authority_that_nobody_trusts(stage: GatewayStage, alice: Person) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(alice, Authority(stage.home).sign())


def test_a_certificate_that_was_altered(alice: Person, host_wide: Authority) -> None:
    """Its bytes are changed one by one: none of these lets in, and none of them makes the gateway stumble."""
    _, path = host_wide.sign(principals="bob")
    blob = asyncssh.read_certificate(path).public_data
    assert userauth._read(blob)[1] is not None
    rng = random.Random(7)
    for at in range(len(blob)):
        key, certificate = userauth._read(blob[:at] + bytes([blob[at] ^ rng.randrange(1, 256)]) + blob[at + 1 :])
        assert (key, certificate) == (None, None), at
        assert userauth._read(blob[:at]) == (None, None), at
    renamed = blob.replace(b"\0\0\0\7\0\0\0\3bob", b"\0\0\0\7\0\0\0\3eve")
    assert userauth._read(renamed) == (None, None)
    assert renamed != blob


def test_another_s_certificate_with_one_s_own_key(alice: Person, bob: Person, host_wide: Authority) -> None:
    """bob has alice's certificate, which is public, and signs with his own key."""
    pair = host_wide.sign()
    assert with_pair(alice, pair) == "als/alice alice"
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(alice, loaded(pair, bob.key))


def test_unknown_and_disabled_accounts(stage: GatewayStage, alice: Person, host_wide: Authority) -> None:
    pair = host_wide.sign(principals="alice,nobody,carol")
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(alice, username="nobody", client_keys=[loaded(pair)])
    carol = stage.person("carol")
    assert with_pair(carol, pair, "carol") == "als/carol carol"
    stage.store.set_disabled("carol", True, actor="chief")
    with pytest.raises(asyncssh.PermissionDenied):
        with_pair(carol, pair, "carol")


def test_whose_key_is_certified_does_not_matter(alice: Person, bob: Person, host_wide: Authority) -> None:
    """bob's key, which is in the store, in a certificate for alice: it is alice who is in; without it, bob."""
    bob.key.with_name(f"{bob.key.name}.pub").write_bytes(asyncssh.read_private_key(bob.key).export_public_key())
    pair = host_wide.sign(key=bob.key)
    assert with_pair(alice, pair) == "als/alice alice"
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(bob, client_keys=[loaded(pair)])
    assert whoami(bob) == "als/bob bob"


def test_an_offered_certificate_proves_nothing(alice: Person, bob: Person, host_wide: Authority) -> None:
    """Probed and not signed with, it leaves neither its restrictions nor its reach behind."""
    pair = host_wide.sign("-O", "clear", "-O", "force-command=echo forced")
    wrong = Authority(host_wide.home).key
    said = whoami(alice, username="alice+alice", client_keys=[loaded(pair, wrong)], password=PASSWORD)
    assert said == "als/alice alice"
    assert with_pair(alice, pair) == "forced"


def test_source_address_and_an_unknown_extension(alice: Person, host_wide: Authority) -> None:
    """The extension's value is the name of another, which it must not grant."""
    options = ("-O", "clear", "-O", f"source-address={ELSEWHERE},{HERE}", "-O", "extension:a@example.org=permit-pty")
    pair = host_wide.sign(*options)
    assert with_pair(alice, pair) == "als/alice alice"
    parsed = userauth._read(loaded(pair).public_data)[1]
    assert parsed
    assert not parsed.options.pty
    assert not parsed.options.port_forwarding


def openssh(person: Person, pair: Pair, *options: str, command: tuple[str, ...] = (), workspace: str = "alice") -> str:
    line = [pair[0] if part == str(person.key) else part for part in person.line(f"-oCertificateFile={pair[1]}")]
    line[-1] = line[-1].replace(f"{person.name}@", f"{person.name}+{workspace}@")
    done = subprocess.run([*line[:-1], *options, line[-1], *command], capture_output=True, timeout=30, text=True)
    return done.stdout + done.stderr


def test_the_permit_extensions(alice: Person, host_wide: Authority) -> None:
    everything, nothing = host_wide.sign(), host_wide.sign("-O", "clear")
    assert "PTY allocation request failed" in openssh(alice, nothing, "-tt", command=("echo in",))
    assert openssh(alice, everything, "-tt", command=("test -t 1 && echo in",)) == "in\n"

    async def open_(pair: Pair) -> int:
        async with alice.connect(username="alice+alice", client_keys=[loaded(pair)]) as connection:
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await connection.open_connection("127.0.0.1", 1)
            return int(caught.value.code)

    assert asyncio.run(open_(nothing)) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
    assert asyncio.run(open_(everything)) == asyncssh.OPEN_CONNECT_FAILED


def test_force_command(alice: Person, host_wide: Authority) -> None:
    pair = host_wide.sign("-O", 'force-command=echo "it\'s: $SSH_ORIGINAL_COMMAND"')
    assert openssh(alice, pair, command=("rm -rf /",)) == "it's: rm -rf /\n"
    assert openssh(alice, pair) == "it's: \n"
    assert openssh(alice, pair, "-s", command=("sftp",)) == "it's: /usr/lib/openssh/sftp-server\n"


def test_a_challenge_s_authority_lets_into_its_workspaces_only(
    stage: GatewayStage, alice: Person, bob: Person, of_brain: Authority
) -> None:
    pair = of_brain.sign()
    assert whoami(alice, client_keys=[loaded(pair)]) == "brain/thinker alice"  # the only one of the two that it may be
    assert with_pair(alice, pair, "thinker") == "brain/thinker alice"
    for wanted in ("alice", "als", "als/alice"):
        said = openssh(alice, pair, command=("echo in",), workspace=wanted)
        assert "Your certificate is for the challenge brain only." in said
        assert "in\n" not in said.splitlines()
    assert "You are in no workspace 'elsewhere'" in openssh(alice, pair, command=("id",), workspace="elsewhere")
    theirs = of_brain.sign(principals="bob")
    assert "for the challenge brain only" in openssh(bob, theirs, command=("id",), workspace="bob")
    stage.store.add_authority(*of_brain.parsed, "als", actor="chief")
    assert with_pair(bob, theirs, "bob") == "als/bob bob"
    stage.store.remove_authority(of_brain.parsed[0], "als", actor="chief")


def test_a_key_id_is_made_printable(stage: GatewayStage, alice: Person, host_wide: Authority) -> None:
    pair = host_wide.sign("-I", "\x1b[2J\u202e" + "x" * 5000)
    assert with_pair(alice, pair) == "als/alice alice"

    def told() -> str:
        return stage.store.events(1, actor="alice", kind="login.accepted")[0].data.get("key_id", "")

    until(lambda: told().startswith("\\x1b[2J\\u202exx"))
    assert told().isprintable()
    assert len(told()) < 150


@pytest.mark.parametrize("flags", [0, TOUCHED, VERIFIED, TOUCHED | VERIFIED])
@pytest.mark.parametrize("option", ["", "no-touch-required", "verify-required"])
def test_a_certified_security_key(
    stage: GatewayStage, alice: Person, host_wide: Authority, flags: int, option: str
) -> None:
    token = SecurityKey(flags=flags)
    path = stage.home / f"token-{flags}-{option}"
    path.with_name(f"{path.name}.pub").write_text(token.line)
    _, certificate = host_wide.sign(*(["-O", option] if option else []), key=path)
    certify(token, certificate)
    good = bool(flags & TOUCHED or option == "no-touch-required") and bool(
        flags & VERIFIED or option != "verify-required"
    )
    if good:
        assert with_pair(alice, token) == "als/alice alice"
    else:
        with pytest.raises(asyncssh.PermissionDenied):
            with_pair(alice, token)


def test_many_offers_are_counted(alice: Person, stage: GatewayStage) -> None:
    stranger = Authority(stage.home)
    pairs = [stranger.sign() for _ in range(30)]
    with pytest.raises(asyncssh.DisconnectError, match="Too many"):
        whoami(alice, client_keys=[loaded(pair) for pair in pairs])


def test_forced_sftp() -> None:
    asked = SpawnRequest(command=b"id")
    request, told = forced("internal-sftp", asked)
    assert request.command is None
    assert request.argv
    assert told == {b"SSH_ORIGINAL_COMMAND": b"id"}
    assert forced(None, asked) == (asked, {})
    assert forced("id", SpawnRequest()) == (SpawnRequest(command=b"id"), {})
