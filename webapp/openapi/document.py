"""The document put together: every `Endpoint` among the routes, with what follows from its route and its door."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.routing import BaseRoute

from tasks import __version__
from tasks.errors import KINDS
from webapp import rules, shapes
from webapp.endpoints import Endpoint
from webapp.openapi import batches, box, jobs, parameters, submitting, uploads
from webapp.openapi.parts import Answer, Operation, Operations, Value
from webapp.openapi.refusals import MEANINGS, by_status, of_door
from webapp.openapi.schemas import components, ref

OPERATIONS: Operations = (
    submitting.OPERATIONS | jobs.OPERATIONS | uploads.OPERATIONS | batches.OPERATIONS | box.OPERATIONS
)
TAGS = {
    submitting.TAG: "Give the box something to do: a recording, a link, an upload, or what another job has made.",
    jobs.TAG: "What became of it.",
    uploads.TAG: uploads.ABOUT,
    batches.TAG: "Many jobs under one name: how far they are, and what is done to all of them.",
    box.TAG: "How full the box is, and whether it works.",
    box.OPERATION: "Settings and intake; for keys of the scope `admin`.",
    submitting.GUIDE: "The same jobs at the concurrency guide's own addresses, in its words.",
}
ABOUT = """\
A self-hosted transcription box. Send a recording, get a job, ask for it until it is completed, fetch its transcript.

Every refusal has the same shape, with a code for programs and a sentence for people. A full box says so at once: 429
with `Retry-After` in whole seconds. A submission with an `Idempotency-Key` may be sent again at any time: it is the
same job. Unknown fields and parameters are refused, not ignored. HEAD works wherever GET does, and OPTIONS says which
methods an address knows.

Times are RFC 3339 in UTC, durations are seconds, sizes are bytes. Keys go in `X-API-Key` or as a bearer token; each one
sees its own jobs alone, and another's is answered like one that never was."""
SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of this box"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a bearer token"},
}
SHARED = {
    "Retry-After": parameters.RETRY_AFTER,
    "retry-after-ms": parameters.RETRY_AFTER_MS,
    "x-should-retry": parameters.SHOULD_RETRY,
    "WWW-Authenticate": parameters.CHALLENGE,
    "Allow": parameters.ALLOW,
}
"""Headers that most refusals have."""
LINKED: dict[Any, tuple[str, str]] = {
    shapes.Job: ("/api/v1/jobs/{id}", "id"),
    shapes.GuideJob: ("/api/v1/jobs/{id}", "job_id"),
    shapes.Batch: ("/api/v1/batches/{id}", "id"),
}
"""What an answer's id can be asked for next: where, and the field with the id."""
_SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"bearer": []}]


