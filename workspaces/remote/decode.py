"""JSON of the API back to the things of workspaces.model, by their types."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from workspaces.errors import HostError

T = TypeVar("T")


def decode(kind: type[T], data: Any) -> T:
    """A thing of `kind`, a dataclass; what the API does not tell is empty. Raises HostError for what is none."""
    try:
        return typing.cast(T, _value(kind, data))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise HostError(
            f"The server's {kind.__name__.lower()} is not understood.",
            "It may be of another version than this program.",
        ) from exc


def _value(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if data is None:
            return None
        kind = next(one for one in arguments if one is not type(None))
        return _value(kind, data)
    if dataclasses.is_dataclass(kind):
        given, found, hints = dict(data), {}, typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in given:
                found[field.name] = _value(hints[field.name], given[field.name])
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                found[field.name] = "" if field.type == "str" else () if "tuple" in str(field.type) else None
        return typing.cast("type[Any]", kind)(**found)
    if origin is tuple:
        return tuple(_value(arguments[0], one) for one in data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float and isinstance(data, str):
        return datetime.fromisoformat(data).timestamp()
    if isinstance(kind, type) and not isinstance(data, kind) and not (kind is float and isinstance(data, int)):
        raise TypeError(f"{data!r} is no {kind}")
    return data
