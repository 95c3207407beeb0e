"""The sections of the site and who sees them.

account ─► navigation() ─► groups of entries, the current one marked ─► base.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import request, url_for

from webadmin import access, session
from webadmin.context import store
from webadmin.i18n import _
from workspaces.queries import Listed
from workspaces.rights import Right


@dataclass(frozen=True, slots=True)
class Section:
    """One entry: `endpoint` is its page, `also` are pages elsewhere that belong to it."""

    label: str
    endpoint: str
    right: Right | None = None
    also: tuple[str, ...] = ()
    badge: int = 0
    badge_title: str = ""
    url: str = ""
    current: bool = False


def navigation() -> list[list[Section]]:
    """The groups of sections of the signed-in person, each with its address; none is empty."""
    account = session.account()
    if account is None:
        return []
    groups = [_own()]
    if account.rights.is_staff:
        groups += [_now(), _things(), _record()]
    here = request.script_root + request.path
    shown = [found for group in groups if (found := [_placed(s) for s in group if _is_open(s)])]
    entries = [s for group in shown for s in group]
    current = next((s for s in entries if request.endpoint in s.also), None) or max(
        (s for s in entries if f"{here}/".startswith(f"{s.url.rstrip('/')}/")), key=lambda s: len(s.url), default=None
    )
    return [[replace(s, current=s is current) for s in group] for group in shown]


def _own() -> list[Section]:
    unread = 0 if request.endpoint == "me.page" else store().unread_news(session.me().name)
    return [
        Section(_("My workspace"), "me.page", badge=unread, badge_title=_("unread news")),
        Section(_("My account"), "account.page"),
    ]


def _now() -> list[Section]:
    waiting = 0 if request.endpoint == "admin.queue" else _waiting()
    of_queue = ("admin.snapshot", "admin.approve", "admin.reject")
    return [
        Section(_("Overview"), "admin.overview", Right.SEE),
        Section(_("Queue"), "admin.queue", Right.DECIDE, of_queue, waiting, _("requests that wait")),
        Section(_("Sessions"), "admin.sessions", Right.SEE),
    ]


def _waiting() -> int:
    """How many requests wait for the signed-in person."""
    return store().count_matching("state:requested", Listed.SNAPSHOTS, within=access.scope(Right.DECIDE))


def _things() -> list[Section]:
    return [
        Section(_("Workspaces"), "admin.workspaces", Right.SEE, ("admin.restore",)),
        Section(_("Users"), "admin.users", Right.USERS),
        Section(_("Challenges"), "admin.challenges", Right.SEE),
        Section(_("Images"), "admin.images", Right.IMAGES),
    ]


def _record() -> list[Section]:
    return [
        Section(_("Archive"), "admin.archive", Right.ARCHIVE),
        Section(_("Jobs"), "admin.jobs", Right.SEE),
        Section(_("Audit"), "admin.events", Right.AUDIT),
        Section(_("Announcements"), "admin.announcements", Right.TELL),
    ]


def _is_open(section: Section) -> bool:
    return section.right is None or access.may(section.right)


def _placed(section: Section) -> Section:
    return replace(section, url=url_for(section.endpoint))
