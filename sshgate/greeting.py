"""The lines above the first prompt: where one is, until when, who was here last, and who else is here now.

    als/alice · from v2 · 1.2 GiB on disk
    Open until 2026-12-31 18:00 UTC, 37 days 4 h from now
    Last login 2026-11-23 09:14 UTC from 192.0.2.7
    Also here: bob, carol
    News: als/alice v2 is committed and archived.
    Warning: the host is restarted at 18:00 UTC.

At most LINES lines of WIDTH columns, NEWS more for what the person has not been told yet, and TOLD announcements of up
to TOLD_LINES lines; what is not known is left out. Names are the store's, which are letters, digits and hyphens.
"""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass

from sshgate.places import Place
from sshgate.texts import when
from workspaces.names import amount, printable, span
from workspaces.store import Store
from workspaces.store.announcements import line

LINES = 4
NEWS = 2
TOLD = 3
TOLD_LINES = 4
WIDTH = 80


@dataclass(frozen=True, slots=True)
class Greeting:
    """`news` is the id of the newest item of news that the person has been told with `lines`, None for none."""

    lines: list[str]
    news: int | None


def greeting(store: Store, place: Place) -> Greeting:
    """The greeting of a shell that begins now. Blocks on the store, for one read; raises StoreError."""
    company = store.company(place.user, place.workspace.id)
    lines = [_joined(_facts(place), " · ")]
    closes_at = place.challenge.closes_at
    if closes_at is not None:
        lines.append(f"Open until {when(closes_at)}, {span(closes_at - time.time())} from now")
    if company.last is not None:
        lines.append(f"Last login {when(company.last[0])} from {printable(company.last[1], 40)}")
    if company.others:
        lines.append(_also_here(company.others))
    told = [*lines[:LINES], *_news([text for _, text in company.news])]
    told += _announced([line(severity, text) for severity, text in company.announced])
    return Greeting([line[:WIDTH] for line in told], company.news[0][0] if company.news else None)


def _news(texts: list[str]) -> list[str]:
    """The newest, and how many more there are; of two, both."""
    shown = texts if len(texts) <= NEWS else texts[: NEWS - 1]
    lines = [f"News: {printable(text, WIDTH - 7)}" for text in shown]
    if len(texts) > len(shown):
        lines.append(f"News: {len(texts) - len(shown)} more, on your page")
    return lines


def _announced(announcements: list[str]) -> list[str]:
    """The most urgent ones, and how many more there are."""
    lines = []
    for one in announcements[:TOLD]:
        lines += textwrap.wrap(one, WIDTH, max_lines=TOLD_LINES, placeholder=" … (more on your page)")
    if len(announcements) > TOLD:
        lines.append(f"{len(announcements) - TOLD} more announcements on your page")
    return lines


def _facts(place: Place) -> list[str]:
    facts = [place.workspace.ref]
    if place.version is not None:
        facts.append(f"from v{place.version}")
    if place.workspace.read_only:
        facts.append("read-only")
    if place.workspace.disk_bytes is not None:
        facts.append(f"{amount(place.workspace.disk_bytes)} on disk")
    return facts


def _joined(parts: list[str], separator: str) -> str:
    """As many of `parts`, the first in any case, as fit on a line."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + len(separator) + len(part) > WIDTH:
            break
        line += separator + part
    return line


def _also_here(names: list[str]) -> str:
    for shown in range(len(names), 0, -1):
        rest = f" and {len(names) - shown} more" if shown < len(names) else ""
        line = f"Also here: {', '.join(names[:shown])}{rest}"
        if len(line) <= WIDTH or shown == 1:
            break
    return line
