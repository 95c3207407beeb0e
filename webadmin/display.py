"""How values look on a page: template filters for times, sizes, counts and untrusted names."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from flask import Flask
from markupsafe import Markup, escape

from workspaces.commands import shown_command
from workspaces.jobtext import again, condition, pace, percent
from workspaces.model import Change
from workspaces.names import amount, printable

# below which distance, in which unit (seconds), called what
_UNITS = (
    (3600, 60, "min", "min"),
    (86400, 3600, "h", "h"),
    (30 * 86400, 86400, "day", "days"),
    (365 * 86400, 30 * 86400, "month", "months"),
    (float("inf"), 365 * 86400, "year", "years"),
)
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Version", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
SIGNS = {"added": "+", "changed": "~", "removed": "−"}


def install(app: Flask) -> None:
    for function in (ago, exact, amount, count, plural, shown, sign, sign_of, percent, condition, pace, again):
        app.jinja_env.filters[function.__name__] = function
    app.jinja_env.filters["command"] = shown_command
    app.jinja_env.filters["browser"] = browser_name


def browser_name(agent: str) -> str:
    """`Firefox 140 on Linux`: what a browser says of itself, as far as that can be told; else its beginning."""
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    for mark, name in _BROWSERS:
        if found := re.search(rf"(?<![A-Za-z]){mark}/([0-9]{{1,4}})", agent):
            return f"{name} {found[1]} on {system}" if system else f"{name} {found[1]}"
    return printable(agent, 60) or "?"


def _distance(seconds: float) -> str:
    _, unit, one, many = next(row for row in _UNITS if seconds < row[0])
    number = int(seconds // unit)
    return f"{number} {one if number == 1 else many}"


def ago(at: float | None, never: str = "never") -> Markup | str:
    """A moment relative to now, to the minute, with the exact one on hover; `never` for None."""
    if at is None:
        return never
    moment = datetime.fromtimestamp(at, UTC)
    passed = time.time() - at
    if abs(passed) < 60:
        text = "just now" if passed >= 0 else "in a moment"
    else:
        text = f"{_distance(passed)} ago" if passed > 0 else f"in {_distance(-passed)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(timespec="seconds").replace("+00:00", "Z"), exact(at), text
    )


def exact(at: float) -> str:
    """`1 May 2026, 18:00:05 UTC`."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M:%S} UTC"


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def shown(text: str, limit: int = 400) -> str:
    """A file name or comment from a container, with what could disguise it written out."""
    return printable(text, limit)


def sign(change: Change) -> Markup:
    """+, ~ or − for a change, which a screen reader reads as the word."""
    return sign_of(change.kind)


def sign_of(kind: str) -> Markup:
    """The same for added, changed or removed."""
    return Markup('<span aria-hidden="true">{}</span><span class="unseen">{}</span>').format(
        SIGNS.get(kind, "?"), escape(kind)
    )