def document(routes: Iterable[BaseRoute], closed: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes. closed: whether nobody comes in without a key."""
    served = {(method, path): route for method, path, route in endpoints(routes)}
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        if route := served.get((method, path)):
            paths.setdefault(path, {})[method.lower()] = _operation(method, path, route, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stenobox",
            "summary": "A self-hosted transcription box.",
            "description": ABOUT,
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This box"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": _SECURITY if closed else [*_SECURITY, {}],
        "paths": paths,
        "components": {
            "securitySchemes": SCHEMES,
            "headers": _shared(),
            "links": _links(),
            "schemas": components() | _codes(),
        },
    }


def endpoints(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, Endpoint]]:
    """Method and path of everything that is for programs. HEAD is left out where it is only GET without a body."""
    for route in routes:
        if isinstance(route, Endpoint):
            methods = route.methods or set()
            path = re.sub(r":\w+}", "}", route.path)
            for method in sorted(methods):
                if method != "HEAD" or ("HEAD", path) in OPERATIONS:
                    yield method, path, route


def _codes() -> dict[str, Any]:
    """The codes of all refusals and failures."""
    lines = "\n".join(f"- `{code}` ({KINDS[code].status}): {meaning}" for code, meaning in MEANINGS.items())
    return {"Code": {"type": "string", "enum": list(KINDS), "description": f"Why not:\n\n{lines}"}}


def _operation(method: str, path: str, route: Endpoint, found: Operation) -> dict[str, Any]:
    codes = {*of_door(method, path), *found.refusals}
    if route.query is not None:
        codes |= {"unknown_field"} | ({"invalid_value"} if route.query else set())
    told: dict[str, Any] = {"operationId": found.id, "tags": [found.tag], "summary": found.summary}
    if found.text:
        told["description"] = found.text
    if rules.needed(method, path) is None:
        told["security"] = []
    if given := list(_parameters(method, path, found)):
        told["parameters"] = given
    if found.bodies:
        told["requestBody"] = _body(found)
    told["responses"] = _responses(method, found, codes)
    if found.curl:
        told["x-curl"] = found.curl
    return told


def _parameters(method: str, path: str, found: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        value = parameters.ANY if method == "OPTIONS" else parameters.IN_PATH[name]
        yield {"name": name, "in": "path", **value.described()}
    for place, values in (("query", found.query), ("header", found.headers)):
        for name, value in values.items():
            yield {"name": name, "in": place, **value.described()}


def _body(found: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": schema} for media, schema in found.bodies.items()}
    if found.example and "application/json" in content:
        content["application/json"]["example"] = dict(found.example)
    return {"required": found.tag != uploads.TAG, "content": content}


def _responses(method: str, found: Operation, codes: set[str]) -> dict[str, Any]:
    responses = {str(answer.status): _answer(answer) for answer in found.answers}
    for status, those in by_status(codes).items():
        refusal = _refusal(method, status, those, found.tag)
        if (other := responses.get(str(status))) is not None:  # /readyz, which is 503 in its own words too
            schemas = [each["content"]["application/json"]["schema"] for each in (other, refusal)]
            refusal = other | {"content": {"application/json": {"schema": {"anyOf": schemas}}}}
        responses[str(status)] = refusal
    return dict(sorted(responses.items()))


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.text}
    if answer.headers:
        told["headers"] = _headers(answer.headers)
    media = {"application/json": ref(answer.shape)} if answer.shape else answer.media
    if answer.shape in LINKED:
        told["links"] = {id: {"$ref": f"#/components/links/{name}"} for id, name in _links_of(answer.shape)}
    if media:
        told["content"] = {name: {"schema": schema} for name, schema in media.items()}
    return told


def _refusal(method: str, status: int, codes: list[str], tag: str) -> dict[str, Any]:
    text = "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes)
    headers: dict[str, Value] = {"x-should-retry": parameters.SHOULD_RETRY}
    if any(KINDS[code].retryable for code in codes):
        headers |= {"Retry-After": parameters.RETRY_AFTER, "retry-after-ms": parameters.RETRY_AFTER_MS}
    if status == 401:
        headers["WWW-Authenticate"] = parameters.CHALLENGE
    if tag == uploads.TAG:
        headers |= uploads.ON_REFUSALS
    if status == 412:
        headers |= uploads.KNOWN
    if status == 416:
        headers["Content-Range"] = parameters.OF_BYTES
    if status == 405:
        headers["Allow"] = parameters.ALLOW
    told: dict[str, Any] = {"description": text, "headers": _headers(headers)}
    if method != "HEAD":
        code = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
        told["content"] = {"application/json": {"schema": {"allOf": [ref(shapes.Error), code]}}}
    return told


def _headers(headers: Mapping[str, Value]) -> dict[str, Any]:
    return {
        name: {"$ref": f"#/components/headers/{name}"} if value is SHARED.get(name) else value.described()
        for name, value in headers.items()
    }


def _links_of(shape: Any) -> Iterator[tuple[str, str]]:
    """Operations that take the id of what is in an answer, with the names of the links to them."""
    place, _ = LINKED[shape]
    for (_, path), operation in OPERATIONS.items():
        if path.startswith(place):
            yield operation.id, f"{shape.__name__}-{operation.id}"


def _links() -> dict[str, Any]:
    return {
        name: {"operationId": id, "parameters": {"id": f"$response.body#/{field}"}}
        for shape, (_, field) in LINKED.items()
        for id, name in _links_of(shape)
    }


def _shared() -> dict[str, Any]:
    return {name: value.described() for name, value in SHARED.items()}
