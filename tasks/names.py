"""An uploader's name for a recording, as data."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from email.errors import MessageError
from email.header import decode_header, make_header
from pathlib import PurePosixPath

_ENCODED = re.compile(r"=\?[^?]{1,40}\?[bBqQ]\?[^?]{0,1000}\?=")
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}

NAME_CHARACTERS = 255


def clean_name(name: str) -> str:
    """An uploader's file name as data: its last part, without control characters, not endless.

    It is shown, never used as a path; the direction marks of right-to-left text stay (pages isolate them), and so do
    the joiners that Persian and emoji are written with. Other scripts' spaces become plain ones.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if unicodedata.category(c) == "Zs" else c for c in name)
    name = "".join(c for c in name if c.isprintable() or c in "\u200c\u200d\u200e\u200f").strip()
    if len(name) > NAME_CHARACTERS:
        suffix = PurePosixPath(name).suffix
        if len(suffix) > 9:  # no file type, just a late dot
            suffix = ""
        name = name.removesuffix(suffix)[: NAME_CHARACTERS - len(suffix) - 1] + "…" + suffix
    return name if name.strip(". ") else "recording"


def sent_name(name: str) -> str:
    """A file's name as whoever sent it means it: forms write quotes and ends of lines as %22, %0D, %0A (and nothing
    else; an address or metadata that was made of one keeps them), .NET's whole names as RFC 2047 does."""
    if len(name) <= 4096 and _ENCODED.search(name):
        with suppress(LookupError, ValueError, MessageError):  # it only looked so
            name = str(make_header(decode_header(name)))
    return re.sub("%(?:22|0[DdAa])", lambda found: _ESCAPES[found[0]], name)
