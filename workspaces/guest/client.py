"""The gateway's side of the guest agent: start processes, carry sockets, answer asks; asyncio, no threads.

Each process, connection or listener has a connection of its own to the agent's socket. Bytes never pass through
here: the descriptors of pipes and sockets are handed to the agent, none is ever taken from it. The agent is
not trusted: what it says is parsed strictly, bounded, and can end only what was asked of it.

    client = GuestClient(path)
    process = await client.spawn(SpawnRequest(command=b"make"), (stdin_read, stdout_write, stderr_write))
    status = await process.wait()
"""

# ruff: noqa: ASYNC109 - callers give seconds; what happens when they are over is said in the error

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from workspaces.errors import GuestProtocolError, GuestUnavailable, WorkspacesError
from workspaces.guest import protocol
from workspaces.guest.connection import INBOX_MAX, Connection, out_of_turn
from workspaces.guest.protocol import Message
from workspaces.guest.wire import Terminal, TermSize
from workspaces.names import printable

__all__ = [
    "Ask",
    "Attendance",
    "ExitStatus",
    "GuestClient",
    "Listener",
    "Process",
    "SpawnRequest",
    "TermSize",
]

T = TypeVar("T", bound=Message)


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """What to run: `argv`, or `command` by the user's shell, or neither for the user's login shell.

    `env` is added to what a login gets; `cwd` empty is the user's home. `modes` are pairs of RFC 4254 opcode and
    value, meant only with `pty`.
    """

    argv: tuple[bytes, ...] = ()
    command: bytes | None = None
    env: Mapping[bytes, bytes] = field(default_factory=dict)
    user: str = "root"
    cwd: str = ""
    pty: TermSize | None = None
    modes: tuple[tuple[int, int], ...] = ()

    def message(self) -> protocol.Spawn:
        """Raises ValueError when both argv and command are given."""
        if self.argv and self.command is not None:
            raise ValueError("argv and command exclude each other")
        kind, args = protocol.SpawnKind.LOGIN, self.argv
        if self.argv:
            kind = protocol.SpawnKind.ARGV
        elif self.command is not None:
            kind, args = protocol.SpawnKind.COMMAND, (self.command,)
        env = tuple(name + b"=" + value for name, value in self.env.items())
        terminal = Terminal(self.pty, self.modes) if self.pty else None
        return protocol.Spawn(kind, self.user, self.cwd, args, env, terminal)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """Either `code` (0 to 255) or `signal`, as SSH names it, e.g. `KILL`."""

    code: int | None = None
    signal: str | None = None
    core: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What a person asks for inside: `args` as typed after the program's name, `kind`; other bytes as surrogates."""

    id: int
    kind: str
    args: tuple[str, ...]
    uid: int


