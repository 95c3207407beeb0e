"""Operations on announcements: to all with the right of the host, to a challenge with its right TELL."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from webadmin.actions import announcing
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input
from webadmin.api.models import Part
from webadmin.api.operations import Id, Name, get, post
from webadmin.api.peoplemodels import Announcement
from workspaces.model import Severity
from workspaces.rights import Right
from workspaces.scopes import Scope


class AnnouncementsQuery(Input):
    ended: bool = False
    """Also those that are shown no more."""


class NewAnnouncement(Input):
    text: Annotated[str, StringConstraints(max_length=4000)]
    severity: Severity = Severity.INFO
    challenge: Name | None = None
    """To the people of this challenge; null: to everybody."""
    from_at: AwareDatetime | None = None
    """Shown from then on; null: at once."""
    until_at: AwareDatetime | None = None
    """null: until it is ended."""


@get("/announcements")
def list_announcements(caller: Caller, query: AnnouncementsQuery) -> Part[Announcement]:
    """List announcements to all, and to the challenges whose people you may tell something, the latest first."""
    caller.check(Right.TELL)
    return paging.of(Announcement, announcing.told(caller.store, caller.rights.scope(Right.TELL), ended=query.ended))


@post("/announcements", Scope.TELL, 201)
def announce(caller: Caller, body: NewAnnouncement) -> Announcement:
    """Announce something: on every page, at each login, and in open terminals."""
    _check(caller, body.challenge)
    begins, ends = (None if moment is None else moment.timestamp() for moment in (body.from_at, body.until_at))
    draft = announcing.Draft(announcing.text(body.text), body.severity, body.challenge, begins, ends)
    return Announcement.model_validate(draft.add(caller.store, actor=caller.name))


@post("/announcements/{announcement_id}/end", Scope.TELL)
def end_announcement(caller: Caller, announcement_id: Id) -> Announcement:
    """Show an announcement no more."""
    found = caller.store.announcement(announcement_id)
    _check(caller, found.challenge)
    return Announcement.model_validate(caller.store.end_announcement(found.id, actor=caller.name))


def _check(caller: Caller, challenge: str | None) -> None:
    if challenge is None:
        caller.check(Right.HOST)
    else:
        caller.check(Right.TELL, challenge)
