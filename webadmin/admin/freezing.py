"""Freezing a challenge: what it would do, how far it is with a result for each workspace, and thawing."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access, danger
from webadmin.actions import challenges as actions
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _, ngettext
from webadmin.live import fragment
from workspaces.errors import NotFound, WorkspacesError
from workspaces.model import FreezeMode, FrozenState
from workspaces.rights import Right


@bp.route("/challenges/<slug>/freeze", methods=["GET", "POST"])
@access.require(Right.CHALLENGE)
@access.step_up
def freeze(slug: str) -> Any:
    """Say what it does to how many (GET); begin it (POST)."""
    if request.method == "GET":
        return _freeze(slug)
    try:
        mode = actions.freeze_mode(request.form.get("mode", ""))
        danger.check(slug)
        begun = store().begin_freeze(slug, mode, actor=actor())
    except NotFound:
        raise
    except WorkspacesError as error:
        return _freeze(slug, error)
    flash(_("%(challenge)s is being frozen.", challenge=slug))
    return redirect(url_for(".frozen", slug=slug, freeze_id=begun.id))


def _freeze(slug: str, error: WorkspacesError | None = None) -> Any:
    challenge = store().challenge(slug)
    html = render_template(
        "admin/freeze.html",
        challenge=challenge,
        preview=actions.preview(store(), challenge),
        mode=request.form.get("mode", FreezeMode.COMMIT.value),
        typed=danger.typed(),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)


def _frozen(slug: str, freeze_id: int) -> dict[str, Any]:
    found = store().freeze(freeze_id)
    if found.challenge != slug:
        raise NotFound(_("%(challenge)s has no such freeze.", challenge=slug))
    rows = store().frozen(freeze_id)
    done = [row for row in rows if row.state is not FrozenState.WAITING]
    tally = {state.value: sum(row.state is state for row in done) for state in FrozenState}
    return {
        "freeze": found,
        "challenge": store().challenge(slug),
        "rows": rows,
        "done": len(done),
        "tally": {state: number for state, number in tally.items() if number},
    }


@bp.get("/challenges/<slug>/freezes/<int:freeze_id>")
@access.require(Right.SEE)
def frozen(slug: str, freeze_id: int) -> Any:
    return render_template("admin/frozen.html", **_frozen(slug, freeze_id))


@bp.get("/challenges/<slug>/freezes/<int:freeze_id>/live")
@access.require(Right.SEE)
def live_frozen(slug: str, freeze_id: int) -> Any:
    return fragment(lambda: render_template("admin/_frozen.html", **_frozen(slug, freeze_id)))


@bp.post("/challenges/<slug>/thaw")
@access.require(Right.CHALLENGE)
@access.step_up
def thaw(slug: str) -> Any:
    """Let people work again; versions stay."""
    count = store().thaw(slug, actor=actor())
    flash(_("%(challenge)s is thawed.", challenge=slug))
    if count:
        flash(ngettext("%(num)s workspace is made writable.", "%(num)s workspaces are made writable.", count))
    closes_at = store().challenge(slug).closes_at
    if closes_at is not None:
        flash(_("Its closing time stays as it is; change it if people are to log in after it."), "warning")
    return redirect(url_for(".challenge", slug=slug))
