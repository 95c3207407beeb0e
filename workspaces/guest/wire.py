"""The fields that messages to and from the guest agent are made of: pure, strict and bounded.

`Writer` appends values to bytes, `Reader` takes them off again; each `Field` pairs the two for one kind of value.
The encoding of each is described in protocol.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workspaces.errors import GuestProtocolError, InvalidInput

STRING_MAX = 128 * 1024 - 1  # bytes, what Linux takes as one argument
ARGS_MAX = 1024
ENV_MAX = 1024
MODES_MAX = 256
ASK_ARGS_MAX = 64


@dataclass(frozen=True, slots=True)
class TermSize:
    """Characters, and pixels where they are known; clamped to 0..65535 on the wire."""

    columns: int
    rows: int
    xpixels: int = 0
    ypixels: int = 0


@dataclass(frozen=True, slots=True)
class Terminal:
    """`modes` are pairs of RFC 4254 (section 8) opcode and value."""

    size: TermSize
    modes: tuple[tuple[int, int], ...] = ()


class Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int, size: int) -> None:
        try:
            self.data += value.to_bytes(size, "big")
        except OverflowError:
            raise InvalidInput(f"The number {value} is out of range.") from None

    def raw(self, value: bytes) -> None:
        if len(value) > STRING_MAX:
            raise InvalidInput(f"An argument of {len(value)} bytes is too long; {STRING_MAX} are allowed.")
        if b"\0" in value:
            raise InvalidInput("An argument, name or path has a NUL byte in it.")
        self.number(len(value), 4)
        self.data += value + b"\0"

    def text(self, value: str) -> None:
        self.raw(value.encode("utf-8", "surrogateescape"))

    def raws(self, values: Sequence[bytes], limit: int) -> None:
        if len(values) > limit:
            raise InvalidInput(f"{len(values)} entries are too many; {limit} are allowed.")
        self.number(len(values), 2)
        for value in values:
            self.raw(value)

    def size(self, value: TermSize) -> None:
        for part in (value.columns, value.rows, value.xpixels, value.ypixels):
            self.number(min(max(part, 0), 0xFFFF), 2)

    def terminal(self, value: Terminal | None) -> None:
        self.number(int(value is not None), 1)
        if value is None:
            return
        self.size(value.size)
        if len(value.modes) > MODES_MAX:
            raise InvalidInput(f"{len(value.modes)} terminal modes are too many; {MODES_MAX} are allowed.")
        self.number(len(value.modes), 2)
        for opcode, setting in value.modes:
            self.number(opcode, 1)
            self.number(setting, 4)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if self.position > len(self.data):
            raise GuestProtocolError("A message of the agent's protocol is cut short.")
        return self.data[start : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def raw(self) -> bytes:
        length = self.number(4)
        if length > STRING_MAX:
            raise GuestProtocolError("A string of the agent's protocol is too long.")
        value = self.take(length + 1)
        if value.find(b"\0") != length:
            raise GuestProtocolError("A string of the agent's protocol is not ended by its only NUL.")
        return value[:-1]

    def text(self) -> str:
        return self.raw().decode("utf-8", "surrogateescape")

    def count(self, limit: int) -> int:
        count = self.number(2)
        if count > limit:
            raise GuestProtocolError("A list of the agent's protocol is too long.")
        return count

    def raws(self, limit: int) -> tuple[bytes, ...]:
        return tuple(self.raw() for _ in range(self.count(limit)))

    def flag(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise GuestProtocolError("A flag of the agent's protocol is neither 0 nor 1.")
        return bool(value)

    def size(self) -> TermSize:
        return TermSize(*(self.number(2) for _ in range(4)))

    def terminal(self) -> Terminal | None:
        if not self.flag():
            return None
        size = self.size()
        modes = tuple((self.number(1), self.number(4)) for _ in range(self.count(MODES_MAX)))
        return Terminal(size, modes)


# How each field of a message is written and read.
Field = tuple[Callable[[Writer, Any], None], Callable[[Reader], Any]]
U8: Field = (lambda w, v: w.number(v, 1), lambda r: r.number(1))
U16: Field = (lambda w, v: w.number(v, 2), lambda r: r.number(2))
U32: Field = (lambda w, v: w.number(v, 4), lambda r: r.number(4))
BOOL: Field = (lambda w, v: w.number(int(v), 1), lambda r: r.flag())
TEXT: Field = (lambda w, v: w.text(v), lambda r: r.text())
ARGS: Field = (lambda w, v: w.raws(v, ARGS_MAX), lambda r: r.raws(ARGS_MAX))
ENV: Field = (lambda w, v: w.raws(v, ENV_MAX), lambda r: r.raws(ENV_MAX))
ASK_ARGS: Field = (lambda w, v: w.raws(v, ASK_ARGS_MAX), lambda r: r.raws(ASK_ARGS_MAX))
SIZE: Field = (lambda w, v: w.size(v), lambda r: r.size())
TERMINAL: Field = (lambda w, v: w.terminal(v), lambda r: r.terminal())
