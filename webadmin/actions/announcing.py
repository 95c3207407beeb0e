"""Announcements as a form has them: what was typed becomes one, or an error that says what is wrong."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from webadmin.i18n import _
from workspaces.errors import InvalidInput
from workspaces.model import Announcement, Severity
from workspaces.names import check_message, check_moment, printable
from workspaces.store import Store
from workspaces.store.announcements import line

SHOWN = 200


@dataclass(frozen=True, slots=True)
class Draft:
    """An announcement that is not made yet; `challenge` None is for all."""

    text: str
    severity: Severity
    challenge: str | None
    from_at: float | None
    until_at: float | None

    @property
    def shown(self) -> Announcement:
        """As pages would show it."""
        now = time.time()
        return Announcement(0, self.text, self.severity, self.challenge, self.from_at or now, self.until_at, "", now)

    @property
    def line(self) -> str:
        """As terminals would."""
        return line(self.severity, self.text)

    def add(self, store: Store, *, actor: str) -> Announcement:
        """Announce it. InvalidInput, NotFound."""
        return store.add_announcement(
            self.text,
            self.severity,
            challenge=self.challenge,
            from_at=self.from_at,
            until_at=self.until_at,
            actor=actor,
        )


def told(store: Store, scope: Collection[str] | None, *, ended: bool) -> list[Announcement]:
    """Those to all and those of the challenges in `scope` (None: of every one), the latest first."""
    found = store.announcements(ended=ended, limit=SHOWN)
    return [one for one in found if one.challenge is None or scope is None or one.challenge in scope]


def text(typed: str) -> str:
    """What was typed, as it is announced. Raises InvalidInput."""
    return check_message(typed.replace("\r\n", "\n"), "announcement")


def draft(form: Mapping[str, str]) -> Draft:
    """What the form says: text, severity, challenge (empty: all), from and until (`2026-05-01T18:00`, UTC).

    InvalidInput for what cannot be announced.
    """
    said = text(form.get("text", ""))
    severity = form.get("severity", Severity.INFO)
    if severity not in list(Severity):
        raise InvalidInput(_("Say how urgent it is."))
    return Draft(said, Severity(severity), form.get("challenge") or None, _moment(form, "from"), _moment(form, "until"))


def _moment(form: Mapping[str, str], name: str) -> float | None:
    typed = form.get(name, "").strip()
    if not typed:
        return None
    try:
        moment = datetime.fromisoformat(typed)
        return check_moment((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, InvalidInput):
        shown = printable(typed, 40)
        raise InvalidInput(
            _("%(typed)s is not a date and time.", typed=shown), _("Write it as 2026-05-01T18:00, in UTC.")
        ) from None
