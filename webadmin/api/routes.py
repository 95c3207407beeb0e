"""The blueprint of the API: its operations, its document, and a page to read it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, render_template, request
from markupsafe import Markup

from webadmin import i18n
from webadmin.api import (
    announcements,
    archive,
    bulk,
    challenges,
    changes,
    events,
    jobs,
    me,
    rosters,
    sessions,
    snapshots,
    users,
    workspaces,
)
from webadmin.api.calling import add_route
from webadmin.api.document import document
from webadmin.api.operations import OPERATIONS
from webadmin.api.problems import KINDS
from webadmin.api.reading import schemas, sections
from workspaces.scopes import SCOPES

# Imported: each enters its operations.
PEOPLE = (users, rosters, announcements)
MODULES = (me, workspaces, bulk, changes, snapshots, jobs, sessions, events, *PEOPLE, challenges, archive)

bp = Blueprint("api", __name__, url_prefix="/api/v1")

for _operation in OPERATIONS:
    add_route(bp, _operation)


@bp.get("/openapi.json")
def openapi() -> Response:
    """The document, open to all: it says nothing of this host."""
    response = Response(_text(_server()), mimetype="application/json")
    response.add_etag()
    response.make_conditional(request)
    return response


@bp.get("/docs")
def docs() -> Any:
    """The document for people."""
    found = document(_server())
    return render_template(
        "api/docs.html", document=found, tags=found["tags"], parts=_parts(_server(), i18n.language())
    )


@lru_cache(4)
def _text(server: str) -> str:
    return json.dumps(document(server), ensure_ascii=False)


@lru_cache(8)
def _parts(server: str, _language: str) -> Markup:
    """All but the page around it: long, and the same for everybody who reads that language."""
    found = document(server)
    html = render_template(
        "api/_parts.html", sections=sections(found), schemas=schemas(found), scopes=SCOPES, kinds=KINDS
    )
    return Markup(html)  # noqa: S704 -- of a template


def _server() -> str:
    return f"{request.script_root}/api/v1"
