"""The OpenAPI document as a contract: what it says of an answer, and whether a real one keeps to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

try:
    from jsonschema import Draft202012Validator
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("What is new in pyproject.toml is missing: make .venv/bin/.installed-dev") from missing

from webapp.openapi.document import document
from webapp.routes import routes

TOLD = {
    "location", "retry-after", "retry-after-ms", "x-should-retry", "etag", "idempotency-replayed", "www-authenticate",
    "allow", "tus-resumable", "tus-version", "tus-extension", "tus-max-size", "tus-checksum-algorithm", "upload-offset",
    "upload-length", "upload-defer-length", "upload-metadata", "upload-expires", "stenobox-job", "content-disposition",
    "content-range", "accept-ranges", "last-modified",
}  # fmt: skip
"""Headers that are part of the contract: one that comes has to be in the document."""


@cache
def contract(closed: bool = False) -> dict[str, Any]:
    """The document, with nothing allowed in an answer that it doesn't name."""
    found = document(routes, closed)
    for schema in found["components"]["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema["additionalProperties"] = False
    return found


def resolved(part: Any) -> Any:
    """What a reference leads to, or the part itself."""
    while isinstance(part, dict) and "$ref" in part:
        target: Any = contract()
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


@cache
def patterns() -> list[tuple[re.Pattern[str], str]]:
    """Regular expressions for all paths, those without names first."""
    paths = sorted(contract()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.escape(p).replace(r"\{name\}", ".*").replace(r"\{id\}", "[^/]+")
                        .replace(r"\{job_id\}", "[^/]+")), p) for p in paths]  # fmt: skip


@cache
def validator(path: str, method: str, status: int, media: str) -> Draft202012Validator:
    content = resolved(contract()["paths"][path][method]["responses"][str(status)])["content"][media]
    schema = content["schema"] | {"components": contract()["components"]}
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Every way in which this answer is not what the document says. path: as it was asked for, without the query."""
    found = next((template for pattern, template in patterns() if pattern.fullmatch(path)), None)
    if found is None:
        return
    method, operations = method.lower(), contract()["paths"][found]
    if method not in operations:
        if method == "head" and "get" in operations:
            method, body = "get", b""
        elif status == 405 or (method == "options" and status == 204):
            yield from () if "allow" in headers else ["no Allow"]
            return
        else:  # refused before anybody looked at the method
            yield from () if status in (400, 401, 403, 503) else [f"{method} {found} is not in the document"]
            return
    answer = resolved(operations[method]["responses"].get(str(status)))
    if answer is None:
        yield f"{method} {found}: {status} is not in the document: {body[:200]!r}"
        return
    yield from _header_faults(answer.get("headers", {}), headers)
    yield from _body_faults((found, method, status), answer.get("content"), headers, body)


def _header_faults(told: dict[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
    named = {name.lower(): resolved(header) for name, header in told.items()}
    for name in headers:
        if name.lower() in TOLD and name.lower() not in named:
            yield f"the header {name} is not in the document"
    for name, header in named.items():
        if (value := headers.get(name)) is None:
            yield from [f"no header {name}"] if header["required"] else ()
            continue
        typed: Any = int(value) if header["schema"].get("type") == "integer" and value.isdigit() else value
        if not Draft202012Validator(header["schema"]).is_valid(typed):
            yield f"the header {name}: {value!r} is no {header['schema']}"


def _body_faults(
    place: tuple[str, str, int], told: dict[str, Any] | None, headers: Mapping[str, str], body: bytes
) -> Iterator[str]:
    if not body:
        return
    media = headers.get("content-type", "").partition(";")[0]
    if told is None or media not in told:
        yield f"{place}: {media or 'a body'} is not in the document"
    elif media == "application/json":
        for error in validator(*place, media).iter_errors(json.loads(body)):
            yield f"{place}: {error.json_path}: {error.message[:500]}"


def hold(response: Any) -> None:
    """Raises AssertionError when an answer of an httpx client breaks the contract."""
    request = response.request
    if "access-control-allow-methods" in response.headers:  # a browser's question, answered before the API is asked
        assert (request.method, response.status_code) == ("OPTIONS", 204)
        return
    body = response.read()
    found = list(faults(request.method, request.url.path, response.status_code, response.headers, body))
    assert not found, found
