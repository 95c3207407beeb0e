"""Recordings of terminals as files: asciicast v2, one line of JSON for each event.

    {"version": 2, "width": 80, "height": 24, "timestamp": 1767225600, …}
    [1.042, "o", "$ "]          output at that second
    [3.507, "r", "120x40"]      the terminal has another size
    [9.120, "m", "LEFT OUT 1048576 BYTES"]   a gap: bytes that were not recorded, since they came too fast

Version 2 and not 3, whose times count from the event before: a line that is left out shifts nothing. Output is text
here: bytes that are no UTF-8 became U+FFFD. A line that its writer was killed in has no end, and is no line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workspaces.errors import Conflict, NotFound

SIZE_MAX = 1000  # columns and rows that are believed
LINE_MAX = 1 << 20  # bytes of one line that are read at all
TAIL = 256 << 10  # bytes at the end of a file in which its last line begins, as this program writes them
READ_MAX = 1 << 20  # bytes handed out at once
_GAP = re.compile(r"LEFT OUT (\d{1,15}) BYTES")
_escaped = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class CastEvent:
    """`kind` is `o`, `r` or `m`; `at` are seconds since the recording began."""

    at: float
    kind: str
    data: str


def header(width: int, height: int, began_at: float, term: str, title: str) -> bytes:
    """The first line; a terminal of no known size is taken for 80 × 24."""
    said = {
        "version": 2,
        "width": clamp(width, 80),
        "height": clamp(height, 24),
        "timestamp": int(began_at),
        "title": title,
        "env": {"TERM": term},
    }
    return f"{json.dumps(said)}\n".encode()


def line(at: float, kind: str, data: str) -> bytes:
    """One event. `data` has no lone surrogates."""
    return f'[{at:.3f}, "{kind}", {_escaped(data)}]\n'.encode()


def gap(count: int) -> str:
    """What a marker says where `count` bytes were left out."""
    return f"LEFT OUT {count} BYTES"


def gap_size(event: CastEvent) -> int | None:
    """How many bytes were left out there; None for what is no gap."""
    found = _GAP.fullmatch(event.data) if event.kind == "m" else None
    return int(found[1]) if found else None


def clamp(size: int, unknown: int) -> int:
    """Columns or rows as they can be shown."""
    return min(size, SIZE_MAX) if size > 0 else unknown


def parse(text: bytes) -> CastEvent | None:
    """The event of a line; None for the first line and for what is none."""
    try:
        at, kind, data = json.loads(text)
        event = CastEvent(float(at), str(kind), str(data))
    except (ValueError, TypeError):
        return None
    return event if event.kind in ("o", "r", "m") and 0 <= event.at < float("inf") else None


def open_cast(path: Path) -> BinaryIO:
    """The file of a recording, for reading. NotFound when it is gone; Conflict when it cannot be read."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise NotFound("The recording is not kept any more.") from None
    except OSError as exc:
        raise Conflict(f"The recording cannot be read: {exc.strerror}.") from exc


def read(path: Path, start: int, limit: int = READ_MAX) -> tuple[bytes, int]:
    """Whole lines from byte `start`, about `limit` bytes at most, and where to go on. NotFound, Conflict.

    `start` is 0 or what an earlier call returned. Nothing new is b"" and `start`.
    """
    with open_cast(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = min(max(0, start), size)
        file.seek(start)
        data = file.read(limit)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == limit:  # a line longer than that is none of ours, but must not stop a reader
            return b"", start + limit
        return data[:end], start + end


def events(path: Path) -> Iterator[CastEvent]:
    """Every event of a recording in turn. NotFound, Conflict."""
    with open_cast(path) as file:
        while text := file.readline(LINE_MAX):
            event = parse(text) if text.endswith(b"\n") else None
            if event is not None:
                yield event


def first_size(path: Path) -> tuple[int, int]:
    """Columns and rows that a recording begins with. NotFound, Conflict."""
    with open_cast(path) as file:
        try:
            said = json.loads(file.readline(LINE_MAX))
            return clamp(int(said["width"]), 80), clamp(int(said["height"]), 24)
        except (ValueError, TypeError, KeyError):
            return 80, 24


def measure(path: Path) -> tuple[int, float]:
    """Bytes and seconds of what is in the file, without a torn last line. NotFound, Conflict."""
    with open_cast(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL))
        tail = file.read(TAIL)
    whole = tail[: tail.rfind(b"\n") + 1]
    found = (parse(text) for text in reversed(whole.splitlines()))
    last = next((event for event in found if event is not None), None)
    return size - (len(tail) - len(whole)), last.at if last else 0.0
