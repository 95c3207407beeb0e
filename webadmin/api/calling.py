"""Routes of the operations: each request through token, rate, checks, the operation, and out as JSON."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, create_model

from webadmin.api import auth, inputs, problems
from webadmin.api.auth import Caller
from webadmin.api.operations import Operation
from webadmin.api.problems import Problem
from webadmin.context import parts, store
from webadmin.serving.handover import AGAIN
from workspaces import apitokens
from workspaces.errors import Conflict, WorkspacesError
from workspaces.store.tokens import Answered

log = logging.getLogger(__name__)

KEY_MAX = 200  # characters of an Idempotency-Key
REPLAYED = "Idempotency-Replayed"


def add_route(bp: Blueprint, operation: Operation) -> None:
    """Serve `operation` below the blueprint's address."""
    bp.add_url_rule(operation.rule, operation.name, _view(operation), methods=[operation.method])


_parts: dict[int, type[BaseModel]] = {}  # by the identity of what an address may have: a few constants


def _part(kind: Any) -> type[BaseModel]:
    """A model of a part of an address. Making one takes a while, and many operations have the same parts."""
    if id(kind) not in _parts:
        _parts[id(kind)] = create_model("Part", value=(kind, ...))
    return _parts[id(kind)]


def _view(operation: Operation) -> Callable[..., Response]:
    types = {name: _part(kind) for name, kind in operation.path_parameters.items()}

    def view(**values: Any) -> Response:
        try:
            caller = auth.caller(operation.scope, counted=AGAIN not in request.environ)
            inputs.path(types, values)
            if (query := inputs.query(operation.query)) is not None:
                values["query"] = query
            if not operation.writes:
                return _read(operation, caller, values)
            body, data = inputs.body(operation.body, operation.body_max)
            if body is not None:
                values["body"] = body
            return _write(operation, caller, values, data)
        except WorkspacesError as error:
            if error.http_status >= 500:
                log.error("%s %s: %s", request.method, request.path, error)
            return problems.of(error)

    view.__name__ = operation.name
    return view


def _read(operation: Operation, caller: Caller, values: dict[str, Any]) -> Response:
    """What is there, with a tag; 304 for whoever has exactly this."""
    found = operation.function(caller, **values)
    if isinstance(found, Response):  # a stream
        return found
    text = found.model_dump_json()
    response = Response(text, operation.status, mimetype="application/json")
    if link := getattr(found, "next", None):
        response.headers["Link"] = f'<{link}>; rel="next"'
    response.set_etag(hashlib.sha256(text.encode()).hexdigest()[:32])
    response.headers["Vary"] = "Authorization"
    response.make_conditional(request)
    return response


def _write(operation: Operation, caller: Caller, values: dict[str, Any], data: bytes) -> Response:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return _answer(operation.status, _done(operation, caller, values))
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise Problem(
            400, f"An Idempotency-Key has 1 to {KEY_MAX} characters of ASCII.", "A UUID is one that is used once."
        )
    whole = b"\0".join((request.method.encode(), request.full_path.encode(), data))
    digest = hashlib.sha256(whole).hexdigest()
    what = (caller.token.id, key)
    limits = parts().limits
    if not limits.begin(what):
        raise _busy()
    try:
        return _once(operation, caller, values, key, digest)
    finally:
        limits.end(what)


def _once(operation: Operation, caller: Caller, values: dict[str, Any], key: str, digest: str) -> Response:
    """Do it and keep the answer, both or neither; or give the answer that it had before."""
    known = store().answered(caller.token.id, key)
    if known is not None:
        if known.request != digest:
            raise Problem(422, "This Idempotency-Key was used for another request.", "Take a new one for each.")
        text = apitokens.unseal(caller.secret, known.body)
        if text is None:
            raise Problem(409, "This was done, and its answer is not kept any more.", "Look at what there is now.")
        response = _answer(known.status, text)
        response.headers[REPLAYED] = "true"
        return response
    with store().transaction():
        text = _done(operation, caller, values)
        try:
            sealed = apitokens.seal(caller.secret, text)
            store().keep_answer(caller.token.id, key, Answered(digest, operation.status, sealed))
        except Conflict:  # another process was faster: what was done here is undone
            raise _busy() from None
    return _answer(operation.status, text)


def _done(operation: Operation, caller: Caller, values: dict[str, Any]) -> str:
    result = operation.function(caller, **values)
    return "" if result is None else str(result.model_dump_json())


def _answer(status: int, text: str) -> Response:
    response = Response(text or None, status, mimetype="application/json")
    if not text:
        del response.headers["Content-Type"]
    return response


def _busy() -> Problem:
    return Problem(
        409, "A request with this Idempotency-Key is under way.", "Ask again in a moment.", headers={"Retry-After": "1"}
    )
