"""How values look on a page: template filters for times, sizes, counts and untrusted names."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from flask import Flask
from markupsafe import Markup, escape

from webadmin.actions.challenges import typed_size
from webadmin.i18n import _, ngettext
from webadmin.words import MONTHS, word
from workspaces.commands import shown_command
from workspaces.jobtext import condition, measures, percent
from workspaces.model import Job
from workspaces.names import amount, printable

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


def install(app: Flask) -> None:
    said = (ago, exact, amount, count, shown, sign_of, percent, condition, pace, again, word, span, stamp)
    for function in said:
        app.jinja_env.filters[function.__name__] = function
    app.jinja_env.filters["command"] = shown_command
    app.jinja_env.filters["lines"] = lines
    app.jinja_env.filters["typed_size"] = typed_size
    app.jinja_env.filters["browser"] = browser_name
    app.jinja_env.globals["ago_words"] = ago_words


def browser_name(agent: str) -> str:
    """`Firefox 140 on Linux`: what a browser says of itself, as far as that can be told; else its beginning."""
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    for mark, name in _BROWSERS:
        if found := re.search(rf"(?<![A-Za-z]){mark}/([0-9]{{1,4}})", agent):
            known = f"{name} {found[1]}"
            return _("%(browser)s on %(system)s", browser=known, system=system) if system else known
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
    # put together by hand: there are some on every line of every list
    return Markup(f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}" title="{escape(exact(at))}">{escape(text)}</time>')  # noqa: S704


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


def span(seconds: float) -> str:
    """A length of time in its two largest units: `2 h`, `1 day 6 h`, `4 min 30 s`."""
    rest = max(0, round(seconds))
    days, hours, minutes = rest // DAY, rest % DAY // HOUR, rest % HOUR // MINUTE
    said = (
        (days, ngettext("%(num)s day", "%(num)s days", days)),
        (hours, _("%(num)s h", num=hours)),
        (minutes, _("%(num)s min", num=minutes)),
        (rest % MINUTE, _("%(num)s s", num=rest % MINUTE)),
    )
    first = next((place for place, (number, _words) in enumerate(said) if number), len(said) - 1)
    return " ".join(words for place, (number, words) in enumerate(said[first : first + 2]) if number or not place)


def stamp(at: float, seconds: int) -> str:
    """The beginning of a part of time that is so long, for a table: `2026-11-23 14:00`, of whole days the date; UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%d}" if seconds >= DAY else f"{moment:%Y-%m-%d %H:%M}"


def pace(job: Job) -> str:
    """`1.2 of 2.0 GiB, about 40 s left`, as far as it is known; empty else."""
    done, whole, left = measures(job)
    if not whole:
        return ""
    if not left:
        return _("%(done)s of %(whole)s", done=done, whole=whole)
    return _("%(done)s of %(whole)s, about %(time)s left", done=done, whole=whole, time=left)


def again(job: Job) -> str:
    """When it is tried again, or behind which job it waits; empty for one that waits for neither."""
    if job.retry_at is None:
        return _("waits behind job %(id)s", id=job.behind) if job.behind is not None else ""
    if job.retry_at > time.time():
        when = _("tried again at %(time)s", time=time.strftime("%H:%M:%S UTC", time.gmtime(job.retry_at)))
    else:
        when = _("tried again as soon as there is a place")
    if not job.waits_for:
        return when
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(job.waits_since or job.created_at))
    return _("waits for the %(what)s since %(time)s, %(when)s", what=word(job.waits_for), time=since, when=when)


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def shown(text: str, limit: int = 400) -> str:
    """A file name or comment from a container, with what could disguise it written out."""
    return printable(text, limit)


def lines(text: str) -> str:
    """A text of several lines, each made safe, for an element that keeps line breaks."""
    return "\n".join(printable(line.replace("\t", "    "), 1000) for line in text.split("\n"))


def sign_of(kind: str) -> Markup:
    """+, ~ or − for added, changed or removed, which a screen reader reads as the word."""
    return Markup('<span aria-hidden="true">{}</span><span class="unseen">{}</span>').format(
        SIGNS.get(kind, "?"), escape(word(kind))
    )
