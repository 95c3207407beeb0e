"""Ways to show who one is: certificates made with ssh-keygen, and a security key made of software."""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from asyncssh.packet import Byte, MPInt, SSHPacket, String, UInt32
from asyncssh.public_key import SSHLocalKeyPair
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from workspaces.accounts import parse_public_key

TOUCHED, VERIFIED = 1, 4
_numbers = itertools.count()

Pair = tuple[str, str]  # paths of a private key and a certificate


def keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL, timeout=60)


@dataclass
class Authority:
    """A certificate authority in directory `home`."""

    home: Path
    kind: str = "ed25519"
    key: Path = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.home / f"authority-{next(_numbers)}"
        keygen("-t", self.kind, "-N", "", "-C", "authority", "-f", self.key)

    @property
    def line(self) -> str:
        return self.key.with_name(f"{self.key.name}.pub").read_text()

    @property
    def parsed(self) -> tuple[str, str]:
        """Fingerprint and line, as the store takes them."""
        return parse_public_key(self.line)

    def sign(
        self, *options: str, principals: str | None = "alice", valid: str = "-1h:+1h", key: Path | None = None
    ) -> Pair:
        """A certificate for `key`, or for a new one; `options` are ssh-keygen's."""
        if key is None:
            key = self.home / f"id-{next(_numbers)}"
            keygen("-t", "ed25519", "-N", "", "-f", key)
        names = ["-n", principals] if principals is not None else []
        keygen("-s", self.key, "-I", "some id", *names, "-V", valid, *options, f"{key}.pub")
        return str(key), f"{key}-cert.pub"


def loaded(pair: Pair, key: Path | None = None) -> asyncssh.SSHKeyPair:
    """A key with its certificate for asyncssh's client, whatever is in that; `key` signs instead of the right one."""
    made = SSHLocalKeyPair(asyncssh.read_private_key(key or pair[0]), None, None, None)
    certify(made, pair[1])
    return made


def certify(key: asyncssh.SSHKeyPair, certificate: str) -> None:
    """Let a key show that certificate, whatever is in it."""
    key.public_data = base64.b64decode(Path(certificate).read_text().split()[1])
    key.algorithm = SSHPacket(key.public_data).get_string()


class SecurityKey(asyncssh.SSHKeyPair):
    """An ed25519 or ECDSA key as on a FIDO token, that is touched when `flags` say so."""

    def __init__(self, kind: str = "ed25519", flags: int = TOUCHED, application: str = "ssh:") -> None:
        self.flags = flags
        self.application = application.encode()
        self.counter = 7
        if kind == "ed25519":
            self.secret = Ed25519PrivateKey.generate()
            algorithm = b"sk-ssh-ed25519@openssh.com"
            raw = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            blob = String(algorithm) + String(raw) + String(application)
        else:
            self.curve = generate_private_key(SECP256R1())
            algorithm = b"sk-ecdsa-sha2-nistp256@openssh.com"
            point = self.curve.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            blob = String(algorithm) + String("nistp256") + String(point) + String(application)
        super().__init__(algorithm, algorithm, (algorithm,), (algorithm,), blob, b"token")

    @property
    def line(self) -> str:
        """As in its .pub file."""
        return asyncssh.public_key.decode_ssh_public_key(self.key_public_data).export_public_key().decode()

    def sign(self, data: bytes) -> bytes:
        """OpenSSH's PROTOCOL.u2f: the token signs hash of application, flags, counter, hash of the data."""
        said = struct.pack(">BI", self.flags, self.counter)
        signed = hashlib.sha256(self.application).digest() + said + hashlib.sha256(data).digest()
        if self.algorithm.startswith(b"sk-ssh"):
            signature = self.secret.sign(signed)
        else:
            r, s = decode_dss_signature(self.curve.sign(signed, ECDSA(SHA256())))
            signature = MPInt(r) + MPInt(s)
        return String(self.key_algorithm) + String(signature) + Byte(self.flags) + UInt32(self.counter)
