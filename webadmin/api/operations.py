"""The table of what the API can do; routes, checks and the OpenAPI document are made from it.

    @get("/workspaces/{workspace_id}", Scope.READ)
    def show_workspace(caller: Caller, workspace_id: Id) -> Workspace:
        '''Show a workspace.

        What else there is to say of it.
        '''

The arguments `query` and `body` are models whose fields are looked at first; the others are parts of the address. What
is returned is a model. A write may be wrapped in a transaction, so it does nothing that takes long: what does is a job.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field

from webadmin.api.inputs import BODY_MAX
from workspaces.names import NAME_MAX
from workspaces.scopes import Scope

Function = TypeVar("Function", bound=Callable[..., Any])

Id = Annotated[int, Field(ge=1, le=2**63 - 1, description="Its number.")]
Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX, pattern="^[a-z][a-z0-9-]*$", description="Its name.")]

OPERATIONS: list[Operation] = []


@dataclass(frozen=True)
class Operation:
    method: str
    path: str  # below /api/v1, as OpenAPI writes it
    function: Callable[..., Any]
    scope: Scope | None  # None: any token will do
    status: int
    tag: str
    body_max: int  # bytes

    @property
    def name(self) -> str:
        """Its operationId, and the endpoint of its route."""
        return self.function.__name__

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @cached_property
    def hints(self) -> Mapping[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    @cached_property
    def path_parameters(self) -> Mapping[str, Any]:
        """Those of the address with their types, in its order."""
        return {name: self.hints[name] for name in re.findall(r"{(\w+)}", self.path)}

    @property
    def query(self) -> type[BaseModel] | None:
        return self.hints.get("query")

    @property
    def body(self) -> type[BaseModel] | None:
        return self.hints.get("body")

    @property
    def answer(self) -> type[BaseModel] | None:
        """The model that is returned; None for an answer without a body."""
        found = self.hints["return"]
        found = typing.get_args(found)[0] if typing.get_origin(found) is Annotated else found
        return None if found is type(None) else found

    @property
    def media(self) -> str:
        """The media type of an answer that is no model: what its type is annotated with."""
        return str(typing.get_args(self.hints["return"])[1])

    @property
    def rule(self) -> str:
        """The address as Flask writes it."""
        rule = self.path
        for name, kind in self.path_parameters.items():
            base = typing.get_args(kind)[0]
            rule = rule.replace(f"{{{name}}}", f"<int:{name}>" if base is int else f"<{name}>")
        return rule

    @property
    def summary(self) -> str:
        return _doc(self.function)[0]

    @property
    def description(self) -> str:
        return _doc(self.function)[1]


def _doc(function: Callable[..., Any]) -> tuple[str, str]:
    """The first line of what a function says of itself, without its stop, and the rest as one paragraph each."""
    first, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n")
    paragraphs = [" ".join(part.split()) for part in rest.strip().split("\n\n")]
    return first.removesuffix("."), "\n\n".join(part for part in paragraphs if part)


def operation(
    method: str, path: str, scope: Scope | None, status: int = 200, tag: str = "", body_max: int = BODY_MAX
) -> Callable[[Function], Function]:
    """Enter a function into the table. `tag` is the heading it stands under: else the first part of its address."""

    def enter(function: Function) -> Function:
        OPERATIONS.append(Operation(method, path, function, scope, status, tag or path.split("/")[1], body_max))
        return function

    return enter


def get(path: str, scope: Scope | None = Scope.READ, tag: str = "") -> Callable[[Function], Function]:
    return operation("GET", path, scope, 200, tag)


def post(
    path: str, scope: Scope, status: int = 200, tag: str = "", body_max: int = BODY_MAX
) -> Callable[[Function], Function]:
    return operation("POST", path, scope, status, tag, body_max)


def put(path: str, scope: Scope, tag: str = "") -> Callable[[Function], Function]:
    return operation("PUT", path, scope, 200, tag)


def patch(path: str, scope: Scope, tag: str = "") -> Callable[[Function], Function]:
    return operation("PATCH", path, scope, 200, tag)


def delete(path: str, scope: Scope | None, status: int = 204, tag: str = "") -> Callable[[Function], Function]:
    return operation("DELETE", path, scope, status, tag)
