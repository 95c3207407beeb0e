"""The gateway's ed25519 host key: made once, in the state directory, and never changed by itself."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import asyncssh

from workspaces.errors import HostError

NAME = "ssh_host_ed25519_key"


def ensure_host_key(keys: Path) -> str:
    """Make sure that there is a key in directory `keys`; returns its fingerprint, `SHA256:…`. Raises HostError."""
    return load_host_key(keys).get_fingerprint()


def load_host_key(keys: Path) -> asyncssh.SSHKey:
    """The key in directory `keys`, made there (0600, with its public half as `.pub`) when there is none.

    Processes that start together get the same key. Raises HostError with path and remedy.
    """
    path = keys / NAME
    try:
        if not path.exists():
            keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = asyncssh.generate_private_key("ssh-ed25519", comment="workspaces gateway")
            _put(path, made.export_private_key(), 0o600)
        if path.stat().st_mode & 0o077:
            raise HostError(f"Others can read the host key {path}.", f"Make it yours alone: chmod 600 {path}")
        key = asyncssh.read_private_key(path)
        public = path.with_name(f"{NAME}.pub")
        if not public.exists():
            _put(public, key.export_public_key(), 0o644)
    except asyncssh.KeyImportError as exc:
        raise HostError(f"The host key {path} is damaged: {exc}.", "Put back the copy from a backup.") from exc
    except OSError as exc:
        raise HostError(f"The host key {path} cannot be used: {exc.strerror}.") from exc
    return key


def _put(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file that is not there yet; when another process is first, its file stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()
