"""What a list's address asks for: `q`, `sort`, `page` and `size`, and the part of the list that it names.

What `q` says and nobody understands is the person's to mend: the page says so above a list of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flask import request

from webadmin.i18n import _
from workspaces.errors import InvalidInput
from workspaces.model import Page
from workspaces.queries import FIELDS, LENGTH_MAX, Listed
from workspaces.store.lists import Within

T = TypeVar("T")
SIZE = 50
SIZES = (25, 50, 100)  # lines of a page to choose from
NUMBER_MAX = 10**9


class Finder(Protocol[T]):
    """One of the store's `find_…`."""

    def __call__(self, q: str, *, sort: str, page: int, size: int, within: Within) -> Page[T]: ...


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A part of a list with what was asked; `error` is why there is nothing."""

    q: str
    page: Page[T]
    error: InvalidInput | None = None


def found(find: Finder[T], *, size: int = SIZE, always: str = "", sort: str = "", within: Within = None) -> Found[T]:
    """What the request's address asks `find` for; `always` is asked beside, `size` and `sort` without others."""
    q = request.args.get("q", "")[: LENGTH_MAX + 1]
    number, many = _number("page", 1), min(_number("size", size), SIZES[-1])
    asked = request.args.get("sort", sort)[:40]
    try:
        return Found(q, find(f"{q} {always}".strip(), sort=asked, page=number, size=many, within=within))
    except InvalidInput as error:
        return Found(q, Page((), 0, 1, many, sort), error)


def syntax(listed: Listed) -> list[tuple[str, str]]:
    """What can be typed into the search above a list, and what it finds."""
    return [(known.example, _(known.help)) for known in FIELDS[listed].values()]


def _number(name: str, default: int) -> int:
    text = request.args.get(name, "")
    return min(int(text), NUMBER_MAX) if text.isascii() and text.isdigit() and len(text) < 20 else default
