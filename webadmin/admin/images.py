"""Base images, as the worker saw them last: pages never ask the engine. Looking and checking are jobs."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for

from webadmin import access
from webadmin.actions import images as actions
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import _
from webadmin.live import fragment
from workspaces.model import UNDER_WAY, JobKind
from workspaces.rights import Right


def _list() -> dict[str, Any]:
    challenges, counts = store().challenges(), store().challenge_counts()
    used = actions.used(store(), challenges)
    rows = [(image, [(c, counts[c.slug].workspaces) for c in users]) for image, users in used]
    known = {c.slug for _image, users in rows for c, _count in users}
    job = store().latest_job(JobKind.IMAGES)
    return {
        "rows": rows,
        "missing": [c for c in challenges if c.slug not in known] if rows else [],
        "job": job,
        "moving": job is not None and job.state in UNDER_WAY,
    }


@bp.get("/images")
@access.require(Right.IMAGES)
def images() -> Any:
    return render_template("admin/images.html", **_list())


@bp.get("/images/live")
@access.require(Right.IMAGES)
def live_images() -> Any:
    return fragment(lambda: render_template("admin/_images.html", **_list()))


@bp.post("/images/look")
@access.require(Right.IMAGES)
def look_at_images() -> Any:
    """Have the worker note the images now; with `image` (an id), look into that one."""
    wanted = request.form.get("image", "")
    actions.look(store(), wanted, actor=actor())
    flash(_("The image is being looked into.") if wanted else _("The images are being looked at."))
    return redirect(url_for(".images"))
