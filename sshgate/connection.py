"""asyncssh's connection and channel with what a public gateway needs and asyncssh lacks.

    pump ──► channel.write() ──► connection ──► transport ──► client
               ▲ held back by the channel's window (asyncssh)
               ▲ held back by `Connection.blocked`: transport buffer full, or a key exchange under way

This file, with channels.py for channels and forwarding and userauth.py for all that concerns identity, is the only one
that leans on asyncssh's internals; `tests/test_gateway_connection.py` fails when they change:
- the transport's back-pressure reaches the sessions, and a client that does not read is dropped;
- what arrives before authentication, and replies that nobody reads, are bounded;
- short messages are acknowledged at once: OpenSSH's client leaves Nagle's algorithm on, which costs a login 40 ms;
- no MSG_IGNORE before each packet: that guards CBC ciphers, which are not offered, and costs a third of the throughput;
- a command is bytes, as in sshd; environment requests are filtered and bounded as they arrive;
- a channel is aborted also when its exit status waits for a client that reads nothing;
- the authentication service may be asked for again, as paramiko does before each attempt, and as sshd allows, but not
  without end, nor while keys are exchanged;
- a client may guess the key exchange, as dropbear does: asyncssh takes a guess for right that RFC 4253 calls wrong;
- an unexpected exception is logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.constants import MSG_IGNORE, MSG_KEXINIT, MSG_SERVICE_REQUEST
from asyncssh.packet import PacketDecodeError, SSHPacket

from sshgate import packets, userauth
from sshgate.channels import ForwardingConnection, SessionChannel
from sshgate.hostkey import HostKeys

log = logging.getLogger(__name__)

WRITE_HIGH = 256 << 10  # bytes in the transport's buffer from which sessions are held back
WRITE_MAX = 4 << 20  # …from which the client is dropped: it asks and asks, and reads no reply
DEFERRED_MAX = 4096  # packets that wait for a key exchange to end, from which the client is dropped
UNAUTHENTICATED_MAX = 64 << 10  # bytes that may wait unparsed before authentication
SERVICES_MAX = 64  # requests for authentication on one connection: more than it has attempts
SMALL = 4 << 10  # bytes: a read so short is acknowledged at once, for a client whose next message waits for that
BLOCKED_SECONDS = 60.0  # a client that accepts no byte for so long is dropped
WINDOW = 1 << 20  # bytes that a client may send ahead of what the process has read
ENV_NAMES = frozenset(
    b"LANG TERM COLORTERM TZ GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL".split()
)
ENV_LOCALE = re.compile(rb"LC_\w+")
ENV_MAX = 32  # variables in one session
ENV_VALUE_MAX = 1024  # bytes

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Flow(Protocol):
    """Whoever writes to a connection: told when to stop and when to go on."""

    def flow_changed(self) -> None: ...


class Connection(packets.QuickConnection, ForwardingConnection, userauth.Identified):
    """One client's connection. `flows` are told whenever `blocked` changes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHServerConnectionOptions) -> None:
        super().__init__(loop, options)
        self.number = 0  # the keeper's, for this connection
        self.flows: set[Flow] = set()
        self.blocked = False
        self._full = False
        self._services = 0
        self._accepted_before = 0
        self._blocked_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=WRITE_HIGH)
        self._socket = transport.get_extra_info("socket")
        super().connection_made(transport)

    def pause_writing(self) -> None:
        self._full = True
        self._flow_changed()

    def resume_writing(self) -> None:
        self._full = False
        self._flow_changed()

    def _send_kexinit(self) -> None:
        super()._send_kexinit()
        self._flow_changed()

    def _send_deferred_packets(self) -> None:
        super()._send_deferred_packets()
        self._flow_changed()

    def _flow_changed(self) -> None:
        blocked = self._full or not self._kex_complete
        if blocked == self.blocked or not self._auth_complete:
            return
        self.blocked = blocked
        if self._blocked_timer:
            self._blocked_timer.cancel()
            self._blocked_timer = None
        if blocked:
            self._look_later()
        for flow in tuple(self.flows):
            flow.flow_changed()

    def _look_later(self) -> None:
        self._accepted_before = self._accepted()
        self._blocked_timer = self._loop.call_later(BLOCKED_SECONDS, self._never_reads)

    def _accepted(self) -> int:
        """Bytes that the client's host has acknowledged: tcpi_bytes_acked of tcp(7)."""
        with suppress(OSError):  # the connection is closed
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
            return int.from_bytes(info[120:128], sys.byteorder)
        return 0

    def _never_reads(self) -> None:
        self._blocked_timer = None
        if self._accepted() != self._accepted_before:
            self._look_later()
            return
        log.info("%s accepted nothing for %.0f s; dropped", self._peer_addr, BLOCKED_SECONDS)
        self.abort()

    def _cleanup(self, exc: Exception | None) -> None:
        if self._blocked_timer:
            self._blocked_timer.cancel()
            self._blocked_timer = None
        super()._cleanup(exc)
        self.flows.clear()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if not self._auth_complete and len(self._inpbuf) > UNAUTHENTICATED_MAX:
            self.abort()
            return
        if self._full and self._transport and self._transport.get_write_buffer_size() > WRITE_MAX:
            log.info("%s sends requests and reads no reply; dropped", self._peer_addr)
            self.abort()
            return
        super().data_received(data, datatype)
        if len(data) < SMALL and self._transport:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # holds for this read only

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if pkttype == MSG_IGNORE:
            return
        super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > DEFERRED_MAX and self._transport:
            log.info("%s sends requests and does not end a key exchange; dropped", self._peer_addr)
            self.abort()

    def _process_service_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if not self._kex_complete:  # asyncssh would put the answer off, and look again at all that it put off
            raise asyncssh.ProtocolError("Service request during a key exchange")
        if self._auth_in_progress and not self._auth_complete:
            self._services += 1
            if self._services > SERVICES_MAX:
                raise asyncssh.ProtocolError("Service requested too often")
            self._next_service = b"ssh-userauth"
        super()._process_service_request(pkttype, pktid, packet)

    def _recv_version(self) -> bool:
        try:
            return super()._recv_version()
        except UnicodeDecodeError:
            raise asyncssh.ProtocolError("The version is not ASCII") from None

    async def _process_kexinit(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """The same, but a packet that was sent on a guess counts only if both sides prefer the same (section 7.1)."""
        try:
            await super()._process_kexinit(pkttype, pktid, packet)
        except PacketDecodeError as error:  # as asyncssh has it for what is not awaited
            raise asyncssh.ProtocolError(str(error)) from None
        hello = SSHPacket(self._client_kexinit)
        hello.get_bytes(17)  # type and cookie
        exchanges, host_keys, *_ = (hello.get_namelist() for _ in range(10))
        if hello.get_boolean():
            assert self._server_host_key_algs
            ours = self._kex_algs[0], self._server_host_key_algs[0]
            self._ignore_first_kex = (exchanges[0], host_keys[0]) != ours

    _packet_handlers = {  # noqa: RUF012
        **ForwardingConnection._packet_handlers,
        MSG_KEXINIT: _process_kexinit,
        MSG_SERVICE_REQUEST: _process_service_request,
    }

    async def reload_config(self) -> None:
        """No options depend on who logs in; asyncssh would build them anew in a thread."""

    def internal_error(self, exc_info: _ExcInfo | None = None, error_logger: Any = None) -> None:
        info = exc_info or sys.exc_info()
        if not isinstance(info[1], asyncssh.Error | ConnectionError):
            log.error("unexpected error on the connection of %s", self._peer_addr, exc_info=info)
        super().internal_error(exc_info, error_logger)

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> Channel:
        del encoding, errors
        max_pktsize = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(max_pktsize)
        return Channel(self, self._loop, True, False, False, 0, 0, None, "strict", window or self._window, max_pktsize)


class Channel(SessionChannel):
    """One session's channel."""

    def abort(self) -> None:
        """Close at once, discarding what waits; asyncssh does not when the channel is to close after that."""
        if self._send_state == "close_pending":
            self._close_send()
        super().abort()

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        if not (name in ENV_NAMES or ENV_LOCALE.fullmatch(name)) or b"\0" in value:
            return False
        if len(name) > ENV_VALUE_MAX or len(value) > ENV_VALUE_MAX or len(self._env) >= ENV_MAX:
            return False
        self._env[name] = value
        return True

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        return b"\0" not in command and self._start_session(command=command.decode("utf-8", "surrogateescape"))


async def options(server_factory: Callable[[], asyncssh.SSHServer], keys: HostKeys) -> Any:
    """The gateway's choices for every connection. Algorithms: what is both current and fast here."""
    userauth.install()
    packets.install()
    made = await asyncssh.SSHServerConnectionOptions.construct(
        server_factory=server_factory,
        server_host_keys=[keys.current, *keys.others],
        server_host_certs=[keys.certificate] if keys.certificate else [],
        send_server_host_keys=True,
        server_version="Workspaces",
        kex_algs=["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"],
        encryption_algs=["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"],
        # the last two for dropbear and for libssh2 before 1.11, which have neither GCM nor encrypt-then-MAC
        mac_algs=["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"],
        compression_algs=None,
        encoding=None,
        line_editor=False,
        login_timeout=30,
        keepalive_interval=30,
        keepalive_count_max=3,
        gss_host=None,
        host_based_auth=False,
        kbdint_auth=True,
        public_key_auth=True,
        password_auth=True,
        agent_forwarding=False,
        x11_forwarding=False,
        window=WINDOW,
    )
    for data in [data for data, pair in made.all_server_host_keys.items() if pair.has_cert]:
        del made.all_server_host_keys[data]  # clients are told of keys; a certificate is nothing to remember
    return made
