"""The blueprint of the API: its operations, its document, and a page to read it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, render_template, request

from webadmin.api import challenges, events, jobs, me, snapshots, users, workspaces
from webadmin.api.calling import add_route
from webadmin.api.document import document
from webadmin.api.operations import OPERATIONS
from webadmin.api.problems import KINDS
from webadmin.api.reading import schemas, sections
from workspaces.scopes import SCOPES

MODULES = (me, workspaces, snapshots, jobs, events, users, challenges)  # imported: each enters its operations

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
    return render_template("api/docs.html", **_read(_server()), scopes=SCOPES, kinds=KINDS)


@lru_cache(2)
def _text(server: str) -> str:
    return json.dumps(document(server), ensure_ascii=False)


@lru_cache(2)
def _read(server: str) -> dict[str, Any]:
    """The document as the page shows it; it is the code's, so it stays the same."""
    found = document(server)
    return {"document": found, "sections": sections(found), "schemas": schemas(found)}


def _server() -> str:
    return f"{request.script_root}/api/v1"
