"""The OpenAPI 3.1 document, made from the operations and models: the schemas are pydantic's, in JSON Schema 2020-12."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, create_model
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from webadmin.api import models
from webadmin.api.operations import OPERATIONS, Operation
from webadmin.api.problems import TYPE
from workspaces import __version__
from workspaces.scopes import SCOPES

REF = "#/components/schemas/{model}"
ABOUT = """\
Everything that the pages do, for programs. A token comes from your account's page, or from `workspaces token add` on
the host; it may do what its scopes say and never more than you. Lists come in parts: follow `next`, or the Link header.
A write with an `Idempotency-Key` is done once, however often it is sent within 24 hours. Errors are problem details
(RFC 9457). What changes a container is a job: its number is answered, and /events tells how it goes on."""
TAGS: Mapping[str, str] = {
    "me": "The token and the person behind it",
    "workspaces": "Persistent containers, one for each participant or team",
    "snapshots": "Requests, decisions and versions",
    "jobs": "What the worker does",
    "events": "What happens, as it happens",
    "sessions": "Who is on",
    "users": "Accounts and roles",
    "challenges": "Contests on this host",
    "announcements": "What everybody is told",
    "archive": "Where versions are kept",
    "images": "What containers are made from",
    "audit": "Who did what",
}
ERRORS: Mapping[int, str] = {
    400: "It was not understood: the body is not JSON, or a header is malformed.",
    401: "There is no token, or it is unknown, expired or removed.",
    403: "The token has not the scope, or its owner not the right; or what must be confirmed was not.",
    404: "There is no such thing, or it is not yours to see.",
    409: "It exists already, or its state does not allow this.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    422: "A parameter, the body, or what it asks for breaks a rule; `errors` name where.",
    429: "Too many requests; Retry-After says when to go on.",
    503: "The store is busy; nothing was done. Retry-After says when to go on.",
}
_ETAG = {"ETag": {"description": "Of exactly this; send it as If-None-Match.", "schema": {"type": "string"}}}
_LINK = {"Link": {"description": 'The next part: <…>; rel="next".', "schema": {"type": "string"}}}
_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


@cache
def document(server: str) -> dict[str, Any]:
    """The document; `server` is the address that its paths begin at."""
    defined = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, defined)
    used = {operation.tag for operation in OPERATIONS}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Workspaces", "version": __version__, "description": ABOUT},
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": defined["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token `wst_…`. Its scopes: "
                    + "; ".join(f"`{scope}`: {meaning.text}" for scope, meaning in SCOPES.items())
                    + ".",
                }
            },
        },
    }


def schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """A reference to the schema of `model` among the components."""
    found: dict[str, Any] = _schemas()[model, mode]
    return found


@cache
def _schemas() -> dict[Any, Any]:
    """The reference to each model, and `$defs` with all of their schemas."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(models.Problem, "serialization"): None}
    for operation in OPERATIONS:
        if operation.body is not None:
            wanted[operation.body, "validation"] = None
        if _is_model(operation):
            assert operation.answer is not None
            wanted[operation.answer, "serialization"] = None
    references, top = models_json_schema(list(wanted), ref_template=REF)
    return {**references, "$defs": top["$defs"]}


def _is_model(operation: Operation) -> bool:
    return operation.answer is not None and issubclass(operation.answer, BaseModel)


def _operation(operation: Operation, defined: Mapping[Any, Any]) -> dict[str, Any]:
    scope = f"Scope: `{operation.scope}`." if operation.scope else "Any token will do."
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": "\n\n".join(part for part in (operation.description, scope) if part),
        "parameters": _parameters(operation),
        "responses": _responses(operation, defined),
    }
    if operation.scope:
        found["security"] = [{"token": [str(operation.scope)]}]
    if operation.body is not None:
        content = {"application/json": {"schema": defined[operation.body, "validation"]}}
        found["requestBody"] = {"required": any(f.is_required() for f in operation.body.model_fields.values()),
                                "content": content}  # fmt: skip
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, **_described(kind)}
        for name, kind in operation.path_parameters.items()
    ]
    if operation.query is not None:
        properties = operation.query.model_json_schema(mode="validation")["properties"]
        for name, field in operation.query.model_fields.items():
            kind = {key: value for key, value in properties[name].items() if key != "title"}
            text = kind.pop("description", "")
            found.append({"name": name, "in": "query", "required": field.is_required(), "schema": kind}
                         | ({"description": text} if text else {}))  # fmt: skip
    if operation.writes:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Something used for this write alone, such as a UUID: sent again within 24 hours, it "
                "is answered as before and nothing is done twice.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
            }
        )
    return found


def _described(kind: Any) -> dict[str, Any]:
    """The schema of one part of an address, and what is said of it."""
    made = create_model("Part", value=(kind, ...)).model_json_schema()["properties"]["value"]
    text = made.pop("description", "")
    made.pop("title", None)
    return {"schema": made} | ({"description": text} if text else {})


def _responses(operation: Operation, defined: Mapping[Any, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done." if operation.writes else "What there is."}
    if operation.status == 202:
        done["description"] = "The job that does it."
    if _is_model(operation):
        done["content"] = {"application/json": {"schema": defined[operation.answer, "serialization"]}}
    elif operation.answer is not None:
        done["content"] = {operation.media: {"schema": {"type": "string"}}}
    if not operation.writes and _is_model(operation):
        is_list = "next" in (operation.answer.model_fields if operation.answer else {})
        done["headers"] = {**_ETAG, **(_LINK if is_list else {})}
    responses = {str(operation.status): done}
    for status in _statuses(operation):
        if status == 304:
            responses["304"] = {"description": "You have exactly this."}
            continue
        content = {TYPE: {"schema": defined[models.Problem, "serialization"]}}
        responses[str(status)] = {"description": ERRORS[status], "content": content}
        if status in (429, 503):
            responses[str(status)]["headers"] = _AFTER
    return dict(sorted(responses.items()))


def _statuses(operation: Operation) -> list[int]:
    """The errors, and 304, that there may be."""
    found = [401, 403, 422, 429, 503]
    if operation.path_parameters or operation.body is not None or operation.query is not None:
        found.append(404)
    if operation.writes:
        found += [400, 409, 413, *([415] if operation.body is not None else [])]
    else:
        found.append(304 if _is_model(operation) else 409)
    return found
