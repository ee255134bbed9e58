"""The document as a person reads it: groups, operations, fields and shapes, ready for a template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from tasks.errors import KINDS
from webapp import rules
from webapp.openapi.parts import Schema
from webapp.openapi.refusals import MEANINGS
from webapp.openapi.schemas import PLACE


@dataclass(frozen=True, slots=True)
class Row:
    """A field, parameter or header. kind: its type in words; shape: the name of a shape in it, which is linked."""

    name: str
    kind: str
    text: Markup
    required: bool = False
    default: str | None = None
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """One form in which a body may come. rows: its fields; none for bytes."""

    media: str
    rows: list[Row]
    text: Markup


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer that is no refusal. shape: of its JSON; media: what it is besides."""

    status: str
    text: Markup
    shape: str | None
    media: list[str]
    headers: list[Row]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation. needs: who may; refusals: codes with status and meaning."""

    id: str
    method: str
    path: str
    summary: str
    text: Markup
    needs: str
    places: list[tuple[str, list[Row]]]
    bodies: list[Body]
    curl: str
    replies: list[Reply]
    refusals: list[tuple[int, str, Markup]]


@dataclass(frozen=True, slots=True)
class Group:
    """Operations that belong together."""

    name: str
    slug: str
    text: Markup
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of JSON that answers are made of."""

    name: str
    text: Markup
    rows: list[Row]
    choices: list[str]


@dataclass(frozen=True, slots=True)
class Manual:
    """All of it. codes: of refusals and failures, with status, meaning and whether trying again helps."""

    about: Markup
    groups: list[Group]
    shapes: list[Shape]
    codes: list[tuple[str, int, Markup, bool]]


