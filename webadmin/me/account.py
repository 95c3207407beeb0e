"""Keys and password."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, request, url_for

from webadmin import auth, session
from webadmin.actions import people
from webadmin.context import store
from webadmin.i18n import _
from webadmin.me.base import bp
from webadmin.me.page import show
from workspaces import accounts
from workspaces.errors import Conflict, InvalidInput, Refused


@bp.post("/keys")
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
    user = session.me().user
    new = request.form.get("new", "")
    try:
        if new != request.form.get("again", ""):
            raise InvalidInput(_("The two new passwords differ."))
        hashed = accounts.hash_password(new)
        if auth.verify(user.name, request.form.get("current", "")) is None:
            raise Refused(_("The current password is wrong."))
    except (InvalidInput, Refused) as error:
        return show(form="password", error=error)
    store().set_password_hash(user.name, hashed, actor=user.name)
    session.begin(store().user(user.name))
    flash(_("Your password is changed. You are signed out everywhere else."))
    return redirect(url_for(".page", _anchor="password"))
