"""What comes in: parameters and bodies, checked by models; and what several of them share."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from webadmin.api.problems import Problem
from workspaces.queries import LENGTH_MAX

LIMIT, LIMIT_MAX = 50, 200
BODY_MAX = 64 << 10  # bytes

Model = TypeVar("Model", bound=BaseModel)
Text = Annotated[str, StringConstraints(max_length=4000)]
# limits, within the bounds that forms and commands have
Cores = Annotated[float, Field(ge=0.01, le=1024)]
Memory = Annotated[int, Field(ge=6 << 20, lt=1 << 60)]
Processes = Annotated[int, Field(ge=32, le=1 << 22)]


class Input(BaseModel):
    """What is sent; a field that nobody knows is refused, since it was meant to do something."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)


class Paging(Input):
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT
    """At most so many."""
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Go on after this one: what the `next` link of the part before says."""


class Listed(Paging):
    q: Annotated[str, StringConstraints(max_length=LENGTH_MAX)] = ""
    """Only what matches, as on the pages: `state:running challenge:als idle>7d words`."""


class Nothing(Input):
    """No parameters."""


def query(model: type[Model] | None) -> Model | None:
    """The address's parameters. Raises Problem 422 for one that is unknown, given twice, or breaks a rule."""
    given: dict[str, str] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Problem(422, "A parameter is given twice.", errors=[{"parameter": name[:100], "detail": "Once."}])
        given[name] = values[0]
    try:
        if model is not None:
            return model.model_validate(given)
        Nothing.model_validate(given)
    except ValidationError as error:
        raise Problem(422, "A parameter breaks a rule.", errors=_errors(error, "parameter")) from None
    return None


def path(types: dict[str, type[BaseModel]], values: dict[str, Any]) -> None:
    """Raise Problem 404 for a part of the address that cannot name anything."""
    for name, value in values.items():
        try:
            types[name](value=value)
        except ValidationError:
            raise Problem(404, "There is nothing at this address, or it is not yours to see.") from None


def body(model: type[Model] | None, most: int = BODY_MAX) -> tuple[Model | None, bytes]:
    """The request's body, of `most` bytes, and its bytes.

    Raises Problem: 413, 415, 400 for what is no JSON, 422 for a broken rule.
    """
    if request.content_length is not None and request.content_length > most:
        raise Problem(413, "What was sent is larger than this address takes.", f"At most {most} bytes.")
    request.max_content_length = most
    data = request.get_data(cache=False)
    if model is None:
        if data.strip() not in (b"", b"{}"):
            raise Problem(422, "This address takes no body.", errors=[{"pointer": "#", "detail": "Leave it out."}])
        return None, b""
    if data and request.mimetype != "application/json":
        raise Problem(415, "A body is taken as JSON only.", "Send it with Content-Type: application/json.")
    try:
        return model.model_validate_json(data or b"{}", strict=True), data
    except ValidationError as error:
        if any(one["type"] == "json_invalid" for one in error.errors(include_url=False, include_input=False)):
            raise Problem(400, "The body is not JSON.", "See https://www.rfc-editor.org/rfc/rfc8259.") from None
        raise Problem(422, "The body breaks a rule.", errors=_errors(error, "pointer")) from None


def _errors(error: ValidationError, key: str) -> list[dict[str, str]]:
    """What is wrong with which part: a JSON pointer as a fragment, or a parameter's name. What was sent is not told."""
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        parts = [str(part)[:100] for part in one["loc"]]
        where = "#" + "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)
        found.append({key: where if key == "pointer" else ".".join(parts), "detail": one["msg"][:300]})
    return found
