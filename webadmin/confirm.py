"""Confirming that it is still oneself, before something dangerous (`access.step_up`): password, code or passkey."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, make_response, redirect, render_template, request, url_for

from webadmin import access, auth, session
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.security import safe_next
from workspaces.errors import Refused, WorkspacesError

bp = Blueprint("confirm", __name__, url_prefix="/confirm")
bp.before_request(access.require_account)
bp.before_request(access.moved)


def ask(error: WorkspacesError | None = None) -> Any:
    """The page that asks; `error` is what was wrong with the last answer."""
    me = session.me()
    html = render_template(
        "confirm.html",
        next=safe_next(request.values.get("next")),
        passkeys=store().passkeys(me.name),
        recovery=store().recovery_codes_left(me.name),
        provider=parts().settings.oidc if store().identities(me.name) else None,
        error=error,
    )
    return auth.limited(make_response(html, error.http_status if error else 200), error)


def done() -> Any:
    """Confirmed: back to where it was asked for."""
    session.prove()
    return redirect(safe_next(request.values.get("next")) or url_for("start"))


@bp.get("")
def page() -> Any:
    return ask()


@bp.post("")
def answer() -> Any:
    """A password, or a code."""
    name, password, code = session.me().name, request.form.get("password", ""), request.form.get("code", "")
    try:
        right = auth.verify(name, password) is not None if password else auth.verify_code(name, code)
    except auth.NotNow as error:
        return ask(error)
    return done() if right else ask(Refused(_("That is not right."), _("Nothing was done yet.")))
