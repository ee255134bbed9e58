"""Static files, cached for good under addresses that carry a hash of their content."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from webapp.caching import is_known
from webapp.paths import STATIC


class Static(StaticFiles):
    """Starlette's, with Cache-Control."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response

    def is_not_modified(self, response_headers: Headers, request_headers: Headers) -> bool:
        return is_known(request_headers, response_headers)
