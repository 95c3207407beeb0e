"""Operations on the archive, on the base images and on what of them the worker has found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from webadmin.actions import archive as actions
from webadmin.actions import findings, images
from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input, Paging
from webadmin.api.models import Archive, Job, Moment, Out, Part, Snapshot
from webadmin.api.operations import Name, get, post
from webadmin.api.workspaces import confirm
from workspaces.model import JobKind
from workspaces.rights import Right
from workspaces.scopes import Scope

FOUND = {**actions.KINDS, "prune": JobKind.PRUNE}


class Look(Input):
    kind: Literal["usage", "verify", "gc"]
    """usage: count what it holds. verify: read every byte again. gc: look for what no version refers to."""


class Confirmed(Input):
    confirm: Annotated[str, StringConstraints(max_length=100)]
    """The word `archive`, to say that it is meant."""


class Pruned(Input):
    confirm: Annotated[str, StringConstraints(max_length=100)]
    """The challenge's name, to say that this one is meant."""


class LookAtImages(Input):
    image: Annotated[str, StringConstraints(max_length=255)] = ""
    """The id of one to look into; else all are noted as they are now."""


class ArchiveFinding(Out):
    """What a job about the archive found."""

    kind: str
    """usage, verify, gc or prune."""
    job_id: int
    at: Moment
    document: dict[str, Any]
    """Of usage: versions, bytes stored and what they would be alone. Of verify: blobs read, and those that are bad. Of
    gc: what nothing refers to, and whether it was `deleted`. Of prune: which versions went."""


class ImageFinding(Out):
    """One program that was looked for in an image."""

    name: str
    present: bool
    required: bool
    path: str
    loss: str
    """What does not work without it."""
    fix: str


class Image(Out):
    """A base image, as the worker saw it last."""

    id: str
    refs: list[str]
    size: int
    layers: int
    created_at: Moment
    seen_at: Moment
    checked_at: Moment | None
    """When it was looked into."""
    findings: list[ImageFinding]
    challenges: list[str]
    """Whose containers are made from it."""


@get("/archive")
def show_archive(caller: Caller) -> Archive:
    """Show how much the archive holds."""
    caller.check(Right.ARCHIVE)
    return Archive.model_validate(caller.store.archived())


@get("/archive/findings")
def list_archive_findings(caller: Caller) -> Part[ArchiveFinding]:
    """List what was found in the archive, the last of each kind."""
    caller.check(Right.ARCHIVE)
    latest = {name: findings.latest(caller.store, kind) for name, kind in FOUND.items()}
    return paging.part(
        ArchiveFinding(kind=name, job_id=found.job_id, at=found.at, document=dict(found.document))  # type: ignore[arg-type]
        for name, found in latest.items()
        if found is not None
    )


@post("/archive/look", Scope.ARCHIVE, 202)
def look_at_archive(caller: Caller, body: Look) -> Job:
    """Count the archive, read it again, or look for what no version refers to.

    None of it changes the archive; /archive/findings tells what was found.
    """
    caller.check(Right.ARCHIVE)
    return Job.of(actions.look(caller.store, body.kind, actor=caller.name))


@post("/archive/collect", Scope.ARCHIVE, 202)
def collect_archive(caller: Caller, body: Confirmed) -> Job:
    """Delete from the archive what no version refers to.

    409 until it was looked for (gc), so that it is known what goes.
    """
    caller.check(Right.ARCHIVE)
    confirm(body.confirm, actions.NAME)
    return Job.of(actions.collect(caller.store, actor=caller.name))


@get("/challenges/{slug}/prune", tag="archive")
def list_due(caller: Caller, slug: Name, query: Paging) -> Part[Snapshot]:
    """List the versions that the rules of a challenge do not keep.

    404 when its rules keep every one.
    """
    caller.check(Right.ARCHIVE)
    due = [version for version in actions.due(caller.store, slug) if version.id > query.after]
    more = len(due) > query.limit
    return paging.of(Snapshot, due[: query.limit], due[query.limit - 1].id if more else None)


@post("/challenges/{slug}/prune", Scope.ARCHIVE, 202, tag="archive")
def prune_archive(caller: Caller, slug: Name, body: Pruned) -> Job:
    """Remove the versions that the rules of a challenge do not keep; their records stay."""
    caller.check(Right.ARCHIVE)
    confirm(body.confirm, slug)
    return Job.of(actions.prune(caller.store, slug, actor=caller.name))


@get("/images")
def list_images(caller: Caller) -> Part[Image]:
    """List the base images, as the worker saw them last."""
    caller.check(Right.IMAGES)
    made = []
    for image, challenges in images.used(caller.store, caller.store.challenges()):
        fields = {name: getattr(image, name) for name in Image.model_fields if name != "challenges"}
        made.append(Image.model_validate({**fields, "challenges": [challenge.slug for challenge in challenges]}))
    return paging.part(made)


@post("/images/look", Scope.ARCHIVE, 202)
def look_at_images(caller: Caller, body: LookAtImages) -> Job:
    """Note the base images as they are now; or look into one, for what programs it has."""
    caller.check(Right.IMAGES)
    return Job.of(images.look(caller.store, body.image, actor=caller.name))
