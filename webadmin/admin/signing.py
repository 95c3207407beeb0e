"""How a user gets in, on the user's page: role, invitation, second factors, accounts at the provider, sign-ins."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import access
from webadmin.actions import people
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _, ngettext
from workspaces.errors import InvalidInput
from workspaces.model import Role
from workspaces.rights import Right


def about(name: str) -> dict[str, Any]:
    """What templates/admin/_signing.html shows of `name`."""
    return {
        "rights": store().rights_of(name),
        "slugs": [challenge.slug for challenge in store().challenges()],
        "invitation": store().invitation_of(name),
        "passkeys": store().passkeys(name),
        "identities": store().identities(name),
        "sign_ins": store().sign_ins(name),
    }


def _back(name: str) -> Any:
    return redirect(url_for(".user", name=name, _anchor="signing"))


@bp.post("/users/<name>/invite")
@access.require(Right.USERS)
@access.step_up
def invite(name: str) -> Any:
    """Make an address with which the user sets a password, and show it, once."""
    address, made = people.invite(store(), name, actor=actor())
    return render_template("admin/invited.html", user=store().user(name), address=address, invitation=made)


@bp.post("/users/<name>/invite/withdraw")
@access.require(Right.USERS)
def withdraw_invitation(name: str) -> Any:
    store().withdraw_invitation(name, actor=actor())
    flash(_("The invitation is not good any more."))
    return _back(name)


@bp.post("/users/<name>/role")
@access.require(Right.USERS)
@access.step_up
def set_role(name: str) -> Any:
    """For the whole host, or in the challenge that the form names."""
    try:
        role = Role(request.form.get("role", ""))
    except ValueError:
        raise InvalidInput(_("There is no such role.")) from None
    people.give_role(store(), name, role, challenge=request.form.get("challenge", ""), actor=actor())
    flash(_("%(name)s has another role.", name=name))
    return _back(name)


@bp.post("/users/<name>/factors/remove")
@access.require(Right.USERS)
@access.step_up
def remove_factors(name: str) -> Any:
    """For who has lost telephone, passkeys and recovery codes: the password alone signs in again."""
    store().remove_factors(name, actor=actor())
    flash(_("%(name)s has no second factor any more, and is signed out.", name=name))
    return _back(name)


@bp.post("/users/<name>/sign-out")
@access.require(Right.USERS)
def sign_out(name: str) -> Any:
    count = store().end_sign_ins(name, actor=actor())
    flash(ngettext("Signed out in %(num)s browser.", "Signed out in %(num)s browsers.", count))
    return _back(name)


@bp.post("/users/<name>/provider/<int:identity_id>/unlink")
@access.require(Right.USERS)
@access.step_up
def unlink(name: str, identity_id: int) -> Any:
    store().unlink_identity(name, identity_id, actor=actor())
    flash(_("It does not sign in here any more."))
    return _back(name)
