"""What a site says about a recording, kept as data: cut to what is used, cleaned, never trusted."""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.names import clean_name

NAME_CHARACTERS = 255
MOST_CHAPTERS = 500
MOST_HEADER = 4096


def clean(text: object, most: int = NAME_CHARACTERS) -> str:
    """A line of text for people: no control characters, plain spaces, at most so long."""
    line = "".join(" " if unicodedata.category(c)[0] == "Z" or c in "\t\r\n" else c for c in str(text or ""))
    line = " ".join("".join(c for c in line if c.isprintable() or c in "\u200c\u200d\u200e\u200f").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def seconds(value: object) -> float | None:
    """A duration or a time in a recording; None for what is none."""
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1e9:
        return float(value)
    return None


def address(value: object) -> str | None:
    """A URL that may be shown as a link; None for any other text."""
    text = plain(str(value or ""))
    return text if text.startswith(("http://", "https://")) and len(text) <= 2048 and text.isprintable() else None


def link_name(url: str) -> str:
    """What a link is called until its title is known: its host and the last part of its path."""
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return clean(f"{parts.hostname} – {last}" if last else str(parts.hostname))


def plain(url: str) -> str:
    """A URL without what yt-dlp writes behind it for itself."""
    return url.partition("#__youtubedl_smuggle=")[0]


_EXTENDED = re.compile(r"filename\*\s*=\s*\"?([\w-]+)'[^']*'([^;\"\s]+)", re.IGNORECASE)
_PLAIN = re.compile(r'filename\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;\s]+))', re.IGNORECASE)


def file_title(disposition: str) -> str:
    """What a site calls its file, without the file type: by Content-Disposition (RFC 6266); "" if it doesn't tell."""
    disposition, name = disposition[:MOST_HEADER], ""
    if found := _EXTENDED.search(disposition):
        with contextlib.suppress(LookupError, UnicodeError):
            name = unquote(found[2], found[1], "strict")
    if not name and (found := _PLAIN.search(disposition)):
        name = re.sub(r"\\(.)", r"\1", found[1] or found[2] or "")
        with contextlib.suppress(UnicodeError):  # sent as UTF-8, read as Latin-1, as headers are
            name = name.encode("latin-1").decode()
    name = clean_name(name) if name.strip() else ""
    stem, dot, kind = name.rpartition(".")
    return clean(stem if dot and stem and len(kind) <= 5 else name)


def about(info: dict[str, Any]) -> dict[str, Any]:
    """title, uploader, duration (s), thumbnail and webpage (URLs), site, chapters [{start, end, title}] (s); what the
    site doesn't tell is left out."""
    chapters = [
        {"start": start, "end": seconds(chapter.get("end_time")), "title": clean(chapter.get("title"))}
        for chapter in (info.get("chapters") or [])[:MOST_CHAPTERS]
        if isinstance(chapter, dict) and (start := seconds(chapter.get("start_time"))) is not None
    ]
    found = {
        "title": clean(info.get("title")),
        "uploader": clean(info.get("uploader") or info.get("channel")),
        "duration": seconds(info.get("duration")),
        "thumbnail": address(info.get("thumbnail")),
        "webpage": address(info.get("webpage_url")),
        "site": clean(info.get("extractor_key")),
        "chapters": chapters,
    }
    return {name: value for name, value in found.items() if value not in ("", None, [])}
