"""Base images, as the worker saw them last, and having it look again. Pages and API share it."""

from __future__ import annotations

from collections.abc import Sequence

from workspaces.model import BaseImage, Challenge, Job, JobKind
from workspaces.store import Store


def is_image(name: str, refs: tuple[str, ...]) -> bool:
    """Whether an image with these references is the one that `name` means to the engine."""
    last = name.rpartition("/")[2]
    return (name if ":" in last else f"{name}:latest") in refs


def used(store: Store, challenges: Sequence[Challenge]) -> list[tuple[BaseImage, list[Challenge]]]:
    """Each image with those of `challenges` whose containers are made from it."""
    return [(image, [c for c in challenges if is_image(c.image, image.refs)]) for image in store.base_images()]


def look(store: Store, image: str, *, actor: str) -> Job:
    """Have the images noted as they are now; with `image`, an id, have that one looked into. Raises NotFound."""
    arguments = {"image": store.base_image(image).id} if image else {}
    return store.add_job(JobKind.IMAGES, actor=actor, arguments=arguments)
