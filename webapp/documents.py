"""What the API is, for programs at /openapi.json and for people at /docs; made once, when somebody asks."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from html import escape
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from tasks import __version__
from tasks.errors import StenoboxError
from webapp.api import box_of
from webapp.caching import tag_of, unless_known
from webapp.templating import templates

_BASE = "http://this-box.invalid"


def openapi(request: Request) -> Response:
    """GET /openapi.json"""
    return _unless_known(request, _as_json(request.app, _closed(request)), "application/json")


def docs(request: Request) -> Response:
    """GET /docs: the same to read."""
    base = escape(str(request.base_url).rstrip("/"))
    page = _as_page(request.app, _closed(request)).replace(_BASE, base)
    return _unless_known(request, page.encode(), "text/html; charset=utf-8")


def _closed(request: Request) -> bool:
    """Whether nobody comes in without a key, as last known: nobody has to come in to read this."""
    access = box_of(request).access
    if access.must_look():
        with suppress(StenoboxError):  # the database is busy
            access.look()
    return access.closed


@lru_cache(maxsize=2)
def _document(app: Starlette, closed: bool) -> dict[str, Any]:
    from webapp.openapi.document import document  # costs memory that most boxes never need

    return document(app.routes, closed)


@lru_cache(maxsize=2)
def _as_json(app: Starlette, closed: bool) -> bytes:
    return msgspec.json.encode(_document(app, closed))


@lru_cache(maxsize=2)
def _as_page(app: Starlette, closed: bool) -> str:
    """With _BASE where the box's own address belongs: made anew for every port that a stranger names, it would cost a
    fifth of a second each time."""
    from webapp.openapi.manual import manual

    # Not the request of whoever asks first: everyone gets this page.
    request = Request({"type": "http", "method": "GET", "path": "/docs", "headers": [], "query_string": b""})
    found = manual(_document(app, closed), _BASE, closed)
    page: str = templates.get_template("docs/index.html").render(request=request, manual=found, version=__version__)
    return page


def _unless_known(request: Request, content: bytes, media_type: str) -> Response:
    headers = {"ETag": tag_of(content), "Cache-Control": "no-cache"}
    return unless_known(request, Response(content, media_type=media_type, headers=headers))
