"""One connection to the guest agent: it finds the socket, sends messages and hands out those that come.

The socket lies in a directory that a hostile container may write to, and whatever answers on it is not trusted:
no link is followed, no descriptor is taken, each packet is bounded and parsed strictly.

Whoever holds a descriptor last waits for its close, which may linger as long as its maker said. So the kernel is told
to refuse descriptors; before Linux 6.16 it cannot, and each that comes is taken out and closed by a thread of its own.
"""

# ruff: noqa: ASYNC109 - callers give seconds; what happens when they are over is said in the error

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import threading
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from workspaces.errors import GuestError, GuestProtocolError, GuestUnavailable, WorkspacesError
from workspaces.guest import protocol
from workspaces.guest.protocol import Message
from workspaces.names import printable

INBOX_MAX = 64
_SO_PASSRIGHTS = 83  # Linux 6.16: refuse descriptors
_FDS_MAX = 253  # that one packet may carry (SCM_MAX_FD)
_CREDENTIALS = socket.CMSG_SPACE(struct.calcsize("3i"))  # with each packet, so that an empty one is not the end
_TAKE = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, and drop what was not sent
_SEND_BUFFER = 2 * protocol.MESSAGE_MAX
_RETRY = 0.02  # s between attempts to connect while the agent's backlog is full

T = TypeVar("T", bound=Message)


def out_of_turn(message: object) -> GuestProtocolError:
    return GuestProtocolError(f"The workspace's agent sent {type(message).__name__.lower()} out of turn.")


class Connection:
    """One connection to the agent: sends messages, and gives those that come, then its end, to one handler at a time.

    The end is an error: GuestUnavailable, or GuestProtocolError when the agent talked nonsense.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[Message | WorkspacesError] = deque()
        self._handler: Callable[[Message | WorkspacesError], None] | None = None
        self.closed = False
        self._refuses = _refuse_descriptors(sock)
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    async def open(cls, path: Path, timeout: float) -> Connection:
        try:
            async with asyncio.timeout(timeout):
                return cls(await _reach(path))
        except TimeoutError:
            raise GuestUnavailable("The workspace's agent is too busy to answer.", "Try again in a moment.") from None

    def _readable(self) -> None:
        try:
            packet = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            packet = b""
        item: Message | WorkspacesError
        try:
            if not packet:
                raise GuestUnavailable("The workspace's agent ended the connection.", "The workspace may have stopped.")
            if len(packet) > protocol.REPLY_MAX or len(self._inbox) >= INBOX_MAX:
                raise GuestProtocolError("The workspace's agent says too much.")
            item = protocol.decode(packet)
        except WorkspacesError as exc:
            item = exc
            self.close()
        if self._handler is None:
            self._inbox.append(item)
        else:
            self._deliver(item)

    def _receive(self) -> bytes:
        if self._refuses:
            return self._socket.recv(protocol.REPLY_MAX + 1, socket.MSG_DONTWAIT)
        packet, descriptors, _ = self._take()
        return b"" if descriptors else packet  # no honest agent sends one: that is the end

    def _take(self) -> tuple[bytes, bool, bool]:
        """The next packet, whether descriptors were with it (they are closed), and whether it was one, not the end."""
        space = socket.CMSG_SPACE(_FDS_MAX * array("i").itemsize) + _CREDENTIALS
        packet, ancillary, _, _ = self._socket.recvmsg(protocol.REPLY_MAX + 1, space, _TAKE)
        fds = array("i")
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if fds:
            threading.Thread(target=_close_all, args=(fds,), daemon=True).start()
        return packet, bool(fds), bool(ancillary)

    def _deliver(self, item: Message | WorkspacesError) -> None:
        if self._handler is not None:
            try:
                self._handler(item)
            except GuestProtocolError as exc:
                self.close()
                self._handler(exc)

    def attach(self, handler: Callable[[Message | WorkspacesError], None] | None) -> None:
        """Give what has come, and what comes, to `handler`; without one it waits."""
        self._handler = handler
        while self._inbox and self._handler is not None:
            self._deliver(self._inbox.popleft())

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Never waits. Raises InvalidInput for an impossible message, GuestUnavailable when the agent takes none."""
        packet = protocol.encode(message)
        if self.closed:
            raise GuestUnavailable("The workspace's agent ended the connection.")
        try:
            socket.send_fds(self._socket, [packet], list(fds), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as exc:
            raise GuestUnavailable(f"The workspace's agent does not listen: {exc.strerror}.") from exc

    async def request(self, message: Message, fds: Sequence[int], reply: type[T], timeout: float) -> T:
        """Send `message` and wait for its one `reply`.

        Raises GuestError with the agent's own sentence when it failed, GuestUnavailable when nothing came.
        """
        future: asyncio.Future[Message | WorkspacesError] = self._loop.create_future()

        def first(item: Message | WorkspacesError) -> None:
            self._handler = None
            if not future.done():
                future.set_result(item)

        self.attach(first)
        self.send(message, fds)
        try:
            async with asyncio.timeout(timeout):
                item = await future
        except TimeoutError:
            raise GuestUnavailable(f"The workspace's agent did not answer within {timeout:g} s.") from None
        if isinstance(item, WorkspacesError):
            raise item
        if isinstance(item, protocol.Failed):
            raise GuestError(printable(item.text, 500))
        if not isinstance(item, reply):
            raise out_of_turn(item)
        return item

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket.fileno())
            with contextlib.suppress(OSError):
                if not self._refuses:  # what still waits would be closed with the socket
                    self._socket.shutdown(socket.SHUT_RD)
                    while self._take()[2]:
                        pass
            self._socket.close()


def _refuse_descriptors(sock: socket.socket) -> bool:
    """Whether the kernel does it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return False
    return True


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        with contextlib.suppress(OSError):
            os.close(fd)


async def _reach(path: Path) -> socket.socket:
    """A connection to the socket at `path`, which a hostile container may have replaced by anything."""
    gone = "The workspace does not answer."
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise GuestUnavailable(f"{gone} Its agent's socket: {exc.strerror}.", "It may have stopped.") from exc
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise GuestUnavailable(f"{gone} Something else lies where its agent's socket was.", "Restart it.")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        _refuse_descriptors(sock)
        while True:
            try:
                sock.connect(f"/proc/self/fd/{handle}")
                return sock
            except BlockingIOError:
                await asyncio.sleep(_RETRY)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError):
            raise GuestUnavailable(f"{gone} Its agent's socket: {exc.strerror}.", "It may have stopped.") from exc
        raise
    finally:
        os.close(handle)
