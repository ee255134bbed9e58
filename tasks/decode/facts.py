"""What a recording says of itself, as data: short, printable and bounded, whatever the file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNDECODABLE = (
    "This file can't be read as a recording: it is damaged, incomplete or not audio or video. "
    "Check that it plays, or convert it to MP3, M4A or WAV and send it again."
)

MOST_TRACKS, MOST_TAGS = 64, 32
KEY_CHARACTERS, VALUE_CHARACTERS = 40, 500

_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska"}
_BRANDS = {"qt": "mov", "m4a": "m4a", "m4b": "m4a", "3gp": "3gp", "3g2": "3gp"}
_TECHNICAL = frozenset({"major_brand", "minor_version", "compatible_brands", "duration", "encoder", "handler_name",
                        "vendor_id", "language", "itunsmpb", "itunnorm", "_statistics_tags"})  # fmt: skip
"""Tags about the file, not about what is recorded."""


@dataclass(frozen=True, slots=True)
class Track:
    """One audio track. number: 1 for the first, as players count; language: a Whisper code, None if it isn't said."""

    number: int
    codec: str
    channels: int
    sample_rate: int
    language: str | None = None
    title: str | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """The file and the track that was heard. bit_rate: bits a second, None where the file doesn't tell; cover: whether
    a picture of it was kept."""

    container: str
    codec: str
    channels: int
    sample_rate: int
    bit_rate: int | None
    track: int
    tracks: list[Track]
    tags: dict[str, str] = field(default_factory=dict)
    cover: bool = False


@dataclass(frozen=True, slots=True)
class Sound:
    """What came out. seconds: length in samples / 16,000; damaged: parts of the file could not be read; peak: bytes of
    memory that reading it took; notes: sentences for the person."""

    seconds: float
    damaged: bool
    peak: int
    facts: Facts
    notes: list[str] = field(default_factory=list)


def container_name(name: str, metadata: Mapping[str, Any]) -> str:
    """libav's name of a container in a word that people know: one demuxer reads a family of them."""
    brand = str(metadata.get("major_brand", "")).strip().lower()
    return _BRANDS.get(brand, _BRANDS.get(brand[:3])) or _CONTAINERS.get(name, name.partition(",")[0])


def clean_tags(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Title, artist and the like: lower-case names, values in one line of printable characters."""
    found: dict[str, str] = {}
    for key, value in metadata.items():
        name = re.sub(r"[^a-z0-9_.-]+", "_", str(key).lower()).strip("_")
        text = clean_text(str(value), VALUE_CHARACTERS)
        if text and name and len(name) <= KEY_CHARACTERS and name not in _TECHNICAL and len(found) < MOST_TAGS:
            found[name] = text
    return found


def clean_text(text: str, most: int) -> str:
    """One line without what can't be shown; longer ones end in an ellipsis."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: most * 4]).split())
    return text if len(text) <= most else text[: most - 1] + "…"
