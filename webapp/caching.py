"""Whether a client has an answer already: conditional requests, for all that carries an ETag or a date."""

from __future__ import annotations

import hashlib
from email.utils import parsedate

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response

_KEPT = ("cache-control", "content-location", "etag", "expires", "last-modified", "vary")
"""What a 304 says again (RFC 9110, 15.4.5)."""


def tag_of(content: bytes) -> str:
    """An ETag by what is in it."""
    return f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def is_known(request: Headers, answer: Headers) -> bool:
    """Whether who asks has this answer. Its tags are compared weakly, as compressed answers and proxies weaken them;
    a date counts only where no tag came."""
    if (tags := request.get("if-none-match")) is not None:
        own = answer.get("etag", "").removeprefix("W/")
        known = (tag.strip().removeprefix("W/") for tag in tags.split(","))
        return bool(own) and (tags.strip() == "*" or own in known)
    since, changed = parsedate(request.get("if-modified-since", "")[:64]), parsedate(answer.get("last-modified", ""))
    return since is not None and changed is not None and since >= changed


def unless_known(request: Request, answer: Response) -> Response:
    """The answer, or 304 for who has it."""
    if request.method not in ("GET", "HEAD") or not is_known(request.headers, answer.headers):
        return answer
    headers = MutableHeaders(raw=[(n, v) for n, v in answer.raw_headers if n.decode("latin-1") in _KEPT])
    return Response(status_code=304, headers=headers)
