"""Parts of lists: from the store's lists by id to what is answered, with the address of the next part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request

from webadmin.api.models import Out, Part

Item = TypeVar("Item", bound=Out)


def part(items: Iterable[Item], after: int | None = None) -> Part[Any]:
    """A part of a list; `after` is the id to go on after, None at the end."""
    return Part[Any](items=list(items), next=None if after is None else _next(after))


def of(model: type[Item], things: Iterable[Any], after: int | None = None) -> Part[Any]:
    """The same of things of workspaces.model, as `model`."""
    make: Callable[[Any], Item] = getattr(model, "of", model.model_validate)
    return part([make(thing) for thing in things], after)


def _next(after: int) -> str:
    asked = {**request.args.to_dict(), "after": str(after)}
    return f"{request.script_root}{request.path}?{urlencode(asked)}"
