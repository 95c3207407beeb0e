"""Dangerous actions ask for the name of what they hit to be typed; macro `danger` is the form."""

from __future__ import annotations

from flask import request

from webadmin.i18n import _
from workspaces.errors import InvalidInput


def check(name: str) -> None:
    """Raise InvalidInput unless the form says `name`; the page is shown again with the error then."""
    if typed().strip() != name:
        raise InvalidInput(_("That is not the name."), _("Type %(name)s; nothing was done yet.", name=name))


def typed() -> str:
    """What was typed, for the form that comes back."""
    return request.form.get("typed", "")[:200]
