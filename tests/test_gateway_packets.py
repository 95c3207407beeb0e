"""What `sshgate.packets` does faster than asyncssh must give the same bytes; this fails when asyncssh changes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from asyncssh.connection import SSHConnection
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import UInt32

from sshgate.packets import STEP, Gcm
from tests.support.gateway import GatewayStage, Person, memory_stage

pytestmark = pytest.mark.slow

KEY, IV = bytes(range(32)), b"abcd" + b"\xff" * 8  # its counter turns over with the second packet


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    return stage.person("alice")


@pytest.mark.parametrize("bits", [128, 256])
def test_gcm_makes_and_opens_the_same_packets_as_asyncssh(bits: int) -> None:
    key = KEY[: bits // 8]

    def new() -> tuple[Encryption, Encryption]:
        return Gcm.new("", key, IV), GCMEncryption.new(f"aes{bits}-gcm", key, IV)

    for ours, theirs in (new(), reversed(new())):
        for seq, size in enumerate((16, 32768, 48)):
            packet = os.urandom(size)
            sealed, mac = ours.encrypt_packet(seq, UInt32(size), packet)
            whole = sealed + mac
            assert len(whole) == 4 + size + 16
            first, header = theirs.decrypt_header(seq, whole[:16], 4)
            assert header == UInt32(size)
            assert theirs.decrypt_packet(seq, first, whole[16:-16], 4, whole[-16:]) == packet


def test_gcm_refuses_a_byte_that_changed() -> None:
    sealed, _ = Gcm(KEY, IV).encrypt_packet(0, UInt32(16), bytes(16))
    for place in (0, 5, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        data = bytes(changed)
        assert Gcm(KEY, IV).decrypt_packet(0, data[:16], data[16:-16], 4, data[-16:]) is None


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr"])
@pytest.mark.parametrize(
    ("window", "packet"), [(1, 1), (1000, 999), (100_000, 32768), (2 << 20, 3 << 20)], ids=lambda n: str(n)
)
def test_bytes_pass_whole_whatever_window_and_packet_size(alice: Person, cipher: str, window: int, packet: int) -> None:
    sent = os.urandom(500 if window == 1 else 300_000)

    async def run() -> Any:
        async with alice.connect(encryption_algs=[cipher]) as connection:
            return await connection.run("tee /dev/stderr", input=sent, encoding=None, window=window, max_pktsize=packet)

    done = asyncio.run(run())
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent).digest()
    assert hashlib.sha256(done.stderr).digest() == hashlib.sha256(sent).digest()


def test_keys_are_exchanged_anew_amid_output_and_input(
    stage: GatewayStage, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = []
    original = SSHConnection._send_kexinit

    def counted(self: SSHConnection) -> None:
        if self.is_server():
            exchanges.append(self)
            self._rekey_bytes = 100_000  # of what the gateway sends, instead of 1 GiB
        original(self)

    monkeypatch.setattr(SSHConnection, "_send_kexinit", counted)
    sent = os.urandom(1_000_000)
    done = alice.run("cat", stdin=sent)
    assert done.stdout == sent
    assert len(exchanges) > 5


def test_a_long_read_is_parsed_by_the_piece(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = []
    original = SSHConnection.data_received

    def noted(self: SSHConnection, data: bytes, datatype: Any = None) -> None:
        if self.is_server():
            longest.append(len(data))
        original(self, data, datatype)

    monkeypatch.setattr(SSHConnection, "data_received", noted)
    sent = os.urandom(3_000_000)
    assert alice.run("sha256sum", stdin=sent).stdout.split()[0].decode() == hashlib.sha256(sent).hexdigest()
    assert max(longest) <= STEP
