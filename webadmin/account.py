"""The page about one's own account: how one signs in, and where one is signed in."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for

from webadmin import access, session
from webadmin.context import store
from webadmin.i18n import _, ngettext

bp = Blueprint("account", __name__, url_prefix="/account")
bp.before_request(access.require_login)


@bp.get("")
def page() -> Any:
    name = session.me().name
    return render_template("account/page.html", sign_ins=store().sign_ins(name), here=session.me().sign_in.id)


@bp.post("/sign-ins/<int:sign_in_id>/end")
def end_sign_in(sign_in_id: int) -> Any:
    name = session.me().name
    here = sign_in_id == session.me().sign_in.id
    store().end_sign_in(name, sign_in_id, actor=name)
    if here:
        session.end()
        flash(_("You are signed out."))
        return redirect(url_for("auth.login"))
    flash(_("That browser is signed out."))
    return redirect(url_for(".page", _anchor="sign-ins"))


@bp.post("/sign-ins/end")
def end_sign_ins() -> Any:
    """Sign out everywhere but here."""
    me = session.me()
    count = store().end_sign_ins(me.name, but=me.sign_in.id, actor=me.name)
    flash(ngettext("%(num)s other browser is signed out.", "%(num)s other browsers are signed out.", count))
    return redirect(url_for(".page", _anchor="sign-ins"))
