"""The page about one's own account: how one signs in, and where one is signed in."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any, cast

import segno
from flask import Blueprint, current_app, flash, make_response, redirect, render_template, request, url_for
from markupsafe import Markup

from webadmin import access, session
from webadmin.context import parts, store
from webadmin.i18n import _, ngettext
from workspaces import accounts, totp
from workspaces.errors import Conflict, InvalidInput, WorkspacesError

bp = Blueprint("account", __name__, url_prefix="/account")
bp.before_request(access.require_account)


@bp.get("")
def page() -> Any:
    name = session.me().name
    return render_template(
        "account/page.html",
        sign_ins=store().sign_ins(name),
        here=session.me().sign_in.id,
        passkeys=store().passkeys(name),
        left=store().recovery_codes_left(name),
        identities=store().identities(name),
        provider=parts().settings.oidc,
    )


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


def check_other_way(*, passkey: int = 0, identity: int = 0) -> None:
    """Raise Conflict when nothing but that passkey or account at the provider signs the person in to the pages."""
    me, provider = session.me(), parts().settings.oidc
    passkeys = any(one.id != passkey for one in store().passkeys(me.name))
    known = [one for one in store().identities(me.name) if provider is not None and one.issuer == provider.issuer]
    if not (me.user.has_password or passkeys or any(one.id != identity for one in known)):
        raise Conflict(_("Nothing else signs you in to these pages."), _("Set a password first, on your own page."))


# one-time codes


def _pending() -> str:
    """The secret that is offered in this sign-in: the same at each look, and nowhere kept until it is taken."""
    me = session.me()
    said = f"totp:{me.user.id}:{me.user.created_at}:{me.sign_in.id}:{store().totp_secret(me.name)}"
    key = cast(bytes, current_app.secret_key)
    return base64.b32encode(hmac.digest(key, said.encode(), "sha256")[: totp.SECRET_BYTES]).decode()


def _codes_page(error: WorkspacesError | None = None) -> Any:
    secret = _pending()
    drawn = segno.make(totp.uri(secret, session.me().name), error="m", micro=False)
    # Made by the library of letters and digits alone; black on white also in the dark, or no camera reads it.
    qr = Markup(drawn.svg_inline(scale=4, border=4, light="#fff", dark="#000", omitsize=True))  # noqa: S704
    html = render_template("account/codes.html", secret=secret, qr=qr, error=error)
    return make_response(html, error.http_status if error else 200)


@bp.get("/codes")
@access.step_up
def codes() -> Any:
    """The secret for an authenticator app, as a QR code and as text."""
    return _codes_page()


@bp.post("/codes")
@access.step_up
def set_codes() -> Any:
    """Ask for codes from now on, once the app has shown a right one. Other browsers are signed out."""
    me, secret = session.me(), _pending()
    throttle = parts().throttle
    step = totp.matching_step(secret, request.form.get("code", ""), time.time())
    if throttle.too_many_codes(me.name) or step is None:
        throttle.wrong_code(me.name)
        return _codes_page(
            InvalidInput(_("That is not the code."), _("Look at the app again; its clock and this one must agree."))
        )
    store().set_totp_secret(me.name, secret, actor=me.name)
    store().accept_totp_step(me.name, secret, step)
    session.begin(store().user(me.name), me.sign_in.via)
    flash(_("Codes are asked for from now on. Other browsers are signed out."))
    return and_recovery_codes("codes")


@bp.route("/codes/remove", methods=["GET", "POST"])
@access.step_up
def remove_codes() -> Any:
    """Say what that means (GET); ask for the password alone again (POST)."""
    me = session.me()
    if request.method == "GET":
        return render_template("account/uncode.html")
    store().set_totp_secret(me.name, None, actor=me.name)
    session.begin(store().user(me.name), me.sign_in.via)
    flash(_("No codes are asked for any more. Other browsers are signed out."))
    return redirect(url_for(".page", _anchor="codes"))


# recovery codes


def _show_codes() -> Any:
    me = session.me()
    return render_template("account/recovery.html", codes=accounts.new_recovery_codes(store(), me.name, actor=me.name))


def and_recovery_codes(section: str) -> Any:
    """After a second factor was added: recovery codes, if there are none; else back to the page."""
    if store().recovery_codes_left(session.me().name):
        return redirect(url_for("account.page", _anchor=section))
    return _show_codes()


@bp.post("/recovery")
@access.step_up
def new_recovery_codes() -> Any:
    me = session.me()
    if not store().has_second_factor(me.name):
        raise Conflict(_("There is nothing to recover: your account has no second factor."))
    return _show_codes()
