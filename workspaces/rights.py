"""Who may do what: rights, the roles that carry them, and roles in single challenges. Pure rules.

    role of the account (everywhere) ─┐
                                      ├─► Rights.may(right, challenge)
    role in a challenge (there only) ─┘

| role        | everywhere on this host       | in one challenge (`user role NAME ROLE --challenge SLUG`)        |
|-------------|-------------------------------|------------------------------------------------------------------|
| participant | own workspaces only           | the same                                                         |
| reviewer    | SEE and DECIDE everywhere     | SEE and DECIDE there                                             |
| admin       | all                           | SEE, DECIDE, WORKSPACES, WATCH, TELL and CHALLENGE there         |

What concerns the host, such as accounts, images, the archive or what a challenge mounts, is not given for a challenge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from workspaces.model import Role


class Right(StrEnum):
    # of a challenge
    SEE = "see"  # its workspaces, versions, requests, jobs and who is on
    DECIDE = "decide"  # on requests: approve, reject, look again
    WORKSPACES = "workspaces"  # start, stop, reset, restore, members, limits of one; retry and cancel jobs
    WATCH = "watch"  # what people do in their sessions, live and recorded; ending sessions
    TELL = "tell"  # messages and announcements to its people
    CHALLENGE = "challenge"  # its limits, dates and rules; freeze and thaw
    # of the host
    USERS = "users"  # accounts, roles, invitations
    CHALLENGES = "challenges"  # add some, and what of one concerns the host: image, mounts, network
    IMAGES = "images"
    ARCHIVE = "archive"
    AUDIT = "audit"  # the record of who did what
    HOST = "host"  # its load and health, settings, webhooks, announcements to all


OF_CHALLENGE = frozenset({Right.SEE, Right.DECIDE, Right.WORKSPACES, Right.WATCH, Right.TELL, Right.CHALLENGE})
CARRIED: Mapping[Role, frozenset[Right]] = {
    Role.PARTICIPANT: frozenset(),
    Role.REVIEWER: frozenset({Right.SEE, Right.DECIDE}),
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What one account may do beside using its own workspaces; `challenges` are its roles there, by slug."""

    role: Role = Role.PARTICIPANT
    challenges: Mapping[str, Role] = field(default_factory=dict)

    def may(self, right: Right, challenge: str | None = None) -> bool:
        """Whether `right` holds in `challenge`; without one, whether it holds anywhere at all.

        Rights of the host hold everywhere or nowhere, whichever challenge is named.
        """
        right = Right(right)
        if right in CARRIED[self.role]:
            return True
        if right not in OF_CHALLENGE:
            return False
        if challenge is None:
            return any(right in CARRIED[role] for role in self.challenges.values())
        return right in CARRIED[self.challenges.get(challenge, Role.PARTICIPANT)]

    def scope(self, right: Right) -> frozenset[str] | None:
        """The challenges in which `right` holds, by slug; None for all there are, with those to come."""
        if right in CARRIED[self.role]:
            return None
        return frozenset(slug for slug in self.challenges if self.may(right, slug))

    @property
    def is_staff(self) -> bool:
        """Whether there is anything to see beside the own page."""
        return self.may(Right.SEE)

    @property
    def powerful(self) -> Role:
        """The greatest role held anywhere: what rules about signing in go by."""
        held = {self.role, *self.challenges.values()}
        return next(role for role in (Role.ADMIN, Role.REVIEWER, Role.PARTICIPANT) if role in held)
