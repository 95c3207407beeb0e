"""How values look on a page: template filters for times, sizes, counts and untrusted names."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from flask import Flask
from markupsafe import Markup, escape

from webadmin.i18n import N_, _, ngettext
from workspaces.commands import shown_command
from workspaces.jobtext import again, condition, pace, percent
from workspaces.model import Change
from workspaces.names import amount, printable, span

MINUTE, HOUR, DAY = 60, 3600, 86400
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
MONTHS = (
    *(N_("January"), N_("February"), N_("March"), N_("April"), N_("May"), N_("June")),
    *(N_("July"), N_("August"), N_("September"), N_("October"), N_("November"), N_("December")),
)
WORDS = frozenset(
    (
        # of workspaces, snapshots, jobs and accounts
        *(N_("absent"), N_("starting"), N_("running"), N_("stopped"), N_("failed"), N_("disabled")),
        *(N_("requested"), N_("approved"), N_("committing"), N_("committed"), N_("archived")),
        *(N_("rejected"), N_("withdrawn"), N_("queued"), N_("done"), N_("cancelled"), N_("cancelling"), N_("stalled")),
        N_("waiting"),
        # kinds of jobs
        *(N_("inspect"), N_("commit"), N_("archive"), N_("push"), N_("sbom"), N_("restore"), N_("start"), N_("stop")),
        *(N_("restart"), N_("reset"), N_("remove"), N_("freeze"), N_("thaw")),
        # roles, what changed
        *(N_("participant"), N_("reviewer"), N_("admin"), N_("added"), N_("changed"), N_("removed")),
    )
)


def install(app: Flask) -> None:
    said = (ago, exact, amount, count, plural, shown, sign, sign_of, percent, condition, pace, again, word, span, stamp)
    for function in said:
        app.jinja_env.filters[function.__name__] = function
    app.jinja_env.filters["command"] = shown_command
    app.jinja_env.filters["browser"] = browser_name
    app.jinja_env.globals["ago_words"] = ago_words


def browser_name(agent: str) -> str:
    """`Firefox 140 on Linux`: what a browser says of itself, as far as that can be told; else its beginning."""
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    for mark, name in _BROWSERS:
        if found := re.search(rf"(?<![A-Za-z]){mark}/([0-9]{{1,4}})", agent):
            return f"{name} {found[1]} on {system}" if system else f"{name} {found[1]}"
    return printable(agent, 60) or "?"


def _past(seconds: float) -> str:
    if seconds < HOUR:
        return ngettext("%(num)s min ago", "%(num)s min ago", int(seconds // MINUTE))
    if seconds < DAY:
        return ngettext("%(num)s h ago", "%(num)s h ago", int(seconds // HOUR))
    if seconds < 30 * DAY:
        return ngettext("%(num)s day ago", "%(num)s days ago", int(seconds // DAY))
    if seconds < 365 * DAY:
        return ngettext("%(num)s month ago", "%(num)s months ago", int(seconds // (30 * DAY)))
    return ngettext("%(num)s year ago", "%(num)s years ago", int(seconds // (365 * DAY)))


def _future(seconds: float) -> str:
    if seconds < HOUR:
        return ngettext("in %(num)s min", "in %(num)s min", int(seconds // MINUTE))
    if seconds < DAY:
        return ngettext("in %(num)s h", "in %(num)s h", int(seconds // HOUR))
    if seconds < 30 * DAY:
        return ngettext("in %(num)s day", "in %(num)s days", int(seconds // DAY))
    if seconds < 365 * DAY:
        return ngettext("in %(num)s month", "in %(num)s months", int(seconds // (30 * DAY)))
    return ngettext("in %(num)s year", "in %(num)s years", int(seconds // (365 * DAY)))


def ago_words(seconds: int) -> str:
    """How `_past` (or `_future`, below 0) says such a distance, with %(num)s for the number, for the page's script."""
    several = 5  # of minutes and hours, which languages rarely decline
    words = {
        MINUTE: ("%(num)s min ago", "%(num)s min ago"),
        HOUR: ("%(num)s h ago", "%(num)s h ago"),
        -MINUTE: ("in %(num)s min", "in %(num)s min"),
        -HOUR: ("in %(num)s h", "in %(num)s h"),
    }
    return ngettext(*words[seconds], several, num="%(num)s")


def ago(at: float | None, never: str | None = None) -> Markup | str:
    """A moment relative to now, to the minute, with the exact one on hover; `never` for None."""
    if at is None:
        return _("never") if never is None else never
    moment = datetime.fromtimestamp(at, UTC)
    passed = time.time() - at
    if abs(passed) < MINUTE:
        text = _("just now") if passed >= 0 else _("in a moment")
    else:
        text = _past(passed) if passed > 0 else _future(-passed)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(timespec="seconds").replace("+00:00", "Z"), exact(at), text
    )


def exact(at: float) -> str:
    """`1 May 2026, 18:00:05 UTC`."""
    moment = datetime.fromtimestamp(at, UTC)
    return _(
        "%(day)s %(month)s %(year)s, %(time)s UTC",
        day=moment.day,
        month=_(MONTHS[moment.month - 1]),
        year=moment.year,
        time=f"{moment:%H:%M:%S}",
    )


def stamp(at: float, seconds: int) -> str:
    """The beginning of a part of time that is so long, for a table: `23 Nov 14:00`, of whole days `23 Nov`; UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    day = f"{moment.day} {_(MONTHS[moment.month - 1])[:3]}"
    return day if seconds >= DAY else f"{day} {moment:%H:%M}"


def word(name: str) -> str:
    """A state, role or kind of job in the reader's language; anything else as it is."""
    return _(name) if name in WORDS else name


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`, in English only: use ngettext."""
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
        SIGNS.get(kind, "?"), escape(word(kind))
    )
