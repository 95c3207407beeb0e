"""Plays a recording on the terminal that the command runs on.

A recording is hostile: its terminal belonged to somebody else. What moves the cursor, colours, scrolls and clears goes
to the reader's terminal. What would make that terminal answer (the shell would read it as typed), watch mouse and keys,
or touch titles, clipboard and files does not.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable

import click

from workspaces import casts
from workspaces.names import amount
from workspaces.recordings import Played

LOOK_SECONDS = 0.3  # between two looks at a recording that is being written
CONTROLS = "\b\t\n\v\f\r\x0e\x0f"
FINALS = "@ABCDEFGHIJKLMPSTXZ`abdefghlmrsu"  # of control sequences that change nothing but what is shown
MODES = {"1", "5", "6", "7", "25", "47", "1047", "1048", "1049"}  # private ones, likewise
SEQUENCE_MAX = 256  # characters of one control sequence
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_CSI = re.compile(r"\x1b\[(\??)([0-9;:]*)([@-~])")
_ESC = re.compile(r"\x1b(?:[78DEHMc=>]|[()*+][0-9A-Za-z]|#[3-8])")
RESTORE = "\x18\x1b[0m\x1b[?25h\x1b[?1l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[4l\x1b>\x1b[r\x1b(B\x0f\x1b[?1049l\r\n"


class Filter:
    """Takes output in pieces, cut anywhere, and gives what is harmless of it."""

    def __init__(self) -> None:
        self._sequence = ""  # that has begun
        self._in_string = False  # OSC, DCS …, until its end

    def __call__(self, text: str) -> str:
        shown, at = list[str](), 0
        while at < len(text):
            if not self._sequence and not self._in_string and (run := _TEXT.match(text, at)):
                shown.append(run[0])
                at = run.end()
                continue
            shown.append(self._take(text[at]))
            at += 1
        return "".join(shown)

    def _take(self, char: str) -> str:
        if char in "\x18\x1a":  # cancel whatever has begun
            self._sequence, self._in_string = "", False
            return ""
        if char == "\x1b":
            self._sequence = char
            return ""
        if self._in_string and not self._sequence:
            self._in_string = char not in "\x07\x9c"
            return ""
        if not self._sequence:
            return char if char in CONTROLS else ""
        if char < " ":  # within a sequence it is done as if it came before
            return char if char in CONTROLS and not self._in_string else ""
        self._sequence += char
        return self._ended()

    def _ended(self) -> str:
        """The sequence that has begun, if this was its end and it may be shown."""
        sequence = self._sequence
        if len(sequence) == 2:
            self._in_string = sequence[1] in "]PX^_"
            if sequence[1] in "[()*+#-./ %":
                return ""
            self._sequence = ""
        elif sequence[1] != "[" or "@" <= sequence[-1] <= "~" or len(sequence) > SEQUENCE_MAX:
            self._sequence = ""
        else:
            return ""
        return sequence if _ESC.fullmatch(sequence) or _harmless(sequence) else ""


def _harmless(sequence: str) -> bool:
    found = _CSI.fullmatch(sequence)
    if found is None or found[3] not in FINALS:
        return False
    if found[1]:
        return found[3] in "JK" or (found[3] in "hl" and set(found[2].split(";")) <= MODES)
    return found[3] not in "hl" or found[2] == "4"


class _Screen:
    """Standard output."""

    def __init__(self) -> None:
        self._filter = Filter()

    def show(self, event: casts.CastEvent) -> None:
        missing = casts.gap_size(event)
        if event.kind == "o":
            sys.stdout.write(self._filter(event.data))
        elif missing is not None:
            sys.stdout.write(f"\x1b[0m\r\n[{amount(missing)} left out]\r\n")
        sys.stdout.flush()

    def close(self) -> None:
        sys.stdout.write(RESTORE)
        sys.stdout.flush()


def play(events: Iterable[casts.CastEvent], size: tuple[int, int], *, speed: float, idle: float) -> None:
    """Show `events` in their time, divided by `speed`, and no silence longer than `idle` seconds."""
    own = shutil.get_terminal_size()
    if own.columns < size[0] or own.lines < size[1]:
        click.echo(f"It was {size[0]} × {size[1]} characters, this terminal is {own.columns} × {own.lines}.", err=True)
    screen, before = _Screen(), 0.0
    try:
        for event in events:
            time.sleep(min(idle, max(0.0, event.at - before)) / speed)
            before = max(before, event.at)
            screen.show(event)
    except KeyboardInterrupt:
        pass
    finally:
        screen.close()


def follow(more: Callable[[int], Played]) -> None:
    """Show what there is at once, then what comes, until nothing comes any more."""
    screen, start, rest = _Screen(), 0, True
    try:
        while rest:
            part = more(start)
            for text in part.data.splitlines():
                if event := casts.parse(text):
                    screen.show(event)
            start, rest = part.next, part.live
            if rest and not part.data:
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        screen.close()
