"""Challenges: the list, one with its rules, adding and changing one."""

from __future__ import annotations

import time
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for

from webadmin import access
from webadmin.actions import challenges as actions
from webadmin.actions.images import is_image
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _, ngettext
from webadmin.live import fragment
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.model import Challenge, ChallengeCounts, Forwarding
from workspaces.names import check_name
from workspaces.rights import Right

FREEZES = 5


def state_of(challenge: Challenge) -> str:
    """In a word: frozen, closed, not open yet, or open."""
    now = time.time()
    if challenge.frozen:
        return "frozen"
    if challenge.closes_at is not None and challenge.closes_at <= now:
        return "closed"
    return "planned" if challenge.opens_at is not None and challenge.opens_at > now else "open"


def _list() -> dict[str, Any]:
    mine, counts = access.scope(Right.SEE), store().challenge_counts()
    found = [c for c in store().challenges() if mine is None or c.slug in mine]
    rows = [(challenge, counts.get(challenge.slug, ChallengeCounts()), state_of(challenge)) for challenge in found]
    return {"rows": rows}


@bp.get("/challenges")
@access.require(Right.SEE)
def challenges() -> Any:
    return render_template("admin/challenges.html", **_list())


@bp.get("/challenges/live")
@access.require(Right.SEE)
def live_challenges() -> Any:
    return fragment(lambda: render_template("admin/_challenges.html", **_list()))


def _one(slug: str) -> dict[str, Any]:
    challenge, images = store().challenge(slug), store().base_images()
    return {
        "challenge": challenge,
        "counts": store().challenge_counts().get(slug, ChallengeCounts()),
        "state_word": state_of(challenge),
        "freezes": store().freezes(slug)[:FREEZES],
        "image_known": any(is_image(challenge.image, image.refs) for image in images),
        "images_noted": bool(images),
    }


@bp.get("/challenges/<slug>")
@access.require(Right.SEE)
def challenge(slug: str) -> Any:
    return render_template("admin/challenge.html", **_one(slug))


@bp.get("/challenges/<slug>/live")
@access.require(Right.SEE)
def live_challenge(slug: str) -> Any:
    return fragment(lambda: render_template("admin/_challenge.html", **_one(slug)))


def _form(
    before: Challenge | None, errors: dict[str, InvalidInput] | None = None, error: WorkspacesError | None = None
) -> Any:
    """The form; after a POST with what was typed and what is wrong with it."""
    sent = request.method == "POST"
    values = request.form.to_dict() if sent else actions.texts(before) if before else actions.DEFAULTS
    forwards = request.form.getlist("forwards") if sent else [str(kind) for kind in _forwarding(before)]
    html = render_template(
        "admin/challenge_form.html",
        before=before,
        was=(request.form.get("was") if sent else None) or (actions.said_now(before) if before else ""),
        values=values,
        forwards=forwards,
        kinds=[kind.value for kind in Forwarding],
        host=access.may(Right.CHALLENGES),
        images=sorted({ref for image in store().base_images() for ref in image.refs}),
        errors=errors or {},
        error=error,
    )
    return make_response(html, 400 if errors else error.http_status if error else 200)


def _forwarding(before: Challenge | None) -> tuple[Forwarding, ...]:
    return before.forwarding if before else tuple(Forwarding)


@bp.route("/challenges/<slug>/edit", methods=["GET", "POST"])
@access.require(Right.CHALLENGE)
def edit_challenge(slug: str) -> Any:
    """Change limits, dates and rules; image, mounts and network with the right to the host's challenges."""
    before = store().challenge(slug)
    if request.method == "GET":
        return _form(before)
    form = actions.read(request.form, request.form.getlist("forwards"), before, host=access.may(Right.CHALLENGES))
    if form.errors:
        return _form(before, form.errors)
    applies = request.form.get("apply") == "yes"
    if actions.freezes_now(before, form.values) and (answer := access.unproven()):
        return answer
    if not form.values and not applies:
        flash(_("Nothing was changed."))
        return redirect(url_for(".challenge", slug=slug))
    try:
        jobs = actions.change(store(), slug, form.values, apply_limits=applies, actor=actor())
    except InvalidInput as error:
        return _form(before, error=error)
    flash(_("%(challenge)s is changed.", challenge=slug))
    if jobs:
        flash(ngettext("%(num)s container gets the limits now.", "%(num)s containers get the limits now.", jobs))
    return redirect(url_for(".challenge", slug=slug))


@bp.route("/add-challenge", methods=["GET", "POST"])
@access.require(Right.CHALLENGES)
def add_challenge() -> Any:
    """A form with the values that the command line takes where nothing is said."""
    if request.method == "GET":
        return _form(None)
    slug = request.form.get("slug", "").strip()
    form = actions.read(request.form, request.form.getlist("forwards"), None, host=True)
    try:
        check_name(slug, "challenge")
    except InvalidInput as error:
        form.errors["slug"] = error
    if form.errors:
        return _form(None, form.errors)
    try:
        store().add_challenge(slug, actor=actor(), **form.values)
    except WorkspacesError as error:
        return _form(None, error=error)
    flash(_("%(challenge)s is there. People are added to it on the page of users.", challenge=slug))
    return redirect(url_for(".challenge", slug=slug))
