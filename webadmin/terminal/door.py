"""The way into the gateway: the web application's own authority, a certificate for one login, and the ssh connection.

    keys/web-terminal.key ─► its name is in the store ─► the gateway believes it, for logins from this host alone
    each terminal         ─► a key that nobody keeps, certified for one account and one minute ─► a shell

The certificate's key id names the browser's address, which the gateway writes down as that of the session.
"""

from __future__ import annotations

import io
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from webadmin.security import kept_key
from workspaces.accounts import parse_public_key
from workspaces.errors import SettingsError, WorkspacesError
from workspaces.keyoptions import TERMINAL_KEY_ID
from workspaces.settings import Settings, is_loopback
from workspaces.store import Store

HOST_KEY = "ssh_host_ed25519_key.pub"  # the gateway's
KEY_FILE = "web-terminal.key"
VALID_SECONDS = 60
SKEW_SECONDS = 5
ANSWER_SECONDS = 20.0  # for each step of the gateway; a workspace that starts takes no step
WINDOW = 256 << 10  # bytes of output that may wait here
TERM = "xterm-256color"


class NotLetIn(WorkspacesError):
    """`code` is what the page tells (templates/me/terminal.html)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Door:
    """Who goes where: account, `challenge/name` of a workspace, and the browser's address."""

    settings: Settings
    store: Store
    name: str
    ref: str
    visitor: str

    def open(self, columns: int, rows: int) -> tuple[paramiko.Transport, paramiko.Channel]:
        """A shell with a terminal of that size. Blocks; raises NotLetIn, StoreError, SettingsError."""
        host, port = self.settings.gateway_listen
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 -- it listens on all of them
            host = "127.0.0.1" if host != "::" else "::1"
        key = self._key("127.0.0.1/32,::1/128" if is_loopback(host) else host)
        try:
            connection = socket.create_connection((host, port), ANSWER_SECONDS)
        except OSError as exc:
            raise NotLetIn("gateway", f"The gateway does not answer: {exc.strerror or exc}.") from exc
        transport = None
        try:
            transport = paramiko.Transport(connection, default_window_size=WINDOW, default_max_packet_size=32768)
            offered = transport.get_security_options()
            offered.kex = ("curve25519-sha256@libssh.org",)
            offered.ciphers = ("aes128-gcm@openssh.com", "aes128-ctr")
            offered.key_types = ("ssh-ed25519",)
            transport.start_client(timeout=ANSWER_SECONDS)
            self._check(transport.get_remote_server_key())
            transport.auth_publickey(f"{self.name}+{self.ref}", key)
            channel = transport.open_session(timeout=ANSWER_SECONDS)
            channel.settimeout(ANSWER_SECONDS)
            channel.get_pty(TERM, columns, rows)
            channel.invoke_shell()
            channel.settimeout(None)
        except (paramiko.SSHException, OSError, EOFError) as exc:
            self._close(transport, connection)
            refused = isinstance(exc, paramiko.AuthenticationException)
            raise NotLetIn(
                "refused" if refused else "gateway", f"The gateway did not let {self.name} in: {exc}"
            ) from exc
        except BaseException:
            self._close(transport, connection)
            raise
        return transport, channel

    @staticmethod
    def _close(transport: paramiko.Transport | None, connection: socket.socket) -> None:
        with suppress(Exception):
            (transport or connection).close()

    def _key(self, sources: str) -> paramiko.PKey:
        """A key with a certificate that lets `name` in from `sources`, now."""
        authority = signing_key(self.settings.keys)
        fingerprint = fingerprint_of(authority)
        if self.store.terminal_authority() != fingerprint:
            self.store.set_terminal_authority(fingerprint, actor="web")
        secret, now = Ed25519PrivateKey.generate(), int(time.time())
        certificate = (
            SSHCertificateBuilder()
            .public_key(secret.public_key())
            .serial(secrets.randbits(63))
            .type(SSHCertificateType.USER)
            .key_id(f"{TERMINAL_KEY_ID}{self.visitor}".encode())
            .valid_principals([self.name.encode()])
            .valid_after(now - SKEW_SECONDS)
            .valid_before(now + VALID_SECONDS)
            .add_critical_option(b"source-address", sources.encode())
            .add_extension(b"permit-pty", b"")
            .sign(authority)
        )
        pem = secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        key = paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))
        key.load_certificate(certificate.public_bytes().decode())
        return key

    def _check(self, shown: paramiko.PKey) -> None:
        """Raise NotLetIn unless it is the gateway of this state directory that answers."""
        path = self.settings.keys / HOST_KEY
        try:
            known = path.read_text(encoding="ascii").split()[1]
        except (OSError, IndexError, UnicodeDecodeError) as exc:
            raise NotLetIn("gateway", f"The gateway's key cannot be read from {path}.") from exc
        if shown.get_base64() != known:
            raise NotLetIn("gateway", "Something else than this host's gateway answers at its address.")


def signing_key(keys: Path) -> Ed25519PrivateKey:
    """The authority's key, made when it is first needed, readable by its owner only. Raises SettingsError."""
    path = keys / KEY_FILE
    try:
        key = serialization.load_pem_private_key(kept_key(path, _made), None)
    except ValueError as exc:
        raise SettingsError(f"{path} is no key: {exc}.", "Delete it to get a new one.") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path} holds another kind of key.", "Delete it; a new one is made.")
    return key


def _made() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint_of(key: Ed25519PrivateKey) -> str:
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return parse_public_key(line.decode())[0]
