"""asyncssh's packets with fewer copies: what a session's bytes go through, many times a second.

    Output ──► Channel.write() ──► Connection.send_packet() ──► Gcm ──► transport
               pieces of a view     one join                     no cut

Like `connection`, which builds on it, this file leans on asyncssh's internals; `tests/test_gateway_packets.py` fails
when they change. Each step does what asyncssh's own does, but
- data that the window has room for goes out as slices of a view, without a buffer in between;
- a packet is put together in one step, and its authentication tag is not cut off to be put back;
- AES's key is expanded once, not for each packet;
- no text is made of a packet for a log that nobody keeps;
- much input is parsed by the piece, since what is left of it is copied with each packet.
"""

from __future__ import annotations

import os
import time
from typing import Any

import asyncssh
from asyncssh import encryption
from asyncssh.channel import SSHChannel
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_USERAUTH_LAST
from asyncssh.packet import Byte, UInt32
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STEP = 36 << 10  # bytes of input parsed at a time: a packet of the usual largest size and a little more
COUNTER_MASK = (1 << 64) - 1


class Gcm(encryption.Encryption):
    """AES-GCM as in RFC 5647: the length is authenticated and not encrypted, the nonce's last 8 bytes count."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._cipher = AESGCM(key)
        self._fixed = iv[:4]
        self._count = int.from_bytes(iv[4:], "big")

    @classmethod
    def new(
        cls, cipher_name: str, key: bytes, iv: bytes, mac_alg: bytes = b"", mac_key: bytes = b"", etm: bool = False
    ) -> Gcm:
        del cipher_name, mac_alg, mac_key, etm
        return cls(key, iv)

    @classmethod
    def needs_mac(cls) -> bool:
        return False

    @classmethod
    def get_mac_params(cls, mac_alg: bytes) -> tuple[int, int, bool]:
        del mac_alg
        return 0, 16, True

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & COUNTER_MASK
        return nonce

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """The whole packet, with its tag, and nothing to come after it."""
        del seq
        return header + self._cipher.encrypt(self._nonce(), packet, header), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        del seq
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        del seq
        try:
            return self._cipher.decrypt(self._nonce(), b"".join((first[header_len:], rest, mac)), first[:header_len])
        except InvalidTag:
            return None


def install() -> None:
    """Have asyncssh use Gcm in this process."""
    for name in ("aes128-gcm", "aes256-gcm"):
        encryption._enc_params[f"{name}@openssh.com".encode()] = (Gcm, name)


class QuickConnection(asyncssh.SSHServerConnection):
    """Sends and receives packets as asyncssh's does."""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if len(data) <= STEP:
            super().data_received(data, datatype)
            return
        for start in range(0, len(data), STEP):
            super().data_received(data[start : start + STEP], datatype)

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """One of the connection protocol goes out at once unless keys are, or are to be, exchanged."""
        if (
            pkttype <= MSG_USERAUTH_LAST
            or not (self._auth_complete and self._kex_complete and self._send_encryption)
            or self._rekey_bytes_sent >= self._rekey_bytes
            or (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        ):
            super().send_packet(pkttype, *args, handler=handler)
            return
        length = 1 + sum(map(len, args))
        padding = -(self._send_enchdrlen + length) % self._send_blocksize
        if padding < 4:
            padding += self._send_blocksize
        packet = b"".join((Byte(padding), Byte(pkttype), *args, os.urandom(padding)))
        sealed, mac = self._send_encryption.encrypt_packet(self._send_seq, UInt32(len(packet)), packet)
        self._send(sealed + mac)
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += len(packet)

    def log_sent_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        pass

    def log_received_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        pass


class QuickChannel(SSHChannel[bytes]):
    """Sends bytes as asyncssh's does."""

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """What the window has no room for waits in asyncssh's buffer. Raises OSError when the channel is closing."""
        view, taken = memoryview(data), 0
        if self._send_state == "open" and not self._send_buf:
            while taken < len(view) and self._send_window:
                piece = view[taken : taken + min(self._send_window, self._send_pktsize)]
                taken += len(piece)
                self._send_window -= len(piece)
                if datatype is None:
                    self.send_packet(MSG_CHANNEL_DATA, UInt32(len(piece)), piece)
                else:
                    self.send_packet(MSG_CHANNEL_EXTENDED_DATA, UInt32(datatype), UInt32(len(piece)), piece)
        super().write(bytes(view[taken:]) if taken else data, datatype)

    def send_packet(self, pkttype: int, *args: Any) -> None:
        if self._send_chan is not None and self._conn is not None:
            self._conn.send_packet(pkttype, UInt32(self._send_chan), *args, handler=self)

    def log_sent_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        pass

    def log_received_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        pass
