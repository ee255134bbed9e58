"""Small bodies of requests: JSON objects and fields of plain forms, read up to a limit."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request

from tasks.errors import StenoboxError

MOST_BYTES = 16 * 1024
MOST_FIELDS = 100
MOST_SECONDS = 30.0
"""A small body that takes longer is from somebody who only holds the connection."""
_SECRET = ("password", "current", "new")
"""Fields whose spaces count, also at their ends."""


async def read_json(request: Request, most_bytes: int = MOST_BYTES, example: str = '{"slots": 2}') -> dict[str, Any]:
    """The JSON object in the body. example: one that would be right, for the sentence of a refusal.

    Raises StenoboxError unsupported_media_type, too_large or invalid_request.
    """
    body = await _read(request, "application/json", f"Send a JSON object as application/json: {example}.", most_bytes)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StenoboxError("invalid_request", "The body can't be read as JSON.") from None
    if not isinstance(found, dict):
        raise StenoboxError("invalid_request", f"The body must be a JSON object, such as {example}.")
    return found


async def read_fields(request: Request) -> dict[str, str]:
    """The fields of a plain form, the last of each name. Raises as `read_json`."""
    return dict(await read_pairs(request))


async def read_pairs(request: Request, most_bytes: int = MOST_BYTES, most: int = MOST_FIELDS) -> list[tuple[str, str]]:
    """The fields of a plain form in their order, also those whose name comes several times. most: how many there may
    be. Raises as `read_json`."""
    body = await _read(request, "application/x-www-form-urlencoded", "Send this form as a browser does.", most_bytes)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="replace", max_num_fields=most)
    except ValueError:
        raise StenoboxError("invalid_request", "This form can't be read.") from None
    return [(name, value if name in _SECRET else value.strip()) for name, value in pairs]


_RECORDING = re.compile(r"(audio|video)/.+|application/(octet-stream|ogg|mp4|x-matroska|vnd\.rn-realmedia)")


def is_recording(media_type: str) -> bool:
    """Whether what calls itself so may be one."""
    return _RECORDING.fullmatch(media_type) is not None


def check_encoding(request: Request) -> None:
    """Bodies are taken as they are: a packed one would be called damaged later. Raises unsupported_media_type."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise StenoboxError(
            "unsupported_media_type",
            f"This body is packed ({encoding[:40]}), and bodies aren't unpacked here. Send it as it is, without "
            "Content-Encoding.",
        )


def media_type(request: Request) -> str:
    """What the body says it is, without parameters: "application/json"; "" when it says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read(request: Request, wanted: str, advice: str, most_bytes: int = MOST_BYTES) -> bytes:
    if media_type(request) != wanted:
        raise StenoboxError("unsupported_media_type", advice)
    check_encoding(request)
    body = bytearray()
    try:
        with anyio.fail_after(MOST_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise StenoboxError("too_large", f"The body is larger than {most_bytes:,} bytes.")
    except TimeoutError:
        raise StenoboxError("stalled", f"The body took longer than {MOST_SECONDS:.0f} s. Send it again.") from None
    except ClientDisconnect:
        raise StenoboxError("invalid_request", "The request broke off before its end. Send it again.") from None
    return bytes(body)
