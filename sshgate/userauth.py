"""How asyncssh proves who somebody is, with what a public gateway needs and asyncssh lacks.

    publickey             key or certificate ──► Judge.judge() ──► Grant, or None ──► signature ──► Judge.proven()
    keyboard-interactive  prompts ──► answers, each time once ──► Judge
    password              text ──► Judge

This leans on asyncssh's internals, as connection.py does; `tests/test_gateway_identity.py` and
`tests/test_gateway_certificates.py` fail when they change:
- who offers a key is nobody yet: a Grant becomes the connection's with the signature only;
- a certificate without principals is nobody's (asyncssh: everybody's), X.509 is not taken, an unknown extension's value
  is not read as another extension, no option may come twice, and SHA-1 does not make a certificate;
- an IPv4 client on an IPv6 socket is the IPv4 address that a certificate names;
- an RSA key's signature is one with SHA-2, as sshd has it, and never with SHA-1;
- a security key may have to verify its owner, not just feel a touch;
- `permitopen=` holds for unix sockets and `*`, and `permitlisten=` at all;
- a password is the text that was typed: asyncssh's SASLprep ends the connection at an emoji, and alters other letters;
- an answer that nobody asked for is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import asyncssh
from asyncssh import auth, public_key
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED
from asyncssh.packet import PacketDecodeError, SSHPacket, String
from asyncssh.public_key import SSHOpenSSHCertificateV01

from sshgate.grant import Certificate, Grant
from workspaces.keyoptions import Options

ANSWERS_MAX = 8  # to one set of prompts
_SHA1 = b"ssh-rsa"
_USER_VERIFIED = 0x04  # flag in a security key's signature
_NOT_PERMITTED = "Forwarding is not permitted for this key"


class Judge(Protocol):
    """Who decides: the connection's owner."""

    async def judge(self, username: str, key: asyncssh.SSHKey | None, certificate: Certificate | None) -> Grant | None:
        """What that key, or the certificate for it, allows. `key` is None for something that could not be read."""

    def proven(self, grant: Grant) -> None:
        """It was signed with."""


class _Certificate(SSHOpenSSHCertificateV01):
    _user_option_decoders = {  # noqa: RUF012
        **SSHOpenSSHCertificateV01._user_option_decoders,
        b"verify-required": SSHOpenSSHCertificateV01._decode_bool,
    }

    @staticmethod
    def _decode_options(
        options: bytes, decoders: Mapping[bytes, Callable[[SSHPacket], object]], critical: bool = True
    ) -> dict[str, object]:
        packet = SSHPacket(options)
        found: dict[bytes, object] = {}
        while packet:
            name, value = packet.get_string(), SSHPacket(packet.get_string())
            if name in found or (critical and name not in decoders):
                raise asyncssh.KeyImportError("Unknown or repeated option")
            found[name] = None
            if name in decoders:
                found[name] = decoders[name](value)
                value.check_end()
        return {name.decode("ascii"): value for name, value in found.items() if name in decoders}


def _read(blob: bytes) -> tuple[asyncssh.SSHKey | None, Certificate | None]:
    """The key in it, and the certificate if it is one, signed rightly by whom it says; no key when it is neither."""
    try:
        algorithm = SSHPacket(blob).get_string()
        handlers = public_key._certificate_alg_map.get(algorithm)
        if handlers is None:
            return public_key.decode_ssh_public_key(blob), None
        handler = handlers[0]
        if handler is None:  # X.509
            return None, None
        packet = SSHPacket(blob)
        packet.get_string()
        certificate = _Certificate.construct(packet, algorithm, handler, None)
        return certificate.key, _facts(cast(_Certificate, certificate))
    except (ValueError, OverflowError, PacketDecodeError):  # OverflowError: an RSA key with negative numbers
        return None, None


def _facts(certificate: _Certificate) -> Certificate:
    """Raises ValueError when it is no user certificate, or signed in a way that proves nothing any more."""
    if certificate._cert_type != public_key.CERT_TYPE_USER:
        raise ValueError("not a user's")
    signature = certificate.public_data.rpartition(String(certificate.signing_key.public_data))[2]
    if SSHPacket(SSHPacket(signature).get_string()).get_string() == _SHA1:
        raise ValueError("SHA-1")
    given = certificate.options
    command = cast("str | None", given.get("force-command"))
    addresses = cast("Sequence[object] | None", given.get("source-address"))
    if (command is not None and "\0" in command) or (addresses is not None and not addresses):
        raise ValueError("a restriction that is none")
    options = Options(
        sources=",".join(map(str, addresses or ())),
        command=command,
        pty="permit-pty" in given,
        port_forwarding="permit-port-forwarding" in given,
        agent_forwarding="permit-agent-forwarding" in given,
        x11_forwarding="permit-X11-forwarding" in given,
        touch_required="no-touch-required" not in given,
        verify_required="verify-required" in given,
    )
    return Certificate(
        authority=certificate.signing_key.get_fingerprint(),
        key_id=certificate._key_id,
        serial=certificate._serial,
        principals=tuple(certificate.principals),
        valid_after=certificate._valid_after,
        valid_before=certificate._valid_before,
        line=certificate.key.export_public_key().decode(),
        options=options,
    )


