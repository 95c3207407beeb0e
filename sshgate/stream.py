"""One forwarded connection: bytes between a channel and a socket whose other end is in the container.

    client ──► channel ──► Input ──► socket ──► agent ──► service      each half ends by itself:
    client ◄── channel ◄── Output ◄── socket ◄── agent ◄── service     EOF is carried over, in either order

The agent relays the socket to the service, so closing it here closes it there. Whoever does not read holds up the
other end of this connection and nothing else. When the client closes the channel, what it sent before still goes to
the service, for a while.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import asyncssh

from sshgate.channels import Windowed
from sshgate.hangups import Hangups
from sshgate.places import Place
from sshgate.pump import READ_SIZE, Input, Output

if TYPE_CHECKING:
    from sshgate.connection import Connection

SEND_BUFFER = 64 << 10  # bytes, of which the kernel makes twice as many, that wait in a socket for the service
LINGER_SECONDS = 60.0  # for a service to take what the client sent before it closed the channel


class Stream(asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """asyncssh's callbacks for one forwarded channel. `gone` is called when nothing of it is left, perhaps twice.

    It exists, and counts, before there is a socket (`attach`) and a channel (`connection_made`).
    """

    def __init__(self, connection: Connection, hangups: Hangups, gone: Callable[[Stream], None]) -> None:
        self.place: Place | None = None
        self.moved = 0  # bytes, both ways
        self.over = False  # its socket is closed, or will never be
        self._connection = connection
        self._hangups = hangups
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._channel: Windowed | None = None
        self._socket: socket.socket | None = None
        self._input: Input | None = None
        self._output: Output | None = None
        self._paused = False
        self._lingering: asyncio.TimerHandle | None = None  # since the client closed the channel

    @property
    def attached(self) -> bool:
        return self._socket is not None

    def attach(self, sock: socket.socket) -> None:
        """`sock`, owned from now on, leads to the container."""
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._input = Input(self._loop, sock.fileno(), self._hold_input, self._input_ended)
        self._output = Output(self._loop, sock.fileno(), self._write, self._output_ended, lambda _: None)

    # --- asyncssh's callbacks ---

    def connection_made(self, chan: object) -> None:
        self._channel = cast(Windowed, chan)
        self._connection.flows.add(self)
        if self.over:  # meanwhile
            self._channel.abort()

    def session_started(self) -> None:
        if self._output and self._channel:
            self._output.size = min(READ_SIZE, 32 * self._channel.packet_size())
        self.flow_changed()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        del datatype
        self.moved += len(data)
        if self._input:
            self._input.feed(data)

    def eof_received(self) -> bool:
        if self._input:
            self._input.end()
        return True

    def pause_writing(self) -> None:
        self._paused = True
        self.flow_changed()

    def resume_writing(self) -> None:
        self._paused = False
        self.flow_changed()

    def flow_changed(self) -> None:
        if self._output is None or self._channel is None:
            return
        if self._paused or self._connection.blocked:
            self._output.pause()
        else:
            self._output.resume()

    def close_received(self, *, input_waits: bool) -> None:
        """The client closed the channel: it takes no more, but what it sent is still to be delivered."""
        del input_waits
        if self._output and not self.over:
            self._output.close()
            self._lingering = self._loop.call_later(LINGER_SECONDS, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._channel = None
        self._connection.flows.discard(self)
        if self.over:
            self._gone(self)
        elif self._lingering and self._input:
            self._input.end()
            self._check()  # it may have ended with EOF, before
        else:
            self.close()

    # --- bytes ---

    def _hold_input(self, hold: bool) -> None:
        if self._channel:
            if hold:
                self._channel.pause_reading()
            else:
                self._channel.resume_reading()

    def _write(self, data: bytes) -> None:
        self.moved += len(data)
        if self._channel and not self._channel.is_closing():
            self._channel.write(data)

    def _input_ended(self, fd: int) -> None:
        """All that the client sent is written, or the service takes no more."""
        del fd
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._check()

    def _output_ended(self) -> None:
        if self._channel:
            self._channel.write_eof()
        self._check()
        if self._socket and not self.over:
            self._hangups.watch(self._socket.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        if self._input:
            self._input.close()

    # --- the end ---

    def _check(self) -> None:
        """Both halves have ended: let go, once the client has taken everything."""
        if self._input and self._output and self._input.closed and self._output.closed:
            self._let_go(Windowed.close)

    def close(self) -> None:
        """End it at once, wherever it is."""
        self._let_go(Windowed.abort)

    def _let_go(self, end_channel: Callable[[Windowed], None]) -> None:
        if self.over:
            return
        self.over = True
        if self._lingering:
            self._lingering.cancel()
        if self._socket and self._input and self._output:
            self._hangups.forget(self._socket.fileno())
            self._input.close()
            self._output.close()
            self._socket.close()
        if self._channel:
            end_channel(self._channel)
        else:
            self._gone(self)
