"""The one page: all workspaces of a person, or the only one in full; and one of several in full."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, redirect, render_template, request, url_for

from webadmin import session
from webadmin.actions import usage
from webadmin.context import host_key, store
from webadmin.live import fragment
from webadmin.me.base import AT_FIRST, SOON, Space, bp, space, spaces
from workspaces.errors import WorkspacesError
from workspaces.model import NewsItem

NEWS = 8


def _news() -> list[NewsItem]:
    return store().news(session.me().name, limit=NEWS)


def _parts(found: Space) -> dict[str, Any]:
    """What the changing part of one workspace's page is made of."""
    return {
        "space": found,
        "at_first": AT_FIRST,
        "soon": SOON,
        "host_key": host_key(),
    }


def _typed(form: str = "", error: WorkspacesError | None = None) -> dict[str, Any]:
    """What was typed into the form of that name, and what is wrong with it."""
    return {"form": form, "error": error, "typed": request.form if error else {}}


def _use(found: Space) -> dict[str, Any]:
    """What is said of its past use; a range that is not known is the day."""
    asked = request.args.get("range", "")
    chosen = asked if asked in usage.RANGES else "day"
    rows = usage.rows(store(), found.workspace, chosen)
    return {"ranges": list(usage.RANGES), "range": chosen, "rows": rows, "summary": usage.summary(rows)}


def show(found: Space | None = None, form: str = "", error: WorkspacesError | None = None) -> Response:
    """The page of one workspace, or of all; with `error`, what was typed stays in the form of that name."""
    mine = [found] if found else spaces()
    alone = mine[0] if len(mine) == 1 else None
    html = render_template(
        "me/page.html",
        spaces=mine,
        single=alone is not None,
        personal=found is None or found.only,
        news=_news(),
        keys=store().keys(session.me().name),
        **(_parts(alone) | _use(alone) if alone else {"soon": SOON}),
        **_typed(form, error),
    )
    return make_response(html, error.http_status if error else 200)


@bp.get("")
def page() -> Any:
    return show()


@bp.get("/live")
def live_spaces() -> Any:
    """The summaries of several workspaces, or all that changes of the only one; the news above."""

    def render() -> str:
        mine = spaces()
        if len(mine) == 1:
            return render_template("me/_space.html", news=_news(), personal=True, **_parts(mine[0]), **_typed())
        return render_template("me/_spaces.html", spaces=mine, news=_news(), soon=SOON)

    return fragment(render)


@bp.get("/workspaces/<int:workspace_id>")
def workspace(workspace_id: int) -> Any:
    return show(space(workspace_id))


@bp.get("/workspaces/<int:workspace_id>/live")
def live_space(workspace_id: int) -> Any:
    found = space(workspace_id)
    return fragment(lambda: render_template("me/_space.html", personal=False, **_parts(found), **_typed()))


@bp.post("/news/<int:up_to>/read")
def read_news(up_to: int) -> Any:
    """All that was on the page when the button was made; what came since stays unread."""
    store().read_news(session.me().name, up_to)
    return redirect(url_for(".page"))
