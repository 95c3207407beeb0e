"""Keys and password."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, request, url_for

from webadmin import access, auth, session
from webadmin.actions import people
from webadmin.context import store
from webadmin.i18n import _
from webadmin.me.base import bp
from webadmin.me.page import show
from workspaces import accounts
from workspaces.errors import Conflict, InvalidInput, Refused


@bp.post("/keys")
@access.step_up
def add_key() -> Any:
    name = session.me().name
    try:
        people.add_key(store(), name, request.form.get("key", ""), actor=name)
    except (InvalidInput, Conflict) as error:
        return show(form="key", error=error)
    flash(_("The key is added. It works from now on."))
    return redirect(url_for(".page", _anchor="keys"))


@bp.post("/keys/<int:key_id>/remove")
def remove_key(key_id: int) -> Any:
    name = session.me().name
    people.remove_key(store(), name, key_id, actor=name)
    flash(_("The key is removed. Sessions that it opened go on; new ones need another."))
    return redirect(url_for(".page", _anchor="keys"))


@bp.post("/password")
def change_password() -> Any:
    """Another one by the current one; the first one, of who signs in otherwise, once he has confirmed that it is he."""
    me = session.me()
    user = me.user
    if not user.has_password and (answer := access.unproven()):
        return answer
    new = request.form.get("new", "")
    try:
        if new != request.form.get("again", ""):
            raise InvalidInput(_("The two new passwords differ."))
        accounts.check_password_rule(new)
        if user.has_password and auth.verify(user.name, request.form.get("current", "")) is None:
            raise Refused(_("The current password is wrong."))
        with auth.hashing():
            hashed = accounts.hash_password(new)
    except (InvalidInput, Refused) as error:
        return auth.limited(show(form="password", error=error), error)
    store().set_password_hash(user.name, hashed, actor=user.name)
    session.begin(store().user(user.name), me.sign_in.via)
    if user.has_password:
        flash(_("Your password is changed. You are signed out everywhere else."))
    else:
        flash(_("Your password is set. It is for these pages, and for ssh without a key."))
    return redirect(url_for(".page", _anchor="password"))
