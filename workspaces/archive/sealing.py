"""Encryption on this host, before anything reaches the archive: age (pyrage), in streams.

    gzip of a layer ─► recipients ─► blob                          only an identity opens it
    manifest and configuration ─► recipients + this host ─► blob   so that the host sees what it has, and shares layers

`recipients` are age public keys. Their identities need not be on the host: they are read from
keys/archive-identity.txt, or the file that a command names, when something is to be read again. The host has a key
of its own (keys/archive-host.txt), made when it first encrypts; what it opens, its engine and database have as well.
"""

from __future__ import annotations

import hashlib
import io
import os
import queue
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyrage

from workspaces.archive.storage import CHUNK
from workspaces.errors import ArchiveError, Corrupt, SettingsError
from workspaces.files import put
from workspaces.streams import Chunks

IDENTITY_FILE = "archive-identity.txt"
HOST_FILE = "archive-host.txt"
MAX_FILE = 1 << 16
WAIT = 0.05  # seconds between looks whether the reader of an abandoned stream has noticed


class NoIdentity(ArchiveError):
    """What is encrypted cannot be opened with the identities of this host."""

    def __init__(self, path: Path | None) -> None:
        known = f"as {path} (mode 0600), " if path else ""
        super().__init__(
            "This image is encrypted, and no identity here opens it.",
            f"Put the age identity of one of its recipients here {known}or name it with --identity FILE.",
        )


class Seal:
    """Encrypts for `recipients` (age public keys; none: nothing is encrypted) and decrypts with what `keys` holds.

    Raises SettingsError for a recipient that is no age public key.
    """

    def __init__(self, recipients: Iterable[str] = (), keys: Path | None = None, identity: Path | None = None) -> None:
        self._names = tuple(sorted(set(recipients)))
        self._recipients = [_recipient(name) for name in self._names]
        self._keys = keys
        self._identity = identity or (keys / IDENTITY_FILE if keys else None)
        self._named = identity is not None

    @property
    def tag(self) -> str:
        """Which recipients; empty when nothing is encrypted."""
        return hashlib.sha256(" ".join(self._names).encode()).hexdigest()[:16] if self._names else ""

    def encrypt(self, chunks: Iterable[bytes], sink: Any, *, host: bool) -> None:
        """Write the age file of `chunks` to `sink`; with `host`, this host can open it too."""
        recipients = list(self._recipients)
        if host and self._keys is not None:
            recipients.append(self._host_key().to_public())
        source, watched = _Source(chunks), _Watched(sink)
        try:
            pyrage.encrypt_io(io.BufferedReader(source, CHUNK), watched, recipients)
        except pyrage.EncryptError as exc:
            raise source.failed or watched.failed or ArchiveError(f"Encryption failed: {exc}.") from None

    def decrypt(self, chunks: Iterator[bytes], *, host: bool) -> Iterator[bytes]:
        """The plain bytes, in pieces. Raises NoIdentity, Corrupt.

        age pushes and the reader pulls: a thread does it, and is at most a few pieces ahead.
        """
        identities = self._identities(host)
        if not identities:
            raise NoIdentity(self._identity)
        ready: queue.Queue[bytes | BaseException | None] = queue.Queue(4)
        stop = threading.Event()
        source = _Source(chunks)

        def work() -> None:
            sink = _Sink(ready, stop)
            try:
                pyrage.decrypt_io(io.BufferedReader(source, CHUNK), sink, identities)
                sink.flush_rest()
                ready.put(None)
            except pyrage.DecryptError as exc:
                ready.put(source.failed or (NoIdentity(self._identity) if "matching" in str(exc) else exc))
            except BaseException as exc:
                ready.put(source.failed or exc)

        thread = threading.Thread(target=work, name="decrypt", daemon=True)
        thread.start()
        try:
            while (piece := ready.get()) is not None:
                if isinstance(piece, ArchiveError):
                    raise piece
                if isinstance(piece, BaseException):
                    raise Corrupt("An encrypted blob is damaged or incomplete.") from piece
                yield piece
        finally:
            stop.set()
            while thread.is_alive():
                try:
                    ready.get(timeout=WAIT)
                except queue.Empty:
                    continue

    def has_identity(self) -> bool:
        """Whether there is an identity file to try. Raises ArchiveError when it cannot be used."""
        return bool(self._identities(host=False))

    def check_identity(self) -> None:
        """Raise NoIdentity when there is no identity file to try, ArchiveError when it cannot be used."""
        if not self.has_identity():
            raise NoIdentity(self._identity)

    def _identities(self, host: bool) -> list[Any]:
        found = _read(self._identity, self._named) if self._identity else []
        if host and self._keys is not None:
            found += _read(self._keys / HOST_FILE, False)
        return found

    def _host_key(self) -> Any:
        assert self._keys is not None
        path = self._keys / HOST_FILE
        if not path.exists():
            made = f"# what this host needs to see which images it has archived\n{pyrage.x25519.Identity.generate()}\n"
            put(path, made.encode("ascii"), 0o600)
        [identity] = _read(path, True)
        return identity


def check_recipient(name: str) -> None:
    """Raise SettingsError unless it is an age public key."""
    _recipient(name)


def _recipient(name: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(name)
    except pyrage.RecipientError as exc:
        raise SettingsError(
            f"[archive] recipients has {name[:80]!r}, which is no age public key.",
            "One looks like age1… and is made with: age-keygen",
        ) from exc


def _read(path: Path, wanted: bool) -> list[Any]:
    """The identities in a file; without `wanted`, none when there is no file. Raises ArchiveError."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_FILE)
    except FileNotFoundError:
        if not wanted:
            return []
        raise ArchiveError(f"There is no identity file {path}.") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ArchiveError(f"The identity file {path} cannot be read: {exc}.") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise ArchiveError(f"The identity file {path} can be read by others.", f"chmod 600 {path}")
    try:
        lines = [line.strip() for line in text.splitlines()]
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError as exc:
        raise ArchiveError(f"{path} is no file of age identities: {exc}.") from exc


class _Source(Chunks):
    """Keeps the exception that pyrage would turn into its own."""

    failed: BaseException | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except BaseException as exc:
            self.failed = exc
            raise


class _Watched:
    """A file being written; keeps the exception that pyrage would turn into its own."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.failed: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._sink.write(data)
        except BaseException as exc:
            self.failed = exc
            raise
        return len(data)

    def flush(self) -> None:
        return


class _Sink:
    """A file whose bytes go into a queue, in pieces of CHUNK; it breaks when nobody wants them any more."""

    def __init__(self, ready: queue.Queue[bytes | BaseException | None], stop: threading.Event) -> None:
        self._ready = ready
        self._stop = stop
        self._parts = bytearray()

    def write(self, data: bytes) -> int:
        if self._stop.is_set():
            raise OSError(0, "nobody reads")
        self._parts += data
        if len(self._parts) >= CHUNK:
            self.flush_rest()
        return len(data)

    def flush(self) -> None:
        return

    def flush_rest(self) -> None:
        if self._parts:
            self._ready.put(bytes(self._parts))
            self._parts.clear()
