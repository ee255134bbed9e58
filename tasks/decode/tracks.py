"""Which of a recording's audio tracks is heard, and what is said of all of them."""

from __future__ import annotations

import re
from typing import Any

from tasks.decode.facts import KEY_CHARACTERS, MOST_TRACKS, Track, clean_text
from tasks.errors import StenoboxError
from tasks.languages import find_tag

MOST_MIXED = 16
"""Tracks that are heard together."""

_ASIDE = ("comment", "visual_impaired", "descriptions", "lyrics", "karaoke", "clean_effects")
_ASIDE_TITLE = re.compile(r"comment(ary|aire)|kommentar|audio ?descri|hörfilm", re.IGNORECASE)


def list_tracks(container: Any) -> list[Track]:
    """All audio tracks in order, up to MOST_TRACKS."""
    return [describe(stream, number) for number, stream in enumerate(container.streams.audio[:MOST_TRACKS], 1)]


def describe(stream: Any, number: int) -> Track:
    """One track as data."""
    context = stream.codec_context
    title = clean_text(stream.metadata.get("title") or "", KEY_CHARACTERS * 2)
    return Track(
        number=number,
        codec=context.name if context is not None else "unknown",
        channels=context.channels if context is not None else 0,
        sample_rate=context.sample_rate if context is not None else 0,
        language=find_tag(stream.metadata.get("language", "")),
        title=title or None,
        default=has(stream, "default"),
    )


def choose(container: Any, number: int | None, language: str | None) -> list[list[int]]:
    """The tracks to hear, as numbers from 1: those of the first list together, the next ones only if they are silent.

    Asked for by number: that one. Else the likeliest (one in the language, the default one, no commentary, most
    channels, best rate, first) with all that may hold the rest of the same talk: those without a language of their own
    and no commentary. Raises StenoboxError no_audio or unknown_track.
    """
    streams = container.streams.audio[:MOST_TRACKS]
    if not streams:
        raise StenoboxError(
            "no_audio", "This file has no sound: there is no audio track in it. Send a recording with sound."
        )
    if number is not None:
        if number > len(streams):
            some = "only one audio track" if len(streams) == 1 else f"{len(streams)} audio tracks"
            raise StenoboxError(
                "unknown_track",
                f"There is no audio track {number} in this file: it has {some}. Leave track out or name another.",
                param="track",
            )
        return [[number]]

    def worth(number: int) -> tuple[Any, ...]:
        stream = streams[number - 1]
        context = stream.codec_context
        spoken = language is not None and _tongue(stream) == language
        known = context is not None and context.channels > 0
        rate = (context.bit_rate or 0) if known else 0
        channels = context.channels if known else 0
        return known, spoken, not _aside(stream), has(stream, "default"), channels, rate, -number

    left = sorted(range(1, len(streams) + 1), key=worth, reverse=True)
    groups = []
    while left:
        first = streams[left[0] - 1]
        others = [number for number in left[1:] if _belongs(streams[number - 1], first, language)]
        groups.append(sorted([left[0], *others[: MOST_MIXED - 1]]))
        left = [number for number in left if number not in groups[-1]]
    return groups


def _belongs(other: Any, first: Any, language: str | None) -> bool:
    """Whether a track may hold the rest of what is said in the first: another microphone, the other side of a call."""
    if _aside(first) or _aside(other) or other.codec_context is None:
        return False
    one, two = _tongue(first), _tongue(other)
    if one == two:
        return True
    return None in (one, two) and (language is None or language not in (one, two))


def _tongue(stream: Any) -> str | None:
    return find_tag(stream.metadata.get("language", ""))


def _aside(stream: Any) -> bool:
    """Whether somebody speaks in it about what others say or show."""
    title = stream.metadata.get("title") or stream.metadata.get("handler_name") or ""
    return bool(_ASIDE_TITLE.search(title)) or any(has(stream, kind) for kind in _ASIDE)


def has(stream: Any, disposition: str) -> bool:
    """Whether the file marks this track as that."""
    kinds = type(stream.disposition)
    return disposition in kinds.__members__ and bool(stream.disposition & kinds[disposition])