class Process:
    """A process in the container. Closing it before its end hangs it up."""

    def __init__(self, connection: Connection, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._end: asyncio.Future[ExitStatus | WorkspacesError] = asyncio.get_running_loop().create_future()
        connection.attach(self._handle)

    def _handle(self, item: Message | WorkspacesError) -> None:
        end: ExitStatus | WorkspacesError
        if isinstance(item, WorkspacesError):
            end = item
        elif self._end.done():
            raise out_of_turn(item)
        elif isinstance(item, protocol.Exited):
            end = ExitStatus(code=item.code)
        elif isinstance(item, protocol.Killed):
            # The name goes out in an SSH message: no honest agent sends another.
            if not (item.signal.isascii() and item.signal.isalnum() and len(item.signal) <= 16):
                raise GuestProtocolError("The workspace's agent named a signal that does not exist.")
            end = ExitStatus(signal=item.signal, core=item.core)
        else:
            raise out_of_turn(item)
        if not self._end.done():
            self._end.set_result(end)

    def resize(self, size: TermSize) -> None:
        """Tell the terminal's new size. Nothing happens without a terminal or after the end."""
        self._tell(protocol.Resize(size))

    def signal(self, name: str) -> None:
        """Signal the process group, e.g. `TERM`. Unknown names are ignored, and any after the end."""
        if name.isascii() and name.isalnum() and len(name) <= 16:
            self._tell(protocol.Signal(name))

    def _tell(self, message: Message) -> None:
        if not self._end.done():
            with contextlib.suppress(GuestUnavailable):
                self._connection.send(message)

    async def wait(self) -> ExitStatus:
        """How it ended; its output may still be in the pipes. Raises GuestUnavailable when the agent is gone."""
        end = await asyncio.shield(self._end)
        if isinstance(end, WorkspacesError):
            raise end
        return end

    def close(self) -> None:
        """Hang up: SIGHUP to its process group, SIGKILL 5 s later to what of its session did not ignore that."""
        if not self._end.done():
            self._end.set_result(GuestUnavailable("The process was hung up."))
        self._connection.close()


class _Stream:
    """Messages that become items of an async iterator, which ends with the agent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        connection.attach(self._handle)

    def _item(self, message: Message) -> object:
        raise NotImplementedError

    def _handle(self, item: Message | WorkspacesError) -> None:
        if isinstance(item, Message):
            item_or_none = self._item(item)
            if item_or_none is not None:
                self._queue.put_nowait(item_or_none)
        else:
            self._queue.put_nowait(item)

    async def _next(self) -> object:
        """The next item, or None at the end. Raises GuestProtocolError when that was the agent's fault."""
        if self._connection.closed and self._queue.empty():
            return None
        item = await self._queue.get()
        if isinstance(item, GuestProtocolError):
            raise item
        return None if isinstance(item, GuestUnavailable) else item

    def close(self) -> None:
        """End it; a waiting iterator ends."""
        if not self._connection.closed:
            self._connection.close()
            self._queue.put_nowait(GuestUnavailable("closed"))


class Attendance(_Stream):
    """The gateway's standing offer to answer what people ask inside: an async iterator of Ask."""

    def _item(self, message: Message) -> object:
        if not isinstance(message, protocol.Asked):
            raise out_of_turn(message)
        if self._queue.qsize() >= INBOX_MAX:
            raise GuestProtocolError("The workspace's agent asks too much.")
        args = tuple(arg.decode("utf-8", "surrogateescape") for arg in message.args)
        return Ask(message.id, message.kind, args, message.uid)

    async def __aiter__(self) -> AsyncIterator[Ask]:
        while isinstance(item := await self._next(), Ask):
            yield item

    async def answer(self, id: int, status: int, text: str) -> None:
        """Answer an Ask: the program inside prints `text`, cut where it is too long, and exits with `status`.

        Nothing happens when whoever asked has gone. Raises GuestUnavailable when the agent has.
        """
        cut = text.replace("\0", "").encode("utf-8", "replace")[: protocol.ASK_BYTES_MAX].decode("utf-8", "ignore")
        self._connection.send(protocol.Answer(id, status, cut))


class Listener(_Stream):
    """A port or unix socket in the container: an async iterator of (host, port, socket) for each that connects.

    `port` is the one in use. The sockets are the caller's to close.
    """

    def __init__(self, connection: Connection, port: int) -> None:
        self.port = port
        super().__init__(connection)

    def _item(self, message: Message) -> object:
        if not isinstance(message, protocol.Incoming):
            raise out_of_turn(message)
        try:
            if self._queue.qsize() >= INBOX_MAX:
                raise OSError
            ours, theirs = socket.socketpair()
        except OSError:  # or no descriptor is left: the next one may be luckier
            try:
                self._connection.send(protocol.Reject(message.id))
            except GuestUnavailable as exc:
                raise GuestProtocolError("The workspace's agent tells of connections and takes no answer.") from exc
            return None
        with theirs:
            ours.setblocking(False)
            try:
                self._connection.send(protocol.Accept(message.id), [theirs.fileno()])
            except GuestUnavailable:
                ours.close()
                return None
        return printable(message.host, 64), message.port, ours

    async def __aiter__(self) -> AsyncIterator[tuple[str, int, socket.socket]]:
        while isinstance(item := await self._next(), tuple):
            yield item

    def close(self) -> None:
        """Stop listening. Connections given out go on."""
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if isinstance(item, tuple):
                item[2].close()
        super().close()


def _target(target: tuple[str, int] | str, user: str) -> tuple[int, str, str, int]:
    if isinstance(target, str):
        return protocol.TargetKind.UNIX, user, target, 0
    return protocol.TargetKind.TCP, user, target[0], target[1]


class GuestClient:
    """The agent that listens on `socket`. Making one does nothing yet."""

    def __init__(self, socket: Path) -> None:
        self._path = socket

    async def _open(self, message: Message, fds: Sequence[int], reply: type[T], timeout: float) -> tuple[Connection, T]:
        connection = await Connection.open(self._path, timeout)
        try:
            return connection, await connection.request(message, fds, reply, timeout)
        except BaseException:
            connection.close()
            raise

    async def spawn(self, request: SpawnRequest, fds: Sequence[int], timeout: float = 10) -> Process:
        """Start a process with `fds` as stdin, stdout and stderr; with a terminal: input and output only.

        The caller closes its copies of `fds` afterwards, in any case. Raises GuestError with a sentence when it cannot
        be started, GuestUnavailable, GuestProtocolError, InvalidInput when the request is too big.
        """
        connection, started = await self._open(request.message(), fds, protocol.Started, timeout)
        return Process(connection, started.pid)

    async def connect(self, target: tuple[str, int] | str, timeout: float = 30, *, user: str = "root") -> socket.socket:
        """Connect to (host, port) or a unix socket's path as the container sees it, with `user`'s rights.

        Returns the non-blocking end of a stream socket pair; either half can be shut down by itself.
        Raises as `spawn` does.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                ours.setblocking(False)
                message = protocol.Connect(*_target(target, user))
                connection, _ = await self._open(message, [theirs.fileno()], protocol.Connected, timeout)
            connection.close()
        except BaseException:
            ours.close()
            raise
        return ours

    async def listen(
        self, target: tuple[str, int] | str, timeout: float = 10, *, user: str = "root", private: bool = False
    ) -> Listener:
        """Listen on (host, port) or a new unix socket in the container, with `user`'s rights; raises as `spawn` does.

        Host empty or `*` is every address, port 0 a free one. With `private`, the unix socket's directory is made
        for it, must not exist before, is open to `user` alone, and goes with the socket.
        """
        message = protocol.Listen(*_target(target, user))
        if private:
            message = replace(message, kind=protocol.TargetKind.PRIVATE)
        connection, listening = await self._open(message, (), protocol.Listening, timeout)
        return Listener(connection, listening.port)

    async def attend(self, timeout: float = 10) -> Attendance:
        """Offer to answer what is asked inside, until it is closed. The latest gateway to attend is asked."""
        connection, _ = await self._open(protocol.Attend(), (), protocol.Attending, timeout)
        return Attendance(connection)
