"""What the header of one part of a form says: a name for the field, and one for the file, in all the ways that clients
write it."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_PARAMETER = re.compile(r';\s*([\w!#$&+.^`|~-]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))')
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}


def read_disposition(header: bytes) -> tuple[str, str | None]:
    """The field's name and the file's, None where there is none, "" where it is empty. header: of the part, bounded by
    who reads it. Read here: python-multipart drops `filename*` since 0.0.30."""
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(header.decode("utf-8", "replace")):
        value = re.sub(r'\\(["\\])', r"\1", quoted) if quoted else plain.strip()
        found.setdefault(name.lower(), value)
    file = _extended(found.get("filename*", ""))
    return found.get("name", ""), file or found.get("filename")


def _extended(value: str) -> str:
    """A value as RFC 5987 writes it: UTF-8''M%C3%BCller.flac; "" when it can't be read."""
    charset, _, rest = value.partition("'")
    _, quote, text = rest.partition("'")
    known = _CHARSETS.get(charset.strip().lower())
    return unquote_to_bytes(text).decode(known, "replace") if quote and known else ""
