"""The OpenAPI document as what a page shows: sections of operations, and the fields of schemas in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BOUNDS = {"minimum": "from", "maximum": "to", "maxLength": "at most"}
FAR = 10**15  # a bound that says nothing to people


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter or field: its type in words, with the name of a schema that it is of, if it is."""

    name: str
    kind: str
    schema: str
    required: bool
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    method: str
    path: str
    id: str
    summary: str
    text: list[str]
    parameters: list[Row]
    body: list[Row]
    status: str
    answer: str  # name of a schema, or empty
    errors: list[str]


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    text: str
    operations: list[Shown]


def sections(document: Mapping[str, Any]) -> list[Section]:
    """The operations under their headings, in the document's order."""
    found = {tag["name"]: Section(tag["name"], tag["description"], []) for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found[operation["tags"][0]].operations.append(_shown(document, path, method, operation))
    return list(found.values())


def schemas(document: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The fields of each schema that has some, and the values of those that are words; by name."""
    found = {}
    for name, schema in sorted(document["components"]["schemas"].items()):
        found[name] = _fields(schema) if "properties" in schema else [Row("", *_kind(schema), False, "")]
    return found


def _shown(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Shown:
    parameters = [
        Row(p["name"], *_kind(p["schema"]), p["required"], p.get("description", ""), p["in"])
        for p in operation["parameters"]
        if p["name"] != "Idempotency-Key"
    ]
    body: list[Row] = []
    if "requestBody" in operation:
        name = _name(operation["requestBody"]["content"]["application/json"]["schema"])
        body = _fields(document["components"]["schemas"][name])
    status = next(code for code in operation["responses"] if code.startswith("2"))
    content = operation["responses"][status].get("content", {})
    answer = _name(content.get("application/json", {}).get("schema", {}))
    errors = [code for code in operation["responses"] if code >= "4"]
    return Shown(
        method.upper(),
        path,
        operation["operationId"],
        operation["summary"],
        operation["description"].split("\n\n"),
        parameters,
        body,
        status,
        answer,
        errors,
    )


def _fields(schema: Mapping[str, Any]) -> list[Row]:
    needed = schema.get("required", ())
    return [
        Row(name, *_kind(field), name in needed, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _kind(schema: Mapping[str, Any]) -> tuple[str, str]:
    """A type in words, and the schema that it names."""
    if name := _name(schema):
        return name, name
    if "anyOf" in schema:
        some = [_kind(one) for one in schema["anyOf"]]
        return " or ".join(kind for kind, _ in some), next((name for _, name in some if name), "")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"]), ""
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        inner, name = _kind(schema.get("items", {}))
        return f"list of {inner}", name
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), dict):
        inner, name = _kind(more)
        return f"object of {inner}", name
    if kind == "string" and schema.get("format") == "date-time":
        return "time", ""
    bounds = [f"{word} {schema[key]}" for key, word in BOUNDS.items() if abs(schema.get(key, FAR)) < FAR]
    return " ".join((kind, *bounds)), ""
