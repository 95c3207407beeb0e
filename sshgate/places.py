"""Which workspace a login is for: `alice` has one, `alice+als`, `alice+team` and `alice+als/team` pick one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from workspaces.errors import Conflict, NotFound, Refused
from workspaces.model import Challenge, Workspace
from workspaces.names import printable
from workspaces.refusals import check_open
from workspaces.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session goes. `version`: of the snapshot that the workspace was restored from or last taken as."""

    user: str
    workspace: Workspace
    challenge: Challenge
    version: int | None


def find(store: Store, user_name: str, wanted: str | None, challenges: frozenset[str] | None) -> Place:
    """The place of a person who is authenticated as `user_name`. Blocks on the store.

    `challenges` are those that the login lets into, None is all. Raises Refused (account disabled, challenge not
    open or not this certificate's), NotFound or Conflict with the choices.
    """
    user = store.find_user(user_name)
    if user is None or user.disabled:
        raise Refused("This account is disabled.", "The organisers can tell you why.")
    workspace = choose(user.name, within(store.workspaces_of(user.name), wanted, challenges), wanted)
    challenge = store.challenge(workspace.challenge)
    check_open(challenge, time.time(), read_only=workspace.read_only)
    if workspace.read_only:
        challenge = replace(challenge, closes_at=None)  # nothing can be worked on any more, so nobody is sent away
    version = store.snapshot(workspace.parent_id).version if workspace.parent_id is not None else None
    return Place(user.name, workspace, challenge, version)


def within(workspaces: list[Workspace], wanted: str | None, challenges: frozenset[str] | None) -> list[Workspace]:
    """Those in `challenges`. Raises Refused when only others are meant by `wanted`."""
    if challenges is None:
        return workspaces
    inside = [workspace for workspace in workspaces if workspace.challenge in challenges]
    meant = [w for w in workspaces if wanted in (None, w.ref, w.name, w.challenge)]
    if meant and not any(workspace in inside for workspace in meant):
        raise Refused(
            f"Your certificate is for the challenge {' or '.join(sorted(challenges))} only.",
            "Log in to your other workspaces with a key, a password or a certificate for theirs.",
        )
    return inside


def choose(user: str, workspaces: list[Workspace], wanted: str | None) -> Workspace:
    """The one that is meant by `wanted`: a reference, a name, or the slug of a challenge."""
    if not workspaces:
        raise NotFound("You are in no workspace.", "The organisers add you to one.")
    if wanted is None:
        matches, meant = workspaces, "You are in several workspaces."
    else:
        shown = printable(wanted, 70)
        meant = f"{shown!r} may be several of your workspaces."
        matches = [w for w in workspaces if w.ref == wanted] or [
            w for w in workspaces if wanted in (w.name, w.challenge)
        ]
        if not matches:
            raise NotFound(f"You are in no workspace {shown!r}.", _choices(user, workspaces))
    if len(matches) > 1:
        raise Conflict(meant, _choices(user, matches))
    return matches[0]


def _choices(user: str, workspaces: list[Workspace]) -> str:
    lines = [f"  ssh {user}+{workspace.ref}@…" for workspace in sorted(workspaces, key=lambda w: w.ref)]
    return "\n".join(["Log in as:", *lines])
