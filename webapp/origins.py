"""Pages and apps of other origins, where the operator named them: they use the API with a key, never with a cookie."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.config import Config
from webapp.errors import is_for_programs
from webapp.security import HEADERS, UNKEPT, is_same_origin

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SENT = (
    "Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Range", "If-Range", "If-None-Match",
    "Tus-Resumable", "Upload-Length", "Upload-Defer-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum",
    "X-HTTP-Method-Override",
)  # fmt: skip
"""What a request may carry. Whatever else a client asks to send may come too: nothing here depends on its absence."""
TOLD = (
    "Location", "Retry-After", "retry-after-ms", "x-should-retry", "ETag", "Idempotency-Replayed", "WWW-Authenticate",
    "Allow", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm", "Upload-Offset",
    "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Expires", "Stenobox-Job", "Content-Disposition",
    "Content-Range", "Accept-Ranges", "Last-Modified",
)  # fmt: skip
"""Headers of answers that the page may read."""
REMEMBERED_SECONDS = 3600


class Origins:
    """Answers the questions that browsers ask first, and says of each answer that the page may read it. Such a request
    has no cookie from here on, and `foreign` in its scope."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self.app = app
        self._allowed = frozenset(config.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._allowed or scope["type"] != "http" or not is_for_programs(scope["path"]):
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        origins = sent.getlist("origin")
        foreign = len(origins) == 1 and origins[0].lower() in self._allowed and not is_same_origin(sent)

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if foreign:
                    headers["Access-Control-Allow-Origin"] = origins[0]
                    headers["Access-Control-Expose-Headers"] = ", ".join(TOLD)
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        if foreign and scope["method"] == "OPTIONS" and "access-control-request-method" in sent:
            await _preflight(sent)(scope, receive, tell)
            return
        if foreign:
            kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope = {**scope, "headers": kept, "foreign": True}
        await self.app(scope, receive, tell)


def _preflight(sent: Headers) -> Response:
    asked = [name.strip() for name in sent.get("access-control-request-headers", "").split(",")]
    more = [name for name in asked if name and name.lower() not in {known.lower() for known in SENT}]
    headers = {
        **HEADERS,
        **UNKEPT,
        "Access-Control-Allow-Methods": ", ".join(METHODS),
        "Access-Control-Allow-Headers": ", ".join((*SENT, *more)),
        "Access-Control-Max-Age": str(REMEMBERED_SECONDS),
        "Vary": "Access-Control-Request-Headers",
    }
    return Response(status_code=204, headers=headers)
