"""Files in parts, as players ask for them: Starlette's ranges, with refusals in our one shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tasks.errors import StenoboxError
from webapp import errors
from webapp.caching import is_known, unless_known

_SPAN = re.compile(r"\s*(\d{0,18})-(\d{0,18})\s*")


def serve(request: Request, path: Path, media_type: str, headers: Mapping[str, str]) -> Response:
    """The file, the part of it that Range asks for, or 304 for who has it. A Range that can't be understood is ignored,
    as HTTP says."""
    found = path.stat()
    whole = FileResponse(path, media_type=media_type, headers=headers, stat_result=found)
    if is_known(request.headers, whole.headers):  # before Range, RFC 9110 13.2.2
        return unless_known(request, whole)
    spans, size = _spans(request.headers.get("range", "")), found.st_size
    beyond = [start >= size for start in _starts(spans, size)]
    if any(beyond):
        if all(beyond) and "if-range" not in request.headers:
            refusal = StenoboxError("unsatisfiable_range", f"There are {size:,} bytes, and none where this begins.")
            answer = errors.as_json(refusal)
            answer.headers["Content-Range"] = f"bytes */{size}"
            return answer
        spans = []  # of several, some are there: all of the file has them
    if not spans:
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0].lower() != b"range"]
    return whole


def _spans(header: str) -> list[tuple[str, str]]:
    """First and last byte of each part, "" where one isn't said; nothing for a header that makes no sense."""
    unit, _, text = header.partition("=")
    found = [_SPAN.fullmatch(part) for part in text.split(",")]
    spans = [(match[1], match[2]) for match in found if match and (match[1] or match[2])]
    sane = len(spans) == len(found) and all(not (a and b) or int(a) <= int(b) for a, b in spans)
    return spans if sane and unit.strip().lower() == "bytes" else []


def _starts(spans: list[tuple[str, str]], size: int) -> list[int]:
    return [int(first) if first else max(0, size - int(last)) for first, last in spans]
