"""The gateway's ed25519 host keys, in the state directory: the one in use, and the one that comes after it.

    ssh_host_ed25519_key            made at the first start, never changed by itself
    ssh_host_ed25519_key-cert.pub   a certificate for it, if somebody signed one: offered when it is right
    ssh_host_ed25519_key.next       prepared: clients learn it (UpdateHostKeys), and nothing else
    ssh_host_ed25519_key.old        what was in use before the last change

A gateway reads them when it starts, and its workers get what it read: one that starts later shows the same.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncssh
from asyncssh.public_key import CERT_TYPE_HOST, SSHOpenSSHCertificate

from workspaces.errors import Conflict, HostError, NotFound
from workspaces.files import put, sync_directory
from workspaces.names import printable

log = logging.getLogger(__name__)

NAME = "ssh_host_ed25519_key"
_NEXT = f"{NAME}.next"
_OLD = f"{NAME}.old"


@dataclass(frozen=True, slots=True)
class HostKeys:
    """What a gateway has to show: the key in use, a right certificate for it, and keys that are only told of."""

    current: asyncssh.SSHKey
    certificate: SSHOpenSSHCertificate | None = None
    others: tuple[asyncssh.SSHKey, ...] = ()

    def pack(self) -> bytes:
        """All of it, private keys included, for another process of this gateway."""
        data = {
            "current": self.current.export_private_key().decode("ascii"),
            "certificate": self.certificate and self.certificate.export_certificate().decode("ascii"),
            "others": [key.export_private_key().decode("ascii") for key in self.others],
        }
        return json.dumps(data).encode("ascii")

    @classmethod
    def unpack(cls, packed: bytes) -> HostKeys:
        data = json.loads(packed)
        text = data["certificate"]
        certificate = text and cast(SSHOpenSSHCertificate, asyncssh.import_certificate(text))
        others = tuple(asyncssh.import_private_key(text) for text in data["others"])
        return cls(asyncssh.import_private_key(data["current"]), certificate, others)


@dataclass(frozen=True, slots=True)
class HostKeyState:
    """One host key as `workspaces hostkey list` tells of it: `state` is in use or next."""

    state: str
    fingerprint: str
    path: str
    certificate: str  # `right`, `none`, or what is wrong with it


def ensure_host_key(keys: Path) -> str:
    """Make sure that there is a key in directory `keys`; returns its fingerprint, `SHA256:…`. Raises HostError."""
    return load_host_key(keys).get_fingerprint()


def load_host_keys(keys: Path) -> HostKeys:
    """All that directory `keys` holds; the key in use is made when there is none. Raises HostError.

    A certificate that clients would refuse is left out, with a warning.
    """
    current = load_host_key(keys)
    certificate, wrong = _certificate(keys / NAME, current)
    if wrong:
        log.warning("the host certificate %s is not offered: %s", _certificate_path(keys / NAME), wrong)
    others = (_load(keys / _NEXT),) if (keys / _NEXT).exists() else ()
    return HostKeys(current, certificate, others)


def load_host_key(keys: Path) -> asyncssh.SSHKey:
    """The key in use in directory `keys`, made there (0600, with its public half as `.pub`) when there is none.

    Processes that start together get the same key. Raises HostError with path and remedy.
    """
    return _load(keys / NAME, make=True)


def list_host_keys(keys: Path) -> list[HostKeyState]:
    """The key in use and the next one, if there is one. Raises HostError."""
    found = []
    for state, name in (("in use", NAME), ("next", _NEXT)):
        path = keys / name
        if state == "in use" or path.exists():
            key = _load(path, make=state == "in use")
            certificate, wrong = _certificate(path, key)
            said = wrong or ("right" if certificate else "none")
            found.append(HostKeyState(state, key.get_fingerprint(), str(path), said))
    return found


def prepare_host_key(keys: Path) -> str:
    """Make the next key; its fingerprint. Raises Conflict when there is one already, HostError."""
    load_host_key(keys)
    if (keys / _NEXT).exists():
        raise Conflict("The next host key is there already.", "See: workspaces hostkey list")
    return _load(keys / _NEXT, make=True).get_fingerprint()


def activate_host_key(keys: Path) -> str:
    """Put the next key in place of the one in use, which is kept as `.old`; its fingerprint.

    Raises NotFound when none is prepared, HostError. Killed at any moment, it leaves one whole key in use.
    """
    current, following = keys / NAME, keys / _NEXT
    if not following.exists():
        raise NotFound("No next host key is prepared.", "Make one with: workspaces hostkey prepare")
    fingerprint = _load(following).get_fingerprint()
    with _told(current):
        old = keys / _OLD
        for path in (old, *_beside(old)):
            path.unlink(missing_ok=True)
        os.link(current, old)
        for mine, theirs in zip(_beside(current), _beside(old), strict=True):
            if mine.exists():
                mine.rename(theirs)
        following.replace(current)
        for mine, theirs in zip(_beside(following), _beside(current), strict=True):
            if mine.exists():
                mine.replace(theirs)
        sync_directory(keys)
    load_host_key(keys)
    return fingerprint


def _load(path: Path, *, make: bool = False) -> asyncssh.SSHKey:
    with _told(path):
        if make and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = asyncssh.generate_private_key("ssh-ed25519", comment="workspaces gateway")
            put(path, made.export_private_key(), 0o600)
        if path.stat().st_mode & 0o077:
            raise HostError(f"Others can read the host key {path}.", f"Make it yours alone: chmod 600 {path}")
        key = asyncssh.read_private_key(path)
        public = _beside(path)[0]
        text = key.export_public_key()
        if not public.exists() or public.read_bytes().split()[:2] != text.split()[:2]:  # of the key before this one
            put(public, text, 0o644, over=True)
    return key


def _certificate(path: Path, key: asyncssh.SSHKey) -> tuple[SSHOpenSSHCertificate | None, str]:
    """The certificate beside the key at `path`, None when there is none, or, with the second, what is wrong with it."""
    file = _certificate_path(path)
    if not file.exists():
        return None, ""
    try:
        certificate = asyncssh.read_certificate(file)
    except (OSError, asyncssh.KeyImportError) as exc:
        return None, f"it cannot be read: {printable(str(exc))}"
    if not isinstance(certificate, SSHOpenSSHCertificate):
        return None, "it is no OpenSSH certificate"
    if certificate.key.public_data != key.public_data:
        return None, "it is for another key"
    try:
        certificate.validate(CERT_TYPE_HOST, None)
    except ValueError as exc:
        wrong = {"Invalid certificate type": "it is a user's; sign with ssh-keygen -h"}
        return None, wrong.get(str(exc), str(exc).replace("Certificate", "it is").lower())
    return certificate, ""


def _certificate_path(path: Path) -> Path:
    return _beside(path)[1]


def _beside(path: Path) -> tuple[Path, Path]:
    """Public half and certificate, named as ssh-keygen names them."""
    return path.with_name(f"{path.name}.pub"), path.with_name(f"{path.name}-cert.pub")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except asyncssh.KeyImportError as exc:
        raise HostError(f"The host key {path} is damaged: {exc}.", "Put back the copy from a backup.") from exc
    except OSError as exc:
        raise HostError(f"The host key {path} cannot be used: {exc.strerror}.") from exc
