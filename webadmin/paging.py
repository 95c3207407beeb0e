"""Addresses of the same list in another order, of another page or search: all its state is in the query string."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from flask import request


def query(args: Mapping[str, object] | None = None, /, **changes: object) -> str:
    """`?…` of the page that is shown (or of `args`) with `changes`; None drops a name. Another order begins at page 1.

    It has no path, so that a fragment, which has an address of its own, links to the page that it is in.
    """
    if "sort" in changes:
        changes.setdefault("page", None)
    now: dict[str, object] = dict(args) if args is not None else dict(request.args.lists())
    merged = {name: value for name, value in {**now, **changes}.items() if value is not None}
    return "?" + urlencode(merged, doseq=True)
