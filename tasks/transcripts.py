"""A transcript in the forms people use: JSON, plain text, SubRip, WebVTT and CSV.

The JSON form (design section 10) is what is stored; the others are made from it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from tasks.cues import cues_of, one_line
from tasks.errors import StenoboxError
from tasks.typed import Reader


def as_json(transcript: dict[str, Any]) -> str:
    return json.dumps(transcript, ensure_ascii=False, indent=1)


def as_text(transcript: dict[str, Any]) -> str:
    """One line a segment."""
    return "".join(one_line(segment["text"]) + "\n" for segment in transcript["segments"])


def as_srt(transcript: dict[str, Any]) -> str:
    cues = enumerate(cues_of(transcript), 1)
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n\n"
        for number, cue in cues
    )


def as_vtt(transcript: dict[str, Any]) -> str:
    """WebVTT, in which `&`, `<` and `>` are markup and are escaped (https://www.w3.org/TR/webvtt1/#cue-text)."""
    body = "".join(
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n" + "\n".join(map(_escape, cue.lines)) + "\n\n"
        for cue in cues_of(transcript)
    )
    return "WEBVTT\n\n" + body


def as_csv(transcript: dict[str, Any]) -> str:
    """A row a segment, for spreadsheets: start and end in seconds, speaker, text. RFC 4180, behind a byte-order mark,
    by which Excel knows UTF-8."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(("start", "end", "speaker", "text"))
    for segment in transcript["segments"]:
        times = (f"{max(0.0, segment[name]):.3f}" for name in ("start", "end"))
        rows.writerow((*times, _cell(segment.get("speaker") or ""), _cell(segment["text"])))
    return "\ufeff" + out.getvalue()


class _Word(TypedDict):
    word: str
    start: float | None
    end: float | None


class _Segment(TypedDict):
    start: float
    end: float
    text: str
    words: list[_Word]


class _Transcript(TypedDict):
    language: str | None
    seconds: float
    text: str
    segments: list[_Segment]


_transcript = Reader(_Transcript)


def read(data: bytes) -> dict[str, Any]:
    """A stored transcript. Raises ValueError for what is none, as a broken disk makes of one."""
    try:
        _transcript.decode(data)
        transcript: dict[str, Any] = json.loads(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    return transcript


@dataclass(frozen=True, slots=True)
class Format:
    """How a transcript is written and what the web calls it."""

    write: Callable[[dict[str, Any]], str]
    media_type: str


FORMATS: dict[str, Format] = {
    "txt": Format(as_text, "text/plain; charset=utf-8"),
    "srt": Format(as_srt, "application/x-subrip; charset=utf-8"),
    "vtt": Format(as_vtt, "text/vtt; charset=utf-8"),
    "csv": Format(as_csv, "text/csv; charset=utf-8"),
    "json": Format(as_json, "application/json"),
}


def find_format(name: str) -> Format:
    """Raises StenoboxError unknown_format."""
    try:
        return FORMATS[name]
    except KeyError:
        raise StenoboxError(
            "unknown_format", f"There is no format {name[:40]!r}. Choose one of {', '.join(FORMATS)}.", param="format"
        ) from None


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 (the wide ones count in Japanese Excel)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
