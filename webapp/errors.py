"""From exceptions to answers: JSON in one shape for programs, a page for people, never a traceback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route

from tasks import __version__
from tasks.errors import StenoboxError
from webapp.templating import templates

if TYPE_CHECKING:
    from webapp import shapes

_PROGRAMS = ("/api/", "/transcribe", "/download", "/extract-audio", "/healthz", "/readyz", "/openapi.json")
"""Addresses of programs, which want JSON; the others are people's."""

logger = logging.getLogger(__name__)


def is_for_programs(path: str) -> bool:
    """Whether this is an address of the API or its like, and no page."""
    return path.startswith(_PROGRAMS)


def as_json(error: StenoboxError) -> JSONResponse:
    """`body` with the code's status."""
    return JSONResponse(body(error), error.kind.status, headers=headers(error))


def body(error: StenoboxError) -> shapes.Error:
    """{"error": {"code", "message", "type", "param"}}"""
    return {"error": {"code": error.code, "message": error.message, "type": error.kind.type, "param": error.param}}


def headers(error: StenoboxError) -> dict[str, str]:
    """Retry-After where waiting helps, and the two headers by which OpenAI's clients decide whether and when to try
    again: without them, they would also repeat what can only fail again, such as a 409."""
    found = {"x-should-retry": "true" if error.kind.retryable else "false"}
    if error.code == "unauthorized":
        found["WWW-Authenticate"] = 'Bearer realm="Stenobox"'
    if error.retry_after is not None:
        found |= {"Retry-After": str(error.retry_after), "retry-after-ms": str(error.retry_after * 1000)}
    return found


def respond(request: Request, error: StenoboxError) -> Response:
    """The answer to a request that failed, in the form its face uses."""
    if is_for_programs(request.url.path):
        return as_json(error)
    context = {"status": error.kind.status, "error": error, "version": __version__}
    return templates.TemplateResponse(request, "errors/error.html", context, error.kind.status, headers(error))


async def on_stenobox_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StenoboxError)
    return respond(request, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = _methods(request) or (error.headers or {}).get("Allow", "")
        if request.method == "OPTIONS":  # nothing is allowed to other sites, but what an address knows is no secret
            return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
        words = allowed.replace(", ", " or ")
        answer = respond(
            request, StenoboxError("method_not_allowed", f"{request.method} is not possible here. Use {words}.")
        )
        answer.headers["Allow"] = allowed
        return answer
    if error.status_code == 404:
        if request.method in ("GET", "HEAD") and _is_there_without_slash(request):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(request.url.path.rstrip("/") + query, 307)  # with the scheme that was used
        return respond(request, StenoboxError("not_found", "There is nothing at this address."))
    return respond(request, StenoboxError("invalid_request", f"The request can't be read: {error.detail}."))


def _is_there_without_slash(request: Request) -> bool:
    path = request.scope["path"]
    if not path.endswith("/"):
        return False
    scope = {**request.scope, "path": path.rstrip("/")}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes if isinstance(route, Route))


def _methods(request: Request) -> str:
    """What is possible at this address. Starlette names only the methods of the first route there."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    fitting = (route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted(set().union(*fitting)))


async def on_exception(request: Request, error: Exception) -> Response:
    """What nobody expected. The server logs the traceback; the client gets a sentence."""
    return respond(
        request, StenoboxError("internal", "Something went wrong inside Stenobox. The log of the box has the details.")
    )
