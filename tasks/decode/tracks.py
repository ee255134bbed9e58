"""Which of a recording's audio tracks is heard, and what is said of all of them."""

from __future__ import annotations

from typing import Any

from tasks.decode.facts import KEY_CHARACTERS, MOST_TRACKS, Track, clean_text
from tasks.errors import StenoboxError
from tasks.languages import find_tag


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


def choose(container: Any, number: int | None, language: str | None) -> tuple[int, Any]:
    """The track to hear, as its number from 1 and its stream: the one asked for by number; else one in the language,
    the default one, no commentary, most channels, best rate, first. Raises StenoboxError no_audio or unknown_track."""
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
        return number, streams[number - 1]

    def worth(entry: tuple[int, Any]) -> tuple[Any, ...]:
        place, stream = entry
        context = stream.codec_context
        spoken = language is not None and find_tag(stream.metadata.get("language", "")) == language
        aside = any(has(stream, kind) for kind in ("comment", "visual_impaired", "lyrics", "karaoke"))
        known = context is not None and context.channels > 0
        rate = (context.bit_rate or 0) if known else 0
        return known, spoken, not aside, has(stream, "default"), context.channels if known else 0, rate, -place

    return max(enumerate(streams, 1), key=worth)


def has(stream: Any, disposition: str) -> bool:
    """Whether the file marks this track as that."""
    return bool(stream.disposition & type(stream.disposition)[disposition])
