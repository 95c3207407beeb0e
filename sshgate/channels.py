"""asyncssh's channels with bounded input, and its connection's requests for forwarding, answered by the gateway alone.

    session channel ──auth-agent-req, x11-req──► Session.asked_for_agent(), asked_for_x11()
    direct-tcpip, direct-streamlocal ──► asyncssh checks the key's options ──► Server.connection_requested() …
    tcpip-forward, streamlocal-forward ──► the same ──► Server.server_requested() …

Beside connection.py this is the only file that leans on asyncssh's internals; `tests/test_gateway_connection.py`
fails when they change:
- a channel's window opens by what was taken, and small pieces that wait are put together;
- whoever reads a channel learns of the client's close although reading is paused with data buffered;
- asyncssh would listen for agent and X11 on the gateway's own host, and write its ~/.Xauthority: it never gets to;
- requests that wait for the one before them are bounded, and answered one after the other, not each within the last,
  and none when the connection is lost;
- a channel of another type than the gateway knows is refused, and what confirms one has no more in it than it should;
- who asks for more proofs of host keys than there are keys gets none;
- a name that is no text, and the end of a listener that is not there, are refused; asyncssh ends the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHAgentChannel, SSHChannel, SSHX11Channel
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_GLOBAL_REQUEST,
    OPEN_CONNECT_FAILED,
    OPEN_UNKNOWN_CHANNEL_TYPE,
)
from asyncssh.misc import ProtocolError
from asyncssh.packet import SSHPacket, UInt32

from sshgate import texts
from sshgate.packets import QuickChannel

log = logging.getLogger(__name__)

PIECE = 16 << 10  # bytes below which pieces that wait for the process are put together
REQUESTS_MAX = 256  # that wait on one channel, or on the connection
REQUESTS_BYTES = 512 << 10
CHANNELS = (b"session", b"direct-tcpip", b"direct-streamlocal@openssh.com")  # that a client may open
PACKET = 32 << 10  # bytes, the most that a client may send in one packet of a forwarded connection


class Reader(Protocol):
    """Whoever reads a channel: the one callback of ours that asyncssh's sessions do not have."""

    def close_received(self, *, input_waits: bool) -> None: ...


class Asked(Protocol):
    """Who is asked for agent and display; what they answer is sent to the client."""

    async def asked_for_agent(self) -> bool: ...

    async def asked_for_x11(self, single: bool, protocol: bytes, cookie: bytes, screen: int) -> bool: ...


def _check_queue(queue: Sequence[tuple[object, SSHPacket, bool]]) -> None:
    """Before one more joins it. Raises ProtocolError."""
    if len(queue) >= REQUESTS_MAX or sum(len(packet._packet) for _, packet, _ in queue) > REQUESTS_BYTES:
        raise ProtocolError("Too many requests wait")


class _Session(Protocol):
    @property
    def doors(self) -> Asked: ...


class Windowed(QuickChannel):
    """A channel that holds no more input than its window, however slowly that is taken."""

    def packet_size(self) -> int:
        """The most bytes that the client takes in one packet."""
        return self._send_pktsize

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        """The same, but many small pieces that wait become few large ones: each has a cost of its own."""
        waiting = self._recv_buf
        if self._recv_paused and waiting and waiting[-1][1] == datatype and len(waiting[-1][0]) < PIECE:
            if data and self._send_state not in ("close_pending", "closed"):
                self._recv_window -= len(data)
                waiting[-1] = waiting[-1][0] + data, datatype
            return
        super()._accept_data(data, datatype)

    def _deliver_data(self, data: bytes, datatype: int | None) -> None:
        """Opens the window by what was taken; asyncssh opens it whole although data waits, which then grows."""
        wanted = self._init_recv_window - self._recv_window - sum(len(piece) for piece, _ in self._recv_buf)
        if wanted >= self._init_recv_window / 2:
            self._recv_window += wanted
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(wanted))
        if self._session is not None:
            self._session.data_received(data, datatype)

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        super()._process_close(pkttype, pktid, packet)
        if self._session is not None:
            cast(Reader, self._session).close_received(input_waits=bool(self._recv_buf))

    _packet_handlers = {  # noqa: RUF012
        **SSHChannel._packet_handlers,
        MSG_CHANNEL_CLOSE: _process_close,
    }


class SessionChannel(Windowed, asyncssh.SSHServerChannel[bytes]):
    """A session's channel, which may be asked for the client's agent and display."""

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        packet.check_end()
        self._answer(cast(_Session, self._session).doors.asked_for_agent())

    def _process_x11_req_request(self, packet: SSHPacket) -> None:
        single, protocol, cookie = packet.get_boolean(), packet.get_string(), packet.get_string()
        screen = packet.get_uint32()
        packet.check_end()
        self._answer(cast(_Session, self._session).doors.asked_for_x11(single, protocol, cookie, screen))

    def _process_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        _check_queue(self._request_queue)
        super()._process_request(pkttype, pktid, packet)

    _packet_handlers = {  # noqa: RUF012
        **Windowed._packet_handlers,
        MSG_CHANNEL_REQUEST: _process_request,
    }

    def _answer(self, asked: Awaitable[bool]) -> None:
        async def answer() -> None:
            result = await asked
            if self._session is not None and not self.is_closing():
                self._report_response(result)

        self._conn.create_task(answer(), self.logger)


