"""An uploader's name for a recording, as data."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

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
    return name or "recording"
