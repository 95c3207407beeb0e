"""A terminal that goes on, as an event stream for asciinema-player: what it shows by now at once, then what comes.

    recording ─► {"cols": 80, "rows": 24, "time": 12.5, "init": "all of its output"} ─► [13.1, "o", "$ "] ─► … ─► done

The file is looked at a few times a second while somebody watches, and no longer; nothing else is done for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from webadmin.i18n import _
from webadmin.serving.handover import Stream
from workspaces import casts
from workspaces.errors import NotFound, WorkspacesError
from workspaces.names import amount

LOOK_SECONDS = 0.25
ASK_SECONDS = 2.0  # between two questions whether the right to see it lasts, and whether all of it is written
BEAT_SECONDS = 60.0  # between two notes that somebody still looks
SILENT_SECONDS = 20.0  # without news, after which something is sent: it shows who is gone
INIT_MAX = 1 << 20  # characters of what was shown before


def follower(
    path: Path, look: Callable[[], None], is_written: Callable[[], bool]
) -> Callable[[Stream], Awaitable[None]]:
    """What goes on with the stream of a recording, until its reader may not see it, or has seen all of it.

    In threads, `look` notes that somebody still looks, and `is_written` says whether nothing will be added.
    """
    left_out = _("[%(size)s left out]", size="{}")  # in the reader's language, which later nobody knows
    return partial(_follow, path, look, is_written, left_out)


async def _follow(
    path: Path, look: Callable[[], None], is_written: Callable[[], bool], left_out: str, stream: Stream
) -> None:
    loop = asyncio.get_running_loop()

    async def in_thread(function: Callable[[], tuple[str, int]]) -> tuple[str, int]:
        return await loop.run_in_executor(None, function)

    opening, start = await in_thread(partial(_opening, path))
    await stream.write(f"retry: 5000\n\ndata: {opening}\n\n")
    asked = noted = told = loop.time()
    over = False
    while not stream.gone.is_set():
        now = loop.time()
        if now - asked >= ASK_SECONDS:
            asked = now
            if not await stream.allowed():
                break
            with suppress(WorkspacesError):  # it is asked again
                over = await loop.run_in_executor(None, is_written)
        if now - noted >= BEAT_SECONDS:
            noted = now
            await loop.run_in_executor(None, look)
        since = start
        text, start = await in_thread(partial(_news, path, since, left_out))
        if over and start == since:
            break
        if not text and now - told >= SILENT_SECONDS:
            text = ":\n\n"
        if text:
            told = now
            await stream.write(text)
        elif start == since:
            await stream.pause(LOOK_SECONDS)
    await stream.event("done")


def _opening(path: Path) -> tuple[str, int]:
    """The first message, and where the news begin."""
    texts, length, at, start = deque[str](), 0, 0.0, 0
    columns, rows = 80, 24
    try:
        columns, rows = casts.first_size(path)
        while (part := casts.read(path, start))[1] != start:
            start = part[1]
            for event in filter(None, map(casts.parse, part[0].splitlines())):
                at = event.at
                if event.kind == "r":
                    columns, rows = _size(event.data) or (columns, rows)
                elif event.kind == "o":
                    texts.append(event.data)
                    length += len(event.data)
                while length > INIT_MAX:
                    length -= len(texts.popleft())
    except NotFound:  # the gateway makes it in a moment
        pass
    return json.dumps({"cols": columns, "rows": rows, "time": at, "init": "".join(texts)}), start


def _news(path: Path, start: int, left_out: str) -> tuple[str, int]:
    """Messages about what is new since byte `start`, and where the next begin."""
    try:
        data, following = casts.read(path, start)
    except WorkspacesError:
        return "", start
    messages = []
    for event in filter(None, map(casts.parse, data.splitlines())):
        said: list[object] = [event.at, event.kind, event.data]
        missing = casts.gap_size(event)
        if event.kind == "r":
            size = _size(event.data)
            if size is None:
                continue
            said[2] = {"cols": size[0], "rows": size[1]}
        elif missing is not None:
            said[1:] = ["o", f"\x18\x1b[0m\r\n{left_out.format(amount(missing))}\r\n"]
        elif event.kind != "o":
            continue
        messages.append(f"data: {json.dumps(said)}\n\n")
    return "".join(messages), following


def _size(text: str) -> tuple[int, int] | None:
    columns, _x, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and len(text) < 12):
        return None
    return casts.clamp(int(columns), 80), casts.clamp(int(rows), 24)
