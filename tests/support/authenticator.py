"""A passkey in software: it makes credentials and signs, so that tests need no browser for what a page refuses."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from workspaces.store import Store

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def plant(store: Store, user: str) -> None:
    """A passkey that only the store knows; other than by adding it, who is signed in stays so."""
    store._db().execute(
        "INSERT INTO passkeys (user_id, credential, public_key, sign_count, transports, name, added_at) "
        "VALUES (?, 'credential', x'00', 0, '[]', 'laptop', 0)",
        [store.user(user).id],
    )


@dataclass
class Authenticator:
    """One passkey. `origin` is where its browser believes to be; `flags` what it says of the person."""

    origin: str = "http://localhost"
    flags: int = PRESENT | VERIFIED
    count: int = 0
    id: bytes = field(default_factory=lambda: os.urandom(16))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    handle: bytes = b""

    def create(self, options: dict[str, Any]) -> str:
        """The answer to what a page asks to make one with, as JSON."""
        self.handle = decode(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(cose)
        data = self._data(options["rp"]["id"], ATTESTED) + credential
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        said = self._client("webauthn.create", options["challenge"])
        return self._answer(
            clientDataJSON=encode(said), attestationObject=encode(attestation), transports=["internal", "no such"]
        )

    def get(self, options: dict[str, Any]) -> str:
        """The answer to what a page asks to prove oneself with, as JSON."""
        self.count += 1
        data, said = self._data(options["rpId"]), self._client("webauthn.get", options["challenge"])
        signature = self.key.sign(data + hashlib.sha256(said).digest(), ec.ECDSA(SHA256()))
        return self._answer(
            clientDataJSON=encode(said),
            authenticatorData=encode(data),
            signature=encode(signature),
            userHandle=encode(self.handle),
        )

    def _data(self, rp_id: str, more: int = 0) -> bytes:
        flags = bytes([self.flags | more])
        return hashlib.sha256(rp_id.encode()).digest() + flags + self.count.to_bytes(4, "big")

    def _client(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _answer(self, **response: Any) -> str:
        name = encode(self.id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