def _verified(signature: bytes) -> bool:
    """Whether the security key says in its (right) signature that it made sure who its user is."""
    packet = SSHPacket(signature)
    packet.get_string()
    packet.get_string()
    return bool(packet.get_byte() & _USER_VERIFIED)


def _restrictions(options: Options) -> dict[str, object]:
    """As asyncssh keeps them, for what it checks itself."""
    allowed = {
        "no-pty": options.pty,
        "no-port-forwarding": options.port_forwarding,
        "no-agent-forwarding": options.agent_forwarding,
        "no-X11-forwarding": options.x11_forwarding,
    }
    return {name: True for name, permitted in allowed.items() if not permitted}


class Identified(asyncssh.SSHServerConnection):
    """The part of a connection that finds out who is there, and holds to what they may do."""

    _options_of_grant = Options()

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        judge = cast(Judge, self._owner)
        key, certificate = _read(key_data)
        grant = await judge.judge(username, key, certificate)
        if key is None or grant is None:
            return False
        if not msg:  # a probe
            return True
        key.set_touch_required(grant.options.touch_required)
        if not key.verify(String(self._session_id) + msg, signature) or SSHPacket(signature).get_string() == _SHA1:
            return False
        if grant.options.verify_required and (not key.get_algorithm().startswith("sk-") or not _verified(signature)):
            return False
        self._options_of_grant = grant.options
        self._key_options = _restrictions(grant.options)
        judge.proven(grant)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    # --- what asyncssh does not ask the options of a key about ---

    def _process_direct_tcpip_open(self, packet: SSHPacket) -> Any:
        self._check_open(packet, is_path=False)
        return super()._process_direct_tcpip_open(packet)

    def _process_direct_streamlocal_at_openssh_dot_com_open(self, packet: SSHPacket) -> Any:
        self._check_open(packet, is_path=True)
        return super()._process_direct_streamlocal_at_openssh_dot_com_open(packet)

    def _check_open(self, packet: SSHPacket, *, is_path: bool) -> None:
        host, port = _place(packet, is_path=is_path)
        if not self._options_of_grant.may_open(host, port):
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, _NOT_PERMITTED)

    def _process_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        if self._may_listen(packet, is_path=False):
            super()._process_tcpip_forward_global_request(packet)

    def _process_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        if self._may_listen(packet, is_path=True):
            super()._process_streamlocal_forward_at_openssh_dot_com_global_request(packet)

    def _may_listen(self, packet: SSHPacket, *, is_path: bool) -> bool:
        host, port = _place(packet, is_path=is_path)
        if self._options_of_grant.may_listen(host, port):
            return True
        self._report_global_response(False)
        return False


def _place(packet: SSHPacket, *, is_path: bool) -> tuple[str, int | None]:
    """Host and port, or path and None, at the front of what is left of a packet, which stays as it is."""
    peek = SSHPacket(packet.get_remaining_payload())
    host = peek.get_string().decode("utf-8", "surrogateescape")
    return host, None if is_path else peek.get_uint32()


class _Password(auth._ServerPasswordAuth):
    """The method "password" without SASLprep; how a letter may be composed is seen to where it is checked."""

    async def _start(self, packet: SSHPacket) -> None:
        change = packet.get_boolean()
        typed = packet.get_string().decode("utf-8", "surrogateescape")
        new = packet.get_string().decode("utf-8", "surrogateescape") if change else ""
        packet.check_end()
        conn, name = self._conn, self._username
        if await (conn.change_password(name, typed, new) if change else conn.validate_password(name, typed)):
            await self.send_success()
        else:
            self.send_failure()


class _KeyboardInteractive(auth._ServerKbdIntAuth):
    """The method "keyboard-interactive": any text may be an answer, and prompts are answered once."""

    _asked = False

    async def _send_challenge(self, challenge: Any) -> None:
        self._asked = isinstance(challenge, tuple)
        await super()._send_challenge(challenge)

    def _process_info_response(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        del pkttype, pktid
        count = packet.get_uint32()
        if not self._asked or count > ANSWERS_MAX:
            raise asyncssh.ProtocolError("Unexpected keyboard-interactive response")
        self._asked = False
        answers = [packet.get_string().decode("utf-8", "surrogateescape") for _ in range(count)]
        packet.check_end()
        self.create_task(self._validate_response(answers))

    _packet_handlers = {  # noqa: RUF012
        **auth._ServerKbdIntAuth._packet_handlers,
        auth.MSG_USERAUTH_INFO_RESPONSE: _process_info_response,
    }


def install() -> None:
    """Let asyncssh use these methods."""
    auth._server_auth_handlers[b"password"] = _Password
    auth._server_auth_handlers[b"keyboard-interactive"] = _KeyboardInteractive
