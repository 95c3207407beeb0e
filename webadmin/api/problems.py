"""Errors of the API as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from flask import Response, request

from workspaces.errors import InvalidInput, WorkspacesError

PREFIX = "/api/"
TYPE = "application/problem+json"
ERRORS_MAX = 20  # told of one request

# status → the last part of its type, and its title
KINDS: Mapping[int, tuple[str, str]] = {
    400: ("malformed", "That was not understood"),
    401: ("token", "A token is needed"),
    403: ("not-allowed", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method", "Not by this method"),
    409: ("conflict", "Not possible now"),
    413: ("too-large", "Too much at once"),
    415: ("media-type", "Only JSON is taken"),
    422: ("invalid", "What was sent breaks a rule"),
    429: ("too-many", "Too many requests"),
    500: ("internal", "Something went wrong here"),
    503: ("unavailable", "Not available now"),
}
DETAILS = {
    404: "There is nothing at this address, or it is not yours to see.",
    405: "This address does not take that method.",
    413: "What was sent is larger than this address takes.",
    500: "Something went wrong here. It has been written to the log.",
}


class Problem(WorkspacesError):
    """An error of the request itself; `errors` name what is wrong with which part, `headers` go with the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        hint: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.http_status = status
        self.errors = list(errors)[:ERRORS_MAX]
        self.headers = dict(headers or {})


def wanted() -> bool:
    """Whether the request is one for the API, so that its errors are problems."""
    return request.path.startswith(PREFIX)


def said(status: int, detail: str, hint: str, path: str, base: str = "", **more: object) -> str:
    """A problem as JSON; `base` is the address of the site below its host."""
    kind, title = KINDS.get(status, ("other", HTTPStatus(status).phrase))
    found: dict[str, object] = {
        "type": f"{base}/api/v1/docs#problem-{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"{base}{path}",
        **({"hint": hint} if hint else {}),
        **more,
    }
    return json.dumps(found, ensure_ascii=True)


def answer(
    status: int,
    detail: str,
    hint: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    more = {"errors": list(errors)} if errors else {}
    text = said(status, detail, hint, request.path, request.script_root, **more)
    response = Response(text, status, mimetype=TYPE)
    response.headers.update(headers or {})
    return response


def of(error: WorkspacesError) -> Response:
    """An error of ours. What breaks a rule is 422, whether a schema or the program has the rule."""
    if isinstance(error, Problem):
        return answer(error.http_status, error.message, error.hint, error.errors, error.headers)
    if isinstance(error, InvalidInput):
        return answer(422, error.message, error.hint)
    wait = getattr(error, "wait", 1 if error.http_status == 503 else None)
    headers = {} if wait is None else {"Retry-After": str(int(wait) + 1)}
    return answer(error.http_status, error.message, error.hint, headers=headers)
