"""What a person is told who cannot get into a workspace: the challenge is not open, or the container did not start.

Of a failed start participants read which kind of failure it was, and nothing of the host's inner workings.
"""

from __future__ import annotations

from datetime import UTC, datetime

from workspaces.errors import (
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    NoSpace,
    Refused,
    StoreError,
    WorkspacesError,
)
from workspaces.model import Challenge, FreezeMode, Workspace


def check_open(challenge: Challenge, now: float, *, read_only: bool = False) -> None:
    """Raise Refused, with the date, before the challenge opens, once it closed, and while it is frozen.

    A workspace that was made `read_only` with its challenge is open for reading. `now`: seconds since the epoch.
    """
    if challenge.opens_at is not None and now < challenge.opens_at:
        raise Refused(f"The challenge {challenge.slug} opens on {_date(challenge.opens_at)}.")
    if challenge.frozen is FreezeMode.READ_ONLY and read_only:
        return
    if challenge.closes_at is not None and now >= challenge.closes_at:
        raise Refused(
            f"The challenge {challenge.slug} closed on {_date(challenge.closes_at)}.",
            "Your files and versions are kept; ask the organisers for what you need of them.",
        )
    if challenge.frozen is FreezeMode.STOP:
        raise Refused(
            f"The organisers have frozen the challenge {challenge.slug}.",
            "Your files and versions are kept; log in again when they go on.",
        )
    if challenge.frozen is FreezeMode.READ_ONLY:
        raise Refused(
            f"The organisers are freezing the challenge {challenge.slug}, and your workspace is not ready yet.",
            "It can be read afterwards: log in again in a few minutes. If it stays so, tell the organisers.",
        )


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d at %H:%M UTC")


def no_image(workspace: Workspace, image: str) -> EngineError:
    if workspace.image is None:
        return ForAll(
            f"The image {image} of challenge {workspace.challenge} is not on this host.",
            f"An administrator can add it: workspaces image build {image}, or workspaces image add",
        )
    return ForAll(
        f"The image {image}, which {workspace.ref} was restored from, is not on this host.",
        f"An administrator can restore it again, or give up its files: workspaces reset {workspace.ref}",
    )


class ForAll(EngineError):
    """An EngineError that is for everybody's eyes already."""


def for_people(workspace: Workspace, exc: Exception) -> WorkspacesError:
    """What a participant reads of a failed start: which kind of failure, and nothing of the host's inner workings."""
    ref = workspace.ref
    hint = f"An administrator can see the reason with: workspaces show {ref}"
    if isinstance(exc, ForAll):
        return EngineError(exc.message, exc.hint)
    if isinstance(exc, EngineUnavailable):
        return EngineUnavailable(
            f"{ref} cannot be started: the container engine does not answer.", "Try again in a minute."
        )
    if isinstance(exc, EngineTimeout):
        return EngineTimeout(f"{ref} did not start in time.", f"Try again. {hint}")
    if isinstance(exc, NoSpace):
        return NoSpace(f"{ref} cannot be started: the host's disk is full.", "Tell an administrator.")
    if isinstance(exc, StoreError):
        return exc
    return EngineError(f"{ref} could not be started.", hint)
