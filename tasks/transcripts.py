"""A transcript in the forms people use: JSON, plain text, SubRip, WebVTT and CSV.

The JSON form (design section 10) is what is stored; the others are made from it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.errors import StenoboxError

LINE_CHARACTERS = 42
CUE_SECONDS = 7.0
"""Longest line and cue, from the BBC's and Netflix's subtitle guidelines; two lines a cue."""
GAP_SECONDS = 1.0
"""A pause this long between two words ends a cue."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle: one or two lines shown from start to end, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def as_json(transcript: dict[str, Any]) -> str:
    return json.dumps(transcript, ensure_ascii=False, indent=1)


def as_text(transcript: dict[str, Any]) -> str:
    """One line a segment."""
    return "".join(_one_line(segment["text"]) + "\n" for segment in transcript["segments"])


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


def cues_of(transcript: dict[str, Any]) -> Iterator[Cue]:
    """Subtitles of at most two lines and seven seconds, broken at pauses; whole segments where words have no times."""
    for segment in transcript["segments"]:
        text = _one_line(segment["text"])
        if not text:
            continue
        said = [w for w in segment["words"] if _one_line(w["word"])]
        words = [w for w in said if w["start"] is not None and w["end"] is not None]
        if not words or len(words) != len(said):
            yield Cue(segment["start"], segment["end"], _lines([f" {word}" for word in text.split(" ")]))
            continue
        for group in _groups(list(zip(words, _spelled(text, words), strict=True))):
            (first, _), (last, _) = group[0], group[-1]
            yield Cue(first["start"], max(last["end"], first["start"]), _lines([spelled for _, spelled in group]))


def _spelled(text: str, words: list[dict[str, Any]]) -> list[str]:
    """Each word, after a space if the text has one there.

    Chinese and Japanese come as one "word" a character, without the spaces that the text may have between them.
    """
    spelled, at = [], 0
    for word in (_one_line(word["word"]) for word in words):
        found = text.find(word, at)
        apart = found < 0 or " " in text[at:found]
        spelled.append(f" {word}" if apart else word)
        at = at if found < 0 else found + len(word)
    return spelled


def _groups(words: list[tuple[dict[str, Any], str]]) -> Iterator[list[tuple[dict[str, Any], str]]]:
    group: list[tuple[dict[str, Any], str]] = []
    for word, spelled in words:
        if group and (
            word["start"] - group[-1][0]["end"] > GAP_SECONDS
            or word["end"] - group[0][0]["start"] > CUE_SECONDS
            or len(_lines([*(before for _, before in group), spelled])) > 2
        ):
            yield group
            group = []
        group.append((word, spelled))
    yield group


def _lines(words: list[str]) -> tuple[str, ...]:
    """Words, each with the space before it if there is one, as lines."""
    lines = [words[0].lstrip()]
    for word in words[1:]:
        if len(lines[-1] + word) <= LINE_CHARACTERS:
            lines[-1] += word
        else:
            lines.append(word.lstrip())
    return tuple(re.sub("-+->", "->", line) for line in lines)  # an arrow would end the cue


def _one_line(text: str) -> str:
    # A blank line would end the cue; what controls a terminal would do so when the file is shown in one.
    return _CONTROL.sub("", re.sub(r"\s+", " ", text)).strip()


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    text = _one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 (the wide ones count in Japanese Excel)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
