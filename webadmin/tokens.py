"""API tokens on the account's page: made, listed, removed."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for

from webadmin import access, session
from webadmin.actions import people
from webadmin.context import store
from webadmin.i18n import _
from workspaces import apitokens
from workspaces.errors import Conflict, InvalidInput, Refused
from workspaces.scopes import SCOPES, offered

bp = Blueprint("tokens", __name__, url_prefix="/account/tokens")
bp.before_request(access.require_login)


def shown() -> dict[str, Any]:
    """What the account's page needs for its part about tokens."""
    rights = session.me().rights
    return {
        "tokens": store().tokens(session.me().name),
        "scopes": {scope: SCOPES[scope] for scope in offered(rights)},
        "days": apitokens.DAYS,
    }


@bp.get("")
def page() -> Any:
    return render_template("account/tokens.html", **shown(), secret=None, error=None, typed={})


@bp.post("")
@access.step_up
def add() -> Any:
    """Make one. Its secret is in this answer and nowhere else."""
    name, form = session.me().name, request.form
    text = form.get("days", "")
    days = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    try:
        _token, secret = apitokens.make(
            store(), name, form.get("name", "").strip(), form.getlist("scope"), days, actor=name
        )
    except (InvalidInput, Refused, Conflict) as error:
        html = render_template("account/tokens.html", **shown(), secret=None, error=error, typed=form)
        return html, error.http_status
    return render_template("account/tokens.html", **shown(), secret=secret, error=None, typed={})


@bp.post("/<int:token_id>/remove")
def remove(token_id: int) -> Any:
    people.remove_token(store(), session.me().name, token_id, actor=session.me().name)
    flash(_("The token is removed. It works no more."))
    return redirect(url_for(".page"))