def manual(document: dict[str, Any], base: str, closed: bool) -> Manual:
    """base: the box's address, for examples; closed: whether a key is needed."""
    entries: dict[str, list[Entry]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            entries[operation["tags"][0]].append(_entry(method.upper(), path, operation, base, closed))
    groups = [
        Group(tag["name"], _slug(tag["name"]), prose(tag["description"]), entries[tag["name"]])
        for tag in document["tags"]
    ]
    shapes = [_shape(name, schema) for name, schema in document["components"]["schemas"].items() if name != "Code"]
    codes = [(code, KINDS[code].status, _inline(MEANINGS[code]), KINDS[code].retryable) for code in MEANINGS]
    return Manual(prose(document["info"]["description"]), groups, shapes, codes)


def prose(text: str) -> Markup:
    """The little Markdown that our texts use, as HTML: paragraphs, `code` and links."""
    paragraphs = [_inline(paragraph) for paragraph in text.split("\n\n") if paragraph]
    return paragraphs[0] if len(paragraphs) == 1 else Markup("").join(Markup("<p>{}</p>").format(p) for p in paragraphs)


def _inline(text: str) -> Markup:
    found = str(escape(text))
    found = re.sub(r"`([^`]+)`", r"<code>\1</code>", found)
    return Markup(re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', found))


def _entry(method: str, path: str, operation: dict[str, Any], base: str, closed: bool) -> Entry:
    replies, refusals = [], []
    for status, answer in operation["responses"].items():
        codes = list(_codes(answer))
        refusals += [(int(status), code, _inline(MEANINGS[code])) for code in codes]
        if not codes or "anyOf" in _json_schema(answer):  # of /readyz both
            replies.append(_reply(status, answer))
    return Entry(
        operation["operationId"],
        method,
        path,
        operation["summary"],
        prose(operation.get("description", "")) if operation.get("description") else Markup(""),
        _needs(method, path, operation),
        list(_places(operation)),
        [_body(media, content) for media, content in operation.get("requestBody", {}).get("content", {}).items()],
        _curl(method, path, operation, base, closed),
        replies,
        refusals,
    )


def _needs(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = rules.needed(method, path)
    return "Open to everybody" if scope is None else f"Scope {scope}"


def _places(operation: dict[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    titles = {"path": "In the address", "query": "In the query", "header": "Headers"}
    for place, title in titles.items():
        rows = [
            _row(each["name"], each["schema"], each["required"], each["description"])
            for each in operation.get("parameters", [])
            if each["in"] == place
        ]
        if rows:
            yield title, rows


def _body(media: str, content: dict[str, Any]) -> Body:
    schema = content["schema"]
    if "$ref" in schema:
        shape = schema["$ref"].removeprefix(PLACE)
        return Body(media, [], Markup('<a href="#shape-{0}">{0}</a>').format(shape))
    text = schema.get("description") or ("The bytes" if not schema.get("properties") else "")
    return Body(media, _rows(schema), _inline(text))


def _rows(schema: Schema) -> list[Row]:
    required = schema.get("required", [])
    return [_row(name, each, name in required) for name, each in schema.get("properties", {}).items()]


def _row(name: str, schema: Schema, required: bool, text: str = "") -> Row:
    default = json.dumps(schema["default"]) if "default" in schema else None
    kind, shape = words(schema)
    return Row(name, kind, _inline(text or schema.get("description", "")), required, default, shape)


def words(schema: Schema) -> tuple[str, str | None]:
    """A type in words, and the shape that is in it, if one is: ("list of Job", "Job")."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PLACE)
        return name, name
    if "const" in schema:
        return str(schema["const"]), None
    if "anyOf" in schema:
        parts = [words(each) for each in schema["anyOf"]]
        return " or ".join(kind for kind, _ in parts), next((shape for _, shape in parts if shape), None)
    if "enum" in schema:
        return " · ".join("null" if each is None else str(each) for each in schema["enum"]), None
    kinds = schema.get("type", "anything")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    shape = None
    if "items" in schema:
        inner, shape = words(schema["items"])
        kinds = [f"list of {inner}" if kind == "array" else kind for kind in kinds]
    elif isinstance(schema.get("additionalProperties"), dict):
        inner, shape = words(schema["additionalProperties"])
        kinds = [f"{inner} by name" if kind == "object" else kind for kind in kinds]
    if schema.get("format") == "binary":
        return "file", None
    return " or ".join(kinds) + _span(schema), shape


def _span(schema: Schema) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", from {low:,}" if low else ""


def _reply(status: str, answer: dict[str, Any]) -> Reply:
    content: dict[str, Any] = answer.get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    schema = schema.get("anyOf", [schema])[0]
    headers = [
        _row(name, each["schema"], each["required"], each["description"])
        for name, each in answer.get("headers", {}).items()
        if "$ref" not in each
    ]
    shape = words(schema)[1] if "$ref" in schema else None
    return Reply(
        status, _inline(answer["description"]), shape, [m for m in content if m != "application/json"], headers
    )


def _json_schema(answer: dict[str, Any]) -> Schema:
    schema: Schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _codes(answer: dict[str, Any]) -> Iterator[str]:
    """The codes of a refusal, wherever they are in its schema."""
    schema = _json_schema(answer)
    for each in schema.get("anyOf", [schema]):
        for part in each.get("allOf", []):
            yield from part.get("properties", {}).get("error", {}).get("properties", {}).get("code", {}).get("enum", [])
    if "content" not in answer:  # of HEAD
        yield from re.findall(r"^- `(\w+)`", answer["description"], re.MULTILINE)


def _shape(name: str, schema: Schema) -> Shape:
    return Shape(name, _inline(schema.get("description", "")), _rows(schema), schema.get("enum", []))


def _curl(method: str, path: str, operation: dict[str, Any], base: str, closed: bool) -> str:
    parts = ["curl"]
    if closed and operation.get("security") != []:
        parts.append('-H "X-API-Key: $STENOBOX_KEY"')
    given, json_body = operation.get("x-curl", ""), operation.get("requestBody", {}).get("content", {})
    example = json_body.get("application/json", {}).get("example")
    if given:
        parts.append(given)
    elif example:
        parts.append(f"-H 'Content-Type: application/json' -d '{json.dumps(example)}'")
    if method not in ("GET", "HEAD", "PUT") and not given and not (example and method == "POST"):
        parts.append(f"-X {method}")
    path = path.replace("{name}", "").replace("{id}", "ID").replace("{job_id}", "ID")
    return " ".join([*parts, base + quote(path)])


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())
