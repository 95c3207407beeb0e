"""The messages between gateway, guest agent and `snapshot`: pure, bytes in and messages out.

One message is one packet of a SOCK_SEQPACKET socket, at most MESSAGE_MAX bytes:

    message   version u8 (1) · type u8 · the type's fields in the order of its dataclass, nothing after them
    u8 u16 u32   unsigned, big-endian
    string    length u32 · that many bytes, none of them NUL · one NUL
    strings   count u16 · strings
    bool      u8, 0 or 1
    terminal  bool; if 1: columns rows xpixels ypixels (u16 each) · count u16 · modes, each opcode u8, value u32

Types below 128 go to the agent, the others come from it. `agent/codec.c` is the same in C, and
tests/data/agent_vectors.txt holds examples on which both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from workspaces.errors import GuestProtocolError, InvalidInput
from workspaces.guest import wire

PROTOCOL = 1
MESSAGE_MAX = 192 * 1024  # bytes of a packet
REPLY_MAX = 24 * 1024  # bytes of the longest packet that the agent sends
ASK_BYTES_MAX = 16 * 1024  # of all arguments of an ask together, and of the text of an answer


class SpawnKind(IntEnum):
    LOGIN = 0  # the user's shell as a login shell; no arguments
    COMMAND = 1  # the user's shell with -c and the one argument
    ARGV = 2


class TargetKind(IntEnum):
    TCP = 0
    UNIX = 1
    PRIVATE = 2  # a unix socket to listen on in a directory that is made for it, of mode 0700, and goes with it


class Message:
    """Base of all messages. `check` says what is wrong with one whose fields are each well formed."""

    __slots__ = ()
    CODE: ClassVar[int]
    FIELDS: ClassVar[tuple[tuple[str, wire.Field], ...]] = ()

    def check(self) -> str | None:
        return None


# --- to the agent ---


@dataclass(frozen=True, slots=True)
class Spawn(Message):
    """With it go the descriptors that become stdin, stdout and stderr; with a terminal only the first two."""

    CODE = 1
    FIELDS = (
        ("kind", wire.U8),
        ("user", wire.TEXT),
        ("cwd", wire.TEXT),
        ("args", wire.ARGS),
        ("env", wire.ENV),
        ("terminal", wire.TERMINAL),
    )
    kind: int
    user: str
    cwd: str  # empty: the user's home
    args: tuple[bytes, ...] = ()
    env: tuple[bytes, ...] = ()  # NAME=value
    terminal: wire.Terminal | None = None

    def check(self) -> str | None:
        if self.kind not in tuple(SpawnKind):
            return "The kind of spawn is unknown."
        fits = {SpawnKind.LOGIN: len(self.args) == 0, SpawnKind.COMMAND: len(self.args) == 1}
        if not fits.get(SpawnKind(self.kind), len(self.args) > 0):
            return "The arguments do not fit the kind of spawn."
        if any(entry.find(b"=") < 1 for entry in self.env):
            return "An environment entry is not NAME=value."
        return None


@dataclass(frozen=True, slots=True)
class _Target(Message):
    FIELDS = (("kind", wire.U8), ("user", wire.TEXT), ("host", wire.TEXT), ("port", wire.U16))
    kind: int
    user: str
    host: str  # a name, an address, or a unix socket's path
    port: int = 0

    def check(self) -> str | None:
        if self.kind not in tuple(TargetKind):
            return "The kind of target is unknown."
        return "A unix socket has no port." if self.kind != TargetKind.TCP and self.port else None


@dataclass(frozen=True, slots=True)
class Connect(_Target):
    """With it goes the stream socket to which the connection is relayed."""

    CODE = 2


@dataclass(frozen=True, slots=True)
class Listen(_Target):
    CODE = 3


@dataclass(frozen=True, slots=True)
class Attend(Message):
    CODE = 4


@dataclass(frozen=True, slots=True)
class Resize(Message):
    CODE = 5
    FIELDS = (("size", wire.SIZE),)
    size: wire.TermSize


@dataclass(frozen=True, slots=True)
class Signal(Message):
    CODE = 6
    FIELDS = (("name", wire.TEXT),)
    name: str  # as SSH names it, without SIG; unknown ones are ignored


@dataclass(frozen=True, slots=True)
class Accept(Message):
    """With it goes the stream socket to which the incoming connection is relayed."""

    CODE = 7
    FIELDS = (("id", wire.U32),)
    id: int


@dataclass(frozen=True, slots=True)
class Reject(Message):
    CODE = 8
    FIELDS = (("id", wire.U32),)
    id: int


def _text_check(text: str) -> str | None:
    return "The text is too long." if len(text.encode("utf-8", "surrogateescape")) > ASK_BYTES_MAX else None


@dataclass(frozen=True, slots=True)
class Answer(Message):
    CODE = 9
    FIELDS = (("id", wire.U32), ("status", wire.U8), ("text", wire.TEXT))
    id: int
    status: int
    text: str

    def check(self) -> str | None:
        return _text_check(self.text)


def _ask_check(kind: str, args: tuple[bytes, ...]) -> str | None:
    if len(kind.encode("utf-8", "surrogateescape")) > 32 or sum(map(len, args)) > ASK_BYTES_MAX:
        return "The ask is too long."
    return None


@dataclass(frozen=True, slots=True)
class Ask(Message):
    CODE = 10
    FIELDS = (("kind", wire.TEXT), ("args", wire.ASK_ARGS))
    kind: str
    args: tuple[bytes, ...] = ()

    def check(self) -> str | None:
        return _ask_check(self.kind, self.args)


# --- from the agent ---


@dataclass(frozen=True, slots=True)
class Started(Message):
    CODE = 129
    FIELDS = (("pid", wire.U32),)
    pid: int


@dataclass(frozen=True, slots=True)
class Exited(Message):
    CODE = 130
    FIELDS = (("code", wire.U8),)
    code: int


@dataclass(frozen=True, slots=True)
class Killed(Message):
    CODE = 131
    FIELDS = (("signal", wire.TEXT), ("core", wire.BOOL))
    signal: str
    core: bool


@dataclass(frozen=True, slots=True)
class Failed(Message):
    CODE = 132
    FIELDS = (("errno", wire.U32), ("text", wire.TEXT))
    errno: int
    text: str

    def check(self) -> str | None:
        return _text_check(self.text)


@dataclass(frozen=True, slots=True)
class Connected(Message):
    CODE = 133


@dataclass(frozen=True, slots=True)
class Listening(Message):
    CODE = 134
    FIELDS = (("port", wire.U16),)
    port: int  # 0 for a unix socket


@dataclass(frozen=True, slots=True)
class Incoming(Message):
    CODE = 135
    FIELDS = (("id", wire.U32), ("host", wire.TEXT), ("port", wire.U16))
    id: int
    host: str  # empty for a unix socket
    port: int


@dataclass(frozen=True, slots=True)
class Attending(Message):
    CODE = 136


@dataclass(frozen=True, slots=True)
class Asked(Message):
    CODE = 137
    FIELDS = (("id", wire.U32), ("uid", wire.U32), ("kind", wire.TEXT), ("args", wire.ASK_ARGS))
    id: int
    uid: int  # of the process inside that asks, as the container counts
    kind: str
    args: tuple[bytes, ...] = ()

    def check(self) -> str | None:
        return _ask_check(self.kind, self.args)


@dataclass(frozen=True, slots=True)
class Answered(Message):
    CODE = 138
    FIELDS = (("status", wire.U8), ("text", wire.TEXT))
    status: int
    text: str

    def check(self) -> str | None:
        return _text_check(self.text)


MESSAGES: dict[int, type[Message]] = {
    kind.CODE: kind
    for kind in (
        *(Spawn, Connect, Listen, Attend, Resize, Signal, Accept, Reject, Answer, Ask),
        *(Started, Exited, Killed, Failed, Connected, Listening, Incoming, Attending, Asked, Answered),
    )
}


def encode(message: Message) -> bytes:
    """The packet of a message. Raises InvalidInput when a field, or the whole, breaks a limit."""
    writer = wire.Writer()
    writer.number(PROTOCOL, 1)
    writer.number(message.CODE, 1)
    for name, (write, _) in message.FIELDS:
        write(writer, getattr(message, name))
    if len(writer.data) > MESSAGE_MAX:
        raise InvalidInput("The command and its environment are too long together.")
    if problem := message.check():
        raise InvalidInput(problem)
    return bytes(writer.data)


def decode(packet: bytes) -> Message:
    """The message of a packet. Raises GuestProtocolError for anything that `encode` cannot have made."""
    if len(packet) > MESSAGE_MAX:
        raise GuestProtocolError("A message of the agent's protocol is too long.")
    reader = wire.Reader(packet)
    if reader.number(1) != PROTOCOL:
        raise GuestProtocolError(
            "The workspace's agent is of another version of this program.", "Restart the workspace."
        )
    kind = MESSAGES.get(reader.number(1))
    if kind is None:
        raise GuestProtocolError("A message of the agent's protocol is of an unknown type.")
    message = kind(*(read(reader) for _, (_, read) in kind.FIELDS))
    if reader.position != len(packet):
        raise GuestProtocolError("Something follows the end of a message of the agent's protocol.")
    if problem := message.check():
        raise GuestProtocolError(problem)
    return message
