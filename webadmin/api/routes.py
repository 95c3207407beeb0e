"""The blueprint of the API: its operations, its document, and a page to read it."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, render_template, request

from webadmin.api import announcements, challenges, events, jobs, me, rosters, snapshots, users, workspaces
from webadmin.api.calling import add_route
from webadmin.api.document import document
from webadmin.api.operations import OPERATIONS
from webadmin.api.problems import KINDS
from webadmin.api.reading import schemas, sections
from workspaces.scopes import SCOPES

# Imported: each enters its operations.
MODULES = (me, workspaces, snapshots, jobs, events, users, rosters, announcements, challenges)

bp = Blueprint("api", __name__, url_prefix="/api/v1")

for _operation in OPERATIONS:
    add_route(bp, _operation)


@bp.get("/openapi.json")
def openapi() -> Response:
    """The document, open to all: it says nothing of this host."""
    text = json.dumps(document(_server()), ensure_ascii=False)
    response = Response(text, mimetype="application/json")
    response.add_etag()
    response.make_conditional(request)
    return response


@bp.get("/docs")
def docs() -> Any:
    """The document for people."""
    found = document(_server())
    return render_template(
        "api/docs.html",
        document=found,
        sections=sections(found),
        schemas=schemas(found),
        scopes=SCOPES,
        kinds=KINDS,
    )


def _server() -> str:
    return f"{request.script_root}/api/v1"