class TCPChannel(Windowed, asyncssh.SSHTCPChannel[bytes]):
    pass


class UnixChannel(Windowed, asyncssh.SSHUNIXChannel[bytes]):
    pass


class AgentChannel(Windowed, SSHAgentChannel):
    pass


class X11Channel(Windowed, SSHX11Channel):
    pass


class ForwardingConnection(asyncssh.SSHServerConnection):
    """The part of a connection that is about forwarding. `window`s are bytes."""

    _servicing = False  # a global request is being answered
    _next_due = False

    def tcp_channel(self, window: int) -> TCPChannel:
        return TCPChannel(self, self._loop, None, "strict", window, self._size())

    def unix_channel(self, window: int) -> UnixChannel:
        return UnixChannel(self, self._loop, None, "strict", window, self._size())

    def agent_channel(self, window: int) -> AgentChannel:
        return AgentChannel(self, self._loop, None, "strict", window, self._size())

    def x11_channel(self, window: int) -> X11Channel:
        return X11Channel(self, self._loop, None, "strict", window, self._size())

    def _size(self) -> int:
        self._update_recv_pktlen(PACKET)
        return PACKET

    def forget_listener(self, key: tuple[str, int] | str) -> None:
        """A listener ended by itself: the client cannot cancel it any more."""
        self._local_listeners.pop(key, None)

    def permitted(self, permission: str) -> bool:
        """Whether the key's options, or the certificate's, allow `port-forwarding`, `agent-forwarding` and so on."""
        return self.check_key_permission(permission) and self.check_certificate_permission(permission)

    def _process_global_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        _check_queue(self._global_request_queue)
        super()._process_global_request(pkttype, pktid, packet)

    def _service_next_global_request(self) -> None:
        """One after the other; asyncssh goes on from within the one before, as deep as the queue is long.

        When the connection is lost, nobody is left to ask.
        """
        self._next_due = True
        if self._servicing:
            return
        self._servicing = True
        try:
            while self._next_due and self._owner:
                self._next_due = False
                super()._service_next_global_request()
        finally:
            self._servicing = False

    async def _finish_port_forward(self, listen_host: str, listen_port: int) -> None:
        if self._owner:
            await super()._finish_port_forward(listen_host, listen_port)

    async def _finish_path_forward(self, listen_path: str) -> None:
        if self._owner:
            await super()._finish_path_forward(listen_path)

    def _process_channel_open(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """asyncssh takes any method with a fitting name for a channel's type: "channel" is this one."""
        if SSHPacket(packet.get_remaining_payload()).get_string() in CHANNELS:
            super()._process_channel_open(pkttype, pktid, packet)
            return
        packet.get_string()
        self.send_channel_open_failure(packet.get_uint32(), OPEN_UNKNOWN_CHANNEL_TYPE, "Unknown channel type", "en")

    def _process_channel_open_confirmation(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """No channel that the gateway opens has more to confirm; asyncssh finds that out when it is open."""
        peek = SSHPacket(packet.get_remaining_payload())
        for _ in range(4):
            peek.get_uint32()
        peek.check_end()
        super()._process_channel_open_confirmation(pkttype, pktid, packet)

    _packet_handlers = {  # noqa: RUF012
        **asyncssh.SSHServerConnection._packet_handlers,
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_CHANNEL_OPEN_CONFIRMATION: _process_channel_open_confirmation,
        MSG_GLOBAL_REQUEST: _process_global_request,
    }

    async def create_agent_listener(self) -> bool:
        return False

    async def attach_x11_listener(self, chan: Any, auth_proto: bytes, auth_data: bytes, screen: int) -> str | None:
        del chan, auth_proto, auth_data, screen
        return None

    def _process_direct_tcpip_open(self, packet: SSHPacket) -> Any:
        return self._as_text(super()._process_direct_tcpip_open, packet)

    def _process_direct_streamlocal_at_openssh_dot_com_open(self, packet: SSHPacket) -> Any:
        return self._as_text(super()._process_direct_streamlocal_at_openssh_dot_com_open, packet)

    def _as_text(self, process: Callable[[SSHPacket], Any], packet: SSHPacket) -> Any:
        try:
            return process(packet)
        except ProtocolError:
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, texts.NO_TEXT) from None

    def _process_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        self._or_refuse(super()._process_tcpip_forward_global_request, packet)

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        self._or_refuse(super()._process_cancel_tcpip_forward_global_request, packet)

    def _process_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        self._or_refuse(super()._process_streamlocal_forward_at_openssh_dot_com_global_request, packet)

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        self._or_refuse(super()._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request, packet)

    def _process_hostkeys_prove_00_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        peek = SSHPacket(packet.get_remaining_payload())
        for _ in self._all_server_host_keys:
            if peek:
                peek.get_string()
        if peek:  # more than there are: a signature each
            self._report_global_response(False)
        else:
            super()._process_hostkeys_prove_00_at_openssh_dot_com_global_request(packet)

    def _or_refuse(self, process: Callable[[SSHPacket], None], packet: SSHPacket) -> None:
        try:
            process(packet)
        except ProtocolError:
            self._report_global_response(False)
