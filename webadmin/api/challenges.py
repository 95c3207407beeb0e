"""Operations on challenges, and the figures of the archive.

What of a challenge concerns the host (its image, mounts, network, the account inside) takes the right CHALLENGES; its
limits, dates and rules take CHALLENGE, which may hold in that challenge alone.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints

from webadmin.api import paging
from webadmin.api.auth import NOTHING, Caller
from webadmin.api.inputs import Input
from webadmin.api.models import Archive, Challenge, Freeze, Part
from webadmin.api.operations import Name, get, patch, post
from webadmin.api.workspaces import confirm
from workspaces import model
from workspaces.errors import InvalidInput, NotFound
from workspaces.model import Forwarding, FreezeMode, Network, Sbom
from workspaces.rights import Right
from workspaces.scopes import Scope

OF_HOST = frozenset({"image", "network", "mounts", "login_user"})
Short = Annotated[str, StringConstraints(max_length=255)]
Path = Annotated[str, StringConstraints(max_length=4096)]
Seconds = Annotated[float, Field(ge=60, le=1e9)]


class Mount(Input):
    source: Path
    """A directory of the host."""
    target: Path
    """Where it is seen, read-only, inside."""


class Changes(Input):
    """What is left out stays as it is."""

    image: Short | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    memory: Annotated[int, Field(ge=6 << 20, lt=1 << 60)] | None = None
    pids: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    network: Network | None = None
    mounts: Annotated[list[Mount], Field(max_length=50)] | None = None
    login_user: Annotated[str, StringConstraints(max_length=32)] | None = None
    forwarding: Annotated[list[Forwarding], Field(max_length=10)] | None = None
    opens_at: AwareDatetime | None = None
    """The first moment of logins; null: at once."""
    closes_at: AwareDatetime | None = None
    """The last moment of logins; null: never."""
    idle_seconds: Seconds | None = None
    """After which a session in which nothing moves ends; null: never."""
    session_seconds: Seconds | None = None
    """After which any session ends; null: never."""
    keep_last: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Versions of each workspace that are kept at least; null: all."""
    keep_submitted: bool | None = None
    auto_approve: Annotated[int, Field(ge=0, le=1000)] | None = None
    at_close: FreezeMode | None = None
    """What becomes of it at its closing time; null: nothing."""
    downloads: bool | None = None
    sbom: Sbom | None = None


class NewChallenge(Changes):
    slug: Name
    image: Short
    """The base image; it may come to this host later."""


class FreezeBody(Input):
    confirm: Short
    """The challenge's name, to say that this one is meant."""
    mode: FreezeMode = FreezeMode.COMMIT
    """commit: take a version of each. stop: and stop them. read-only: and let people read, not change, them."""


NULLABLE = frozenset({"opens_at", "closes_at", "idle_seconds", "session_seconds", "keep_last", "at_close"})


@get("/challenges")
def list_challenges(caller: Caller) -> Part[Challenge]:
    """List challenges, those that you may see."""
    caller.check(Right.SEE)
    within = caller.rights.scope(Right.SEE)
    return paging.of(Challenge, [c for c in caller.store.challenges() if within is None or c.slug in within])


@get("/challenges/{slug}")
def show_challenge(caller: Caller, slug: Name) -> Challenge:
    """Show a challenge."""
    return Challenge.model_validate(_challenge(caller, slug, Right.SEE))


@post("/challenges", Scope.CHALLENGES, 201)
def add_challenge(caller: Caller, body: NewChallenge) -> Challenge:
    """Add a challenge."""
    caller.check(Right.CHALLENGES)
    given = {name: value for name, value in _given(body, model.Limits()).items() if name != "slug"}
    return Challenge.model_validate(caller.store.add_challenge(body.slug, **given, actor=caller.name))


@patch("/challenges/{slug}", Scope.CHALLENGES)
def set_challenge(caller: Caller, slug: Name, body: Changes) -> Challenge:
    """Change a challenge.

    Containers that exist keep what they were made with until they are reset.
    """
    found = _challenge(caller, slug, Right.CHALLENGE)
    given = _given(body, found.limits)
    if given.keys() & OF_HOST:
        caller.check(Right.CHALLENGES)
    if not given:
        return Challenge.model_validate(found)
    return Challenge.model_validate(caller.store.set_challenge(slug, actor=caller.name, **given))


@post("/challenges/{slug}/freeze", Scope.CHALLENGES, 202)
def freeze_challenge(caller: Caller, slug: Name, body: FreezeBody) -> Freeze:
    """Commit every workspace of a challenge that changed since its last version.

    With stop and read-only open sessions end. What is answered says how far each workspace is.
    """
    _challenge(caller, slug, Right.CHALLENGE)
    confirm(body.confirm, slug)
    return _freeze(caller, caller.store.begin_freeze(slug, body.mode, actor=caller.name))


@post("/challenges/{slug}/thaw", Scope.CHALLENGES)
def thaw_challenge(caller: Caller, slug: Name) -> Challenge:
    """Let people work again in a challenge that is frozen. Versions stay."""
    _challenge(caller, slug, Right.CHALLENGE)
    caller.store.thaw(slug, actor=caller.name)
    return Challenge.model_validate(caller.store.challenge(slug))


@get("/challenges/{slug}/freezes")
def list_freezes(caller: Caller, slug: Name) -> Part[Freeze]:
    """List the freezings of a challenge with what became of each workspace, the latest ten."""
    _challenge(caller, slug, Right.SEE)
    return paging.part([_freeze(caller, one) for one in caller.store.freezes(slug)[:10]])


@get("/archive")
def show_archive(caller: Caller) -> Archive:
    """Show how much the archive holds."""
    caller.check(Right.ARCHIVE)
    return Archive.model_validate(caller.store.archived())


def _challenge(caller: Caller, slug: str, right: Right) -> model.Challenge:
    if not caller.may(Right.SEE, slug):
        raise NotFound(NOTHING)
    caller.check(right, slug)
    return caller.store.challenge(slug)


def _given(body: Changes, limits: model.Limits) -> dict[str, Any]:
    """What the body says, by the store's names. Raises InvalidInput for a null where there must be something."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    for name, value in given.items():
        if value is None and name not in NULLABLE:
            raise InvalidInput(f"{name} cannot be null.", "Leave it out to keep it as it is.")
    for name in ("opens_at", "closes_at"):
        if given.get(name) is not None:
            given[name] = given[name].timestamp()
    if "mounts" in given:
        given["mounts"] = tuple(model.Mount(mount.source, mount.target) for mount in given["mounts"])
    own = {name: given.pop(name) for name in ("cpus", "memory", "pids") if name in given}
    if own:
        given["limits"] = model.Limits(
            own.get("cpus", limits.cpus), own.get("memory", limits.memory), own.get("pids", limits.pids)
        )
    return given


def _freeze(caller: Caller, freeze: model.Freeze) -> Freeze:
    fields = {name: getattr(freeze, name) for name in Freeze.model_fields if name != "workspaces"}
    return Freeze.model_validate({**fields, "workspaces": caller.store.frozen(freeze.id)})
