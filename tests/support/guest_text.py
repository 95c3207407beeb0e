"""Messages of the guest agent's protocol as one line of text each, as tests/data/agent_vectors.txt has them.

tests/agent_vectors.c writes the same lines in C.
"""

from __future__ import annotations

from pathlib import Path

from workspaces.guest import protocol
from workspaces.guest.wire import Terminal, TermSize

VECTORS = Path(__file__).parent.parent / "data" / "agent_vectors.txt"


def vectors() -> list[tuple[str, bytes, str]]:
    """(direction, packet, text): direction is `>` for what C reads, `<` for what only Python does."""
    rows = []
    for line in VECTORS.read_text().splitlines():
        if line and not line.startswith("#"):
            direction, packet, text = line.split(" ", 2)
            rows.append((direction, bytes.fromhex(packet), text))
    return rows


def _quote(value: str | bytes) -> str:
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in raw) + '"'


def _size(size: TermSize) -> str:
    return f"{size.columns}x{size.rows}+{size.xpixels}+{size.ypixels}"


def describe(message: protocol.Message) -> str:
    """The message's name and its fields, in the order in which they are on the wire."""
    words = [type(message).__name__.lower()]
    for name, _ in message.FIELDS:
        value = getattr(message, name)
        if isinstance(value, tuple):
            words.append(f"{name}=[{','.join(_quote(item) for item in value)}]")
        elif isinstance(value, Terminal):
            modes = ",".join(f"{opcode}:{setting}" for opcode, setting in value.modes)
            words.append(f"terminal={_size(value.size)} modes=[{modes}]")
        elif isinstance(value, TermSize):
            words.append(f"size={_size(value)}")
        elif isinstance(value, str):
            words.append(f"{name}={_quote(value)}")
        elif value is not None:
            words.append(f"{name}={int(value)}")
    return " ".join(words)
