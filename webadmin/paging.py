"""Addresses of the same list in another order, of another page or search: all its state is in the query string."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import request


def query(**changes: object) -> str:
    """`?…` of the page that is shown with `changes`; None drops a name. Another order begins at page 1.

    It has no path, so that a fragment, which has an address of its own, links to the page that it is in.
    """
    if "sort" in changes:
        changes.setdefault("page", None)
    merged = {name: value for name, value in {**dict(request.args.lists()), **changes}.items() if value is not None}
    return "?" + urlencode(merged, doseq=True)
