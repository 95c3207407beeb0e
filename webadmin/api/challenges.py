"""Operations on challenges.

What of a challenge concerns the host (its image, mounts, network) takes the right CHALLENGES; its limits, dates and
rules take CHALLENGE, which may hold in that challenge alone.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints

from webadmin.actions import challenges as actions
from webadmin.api import paging
from webadmin.api.auth import NOTHING, Caller
from webadmin.api.challengemodels import Challenge, Freeze
from webadmin.api.inputs import Cores, Input, Memory, Processes
from webadmin.api.models import Out, Part
from webadmin.api.operations import Id, Name, get, patch, post
from webadmin.api.workspaces import confirm
from workspaces import model
from workspaces.errors import InvalidInput, NotFound
from workspaces.model import Forwarding, FreezeMode, Network, Recorded, Sbom
from workspaces.rights import Right
from workspaces.scopes import Scope

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
    cpus: Cores | None = None
    memory: Memory | None = None
    pids: Processes | None = None
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
    record: Recorded | None = None
    """terminals: what they show is recorded, which people are told."""


class Change(Changes):
    apply: bool = False
    """Give the limits to containers that exist, too, at once."""


class NewChallenge(Changes):
    slug: Name
    image: Short
    """The base image; it may come to this host later."""


class FreezeBody(Input):
    confirm: Short
    """The challenge's name, to say that this one is meant."""
    mode: FreezeMode = FreezeMode.COMMIT
    """commit: take a version of each. stop: and stop them. read-only: and let people read, not change, them."""


class Thawed(Challenge):
    """The challenge, and what the worker does now."""

    made_writable: int
    """Workspaces that it makes writable again."""


class Figures(Out):
    """What there is of a challenge now, and so what freezing it would meet."""

    workspaces: int
    running: int
    on: int
    """Workspaces with somebody on."""
    requests: int
    """That wait for a decision."""
    versions: int


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
    given = {name: value for name, value in _given(body, None).items() if name != "slug"}
    return Challenge.model_validate(caller.store.add_challenge(body.slug, **given, actor=caller.name))


@patch("/challenges/{slug}", Scope.CHALLENGES)
def set_challenge(caller: Caller, slug: Name, body: Change) -> Challenge:
    """Change a challenge.

    Containers that exist keep what they were made with until they are reset; with `apply` they get the limits now.
    """
    found = _challenge(caller, slug, Right.CHALLENGE)
    given = _given(body, found)
    if given.keys() & set(actions.OF_HOST):
        caller.check(Right.CHALLENGES)
    if given or body.apply:
        actions.change(caller.store, slug, given, apply_limits=body.apply, actor=caller.name)
    return Challenge.model_validate(caller.store.challenge(slug))


@get("/challenges/{slug}/figures")
def show_figures(caller: Caller, slug: Name) -> Figures:
    """Show what there is of a challenge now, and so what freezing it would meet."""
    return Figures.model_validate(actions.preview(caller.store, _challenge(caller, slug, Right.SEE)))


@post("/challenges/{slug}/freeze", Scope.CHALLENGES, 202)
def freeze_challenge(caller: Caller, slug: Name, body: FreezeBody) -> Freeze:
    """Commit every workspace of a challenge that changed since its last version.

    With stop and read-only open sessions end. What is answered says how far each workspace is.
    """
    _challenge(caller, slug, Right.CHALLENGE)
    confirm(body.confirm, slug)
    return _freeze(caller, caller.store.begin_freeze(slug, body.mode, actor=caller.name))


@post("/challenges/{slug}/thaw", Scope.CHALLENGES)
def thaw_challenge(caller: Caller, slug: Name) -> Thawed:
    """Let people work again in a challenge that is frozen. Versions stay."""
    _challenge(caller, slug, Right.CHALLENGE)
    count = caller.store.thaw(slug, actor=caller.name)
    return Thawed(**Challenge.model_validate(caller.store.challenge(slug)).model_dump(), made_writable=count)


@get("/challenges/{slug}/freezes")
def list_freezes(caller: Caller, slug: Name) -> Part[Freeze]:
    """List the freezings of a challenge with what became of each workspace, the latest ten."""
    _challenge(caller, slug, Right.SEE)
    return paging.part([_freeze(caller, one) for one in caller.store.freezes(slug)[:10]])


@get("/challenges/{slug}/freezes/{freeze_id}")
def show_freeze(caller: Caller, slug: Name, freeze_id: Id) -> Freeze:
    """Show one freezing of a challenge, with how far each workspace is."""
    _challenge(caller, slug, Right.SEE)
    found = caller.store.freeze(freeze_id)
    if found.challenge != slug:
        raise NotFound(NOTHING)
    return _freeze(caller, found)


def _challenge(caller: Caller, slug: str, right: Right) -> model.Challenge:
    if not caller.may(Right.SEE, slug):
        raise NotFound(NOTHING)
    caller.check(right, slug)
    return caller.store.challenge(slug)


def _given(body: Changes, before: model.Challenge | None) -> dict[str, Any]:
    """What the body says, by the store's names. Raises InvalidInput for a null where there must be something."""
    given = {name: getattr(body, name) for name in body.model_fields_set if name != "apply"}
    for name, value in given.items():
        if value is None and name not in NULLABLE:
            raise InvalidInput(f"{name} cannot be null.", "Leave it out to keep it as it is.")
    for name in ("opens_at", "closes_at"):
        if given.get(name) is not None:
            given[name] = given[name].timestamp()
    if "mounts" in given:
        lines = [f"{mount.source}:{mount.target}" for mount in given["mounts"]]
        given["mounts"] = actions.read_mounts(lines, before.mounts if before else ())
    own = {name: given.pop(name) for name in ("cpus", "memory", "pids") if name in given}
    if own:
        limits = before.limits if before else model.Limits()
        given["limits"] = model.Limits(
            own.get("cpus", limits.cpus), own.get("memory", limits.memory), own.get("pids", limits.pids)
        )
    return given


def _freeze(caller: Caller, freeze: model.Freeze) -> Freeze:
    fields = {name: getattr(freeze, name) for name in Freeze.model_fields if name != "workspaces"}
    return Freeze.model_validate({**fields, "workspaces": caller.store.frozen(freeze.id)})
