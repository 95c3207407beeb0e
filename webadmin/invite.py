"""Invitations: who has the address sets the first password, or links a sign-in with the provider; once."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for

from webadmin import auth, oidc
from webadmin.context import parts, store
from webadmin.i18n import _
from workspaces import accounts, recovery
from workspaces.errors import InvalidInput, NotFound, WorkspacesError
from workspaces.model import Invitation

bp = Blueprint("invite", __name__, url_prefix="/invite")

TOKEN_MAX = 200


def _found(token: str) -> Invitation:
    """The invitation. Raises NotFound, TooManyTries."""
    throttle, address = parts().throttle, request.remote_addr or "?"
    if wait := throttle.take_address(address):
        raise auth.TooManyTries(wait)
    found = store().find_invitation(recovery.digest(token)) if len(token) <= TOKEN_MAX else None
    if found is None:
        raise NotFound(
            _("This invitation is not good any more."),
            _("It may have been used, or be too old. Ask who sent it for another one."),
        )
    throttle.give_back_address(address)
    return found


def _page(token: str, invitation: Invitation, error: WorkspacesError | None = None) -> Any:
    protected = store().has_second_factor(invitation.user)
    provider = None if protected else parts().settings.oidc
    html = render_template("invite.html", token=token, invitation=invitation, error=error, provider=provider)
    return auth.limited(make_response(html, error.http_status if error else 200), error)


@bp.get("/<token>")
def page(token: str) -> Any:
    """Looking uses nothing up: mail programs look, too."""
    return _page(token, _found(token))


@bp.post("/<token>")
def accept(token: str) -> Any:
    """Set the password, and sign in with it: who has a second factor needs that as well."""
    invitation = _found(token)
    password = request.form.get("new", "")
    try:
        if password != request.form.get("again", ""):
            raise InvalidInput(_("The two passwords differ."))
        with auth.hashing():
            user = accounts.accept_invitation(store(), token, password)
    except (InvalidInput, auth.NotNow) as error:
        return _page(token, invitation, error)
    protected = store().has_second_factor(user.name)
    answer = redirect(url_for("auth.login")) if protected else auth.enter(user, "invitation")
    flash(_("Your password is set. It is for these pages, and for ssh without a key."))
    if protected:
        flash(_("Sign in with it and your second factor."))
    return answer


@bp.get("/<token>/provider")
def with_provider(token: str) -> Any:
    """Link what one is at the provider, without a password."""
    _found(token)
    return oidc.ask_for_invitation(token)
