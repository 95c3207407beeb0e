"""This host's signing key, and DSSE envelopes (Dead Simple Signing Envelope 1.0) with in-toto statements in them.

    keys/provenance       ed25519, PKCS #8 in PEM, 0600; made by `workspaces init`, or when first needed
    keys/provenance.pub   its public half, SubjectPublicKeyInfo in PEM, which openssl and cosign read

ed25519 signs without chance, so equal bytes under one key give an equal envelope. A key is known by the SHA-256 of its
public half in DER: `openssl pkey -pubin -in provenance.pub -outform DER | sha256sum`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from workspaces.errors import HostError, InvalidInput, StatementError
from workspaces.files import put
from workspaces.names import printable

if TYPE_CHECKING:  # else imported where it is used: it takes a fifth of a second, of every command
    from securesystemslib.signer import SSlibKey

NAME = "provenance"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAX_KEY = 4096  # bytes of a PEM file; ed25519 needs 120


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures are checked with; `fingerprint` is `sha256:` and the digest of the key in DER, hexadecimal."""

    pem: bytes
    fingerprint: str
    key: SSlibKey

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> PublicKey:
        from securesystemslib.signer import SSlibKey

        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = hashlib.sha256(der).hexdigest()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return cls(pem, f"sha256:{digest}", SSlibKey.from_crypto(key, keyid=digest))

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """The public key in a PEM file. Raises InvalidInput."""
        try:
            with path.open("rb") as file:
                key = load_pem_public_key(file.read(_MAX_KEY))
        except OSError as exc:
            raise InvalidInput(f"{path} cannot be read: {exc.strerror}.") from exc
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidInput(f"{path} holds no ed25519 public key.", "See: workspaces snapshot key")
        return cls.of(key)


class Signer:
    """Signs with the key in directory `keys`, which is made there when it is first needed."""

    def __init__(self, keys: Path) -> None:
        self._path = keys / NAME

    @property
    def public(self) -> PublicKey:
        """The public half. Raises HostError when the key cannot be read or made."""
        return PublicKey.of(self._private.public_key())

    def sign(self, payload: bytes) -> bytes:
        """An in-toto statement's bytes, in an envelope as JSON. Raises HostError."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import CryptoSigner

        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(self._private, self.public.key))
        return json.dumps(envelope.to_dict(), separators=(",", ":"), sort_keys=True).encode("ascii")

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        from securesystemslib.signer import CryptoSigner

        path = self._path
        with _told(path):
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                put(path, CryptoSigner.generate_ed25519().private_bytes, 0o600)
            if path.stat().st_mode & 0o077:
                raise HostError(f"Others can read the signing key {path}.", f"Make it yours alone: chmod 600 {path}")
            key = load_pem_private_key(path.read_bytes()[:_MAX_KEY], None)
            if not isinstance(key, Ed25519PrivateKey):
                raise ValueError("it is not ed25519")
            public, pem = path.with_name(f"{NAME}.pub"), PublicKey.of(key.public_key()).pem
            if not public.exists() or public.read_bytes() != pem:
                put(public, pem, 0o644, over=True)
        return key


def open_envelope(data: bytes, key: PublicKey) -> bytes:
    """The payload of an envelope that `key`, and nobody else, has signed. Raises StatementError with what is wrong."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, UnverifiedSignatureError

    try:
        envelope = Envelope.from_dict(json.loads(data))
        signers = list(envelope.signatures)
        pae = envelope.pae()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as exc:
        raise StatementError(f"The statement is no DSSE envelope: {printable(repr(exc))}.") from exc
    if envelope.payload_type != PAYLOAD_TYPE:
        found = printable(str(envelope.payload_type), 80)
        raise StatementError(f"The envelope holds {found!r}, not an in-toto statement.")
    if len(signers) != 1:
        raise StatementError(f"The envelope has {len(signers)} signatures; one is expected.")
    if signers[0] != key.key.keyid:
        raise StatementError(
            f"It is signed by sha256:{printable(str(signers[0]), 64)}, not by {key.fingerprint}.",
            "If another host made it, check it with that host's key.",
        )
    try:
        key.key.verify_signature(envelope.signatures[signers[0]], pae)
    except UnverifiedSignatureError as exc:
        raise StatementError(f"The signature of {key.fingerprint} is not of these bytes.") from exc
    return bytes(envelope.payload)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise HostError(f"The signing key {path} is damaged: {exc}.", "Put back the copy from a backup.") from exc
    except OSError as exc:
        raise HostError(f"The signing key {path} cannot be used: {exc.strerror}.") from exc
