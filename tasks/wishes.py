"""What can be asked of a job, by its kind, and whether it makes sense: the fields that become its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks import models
from tasks.config import Config
from tasks.decode.facts import MOST_TRACKS
from tasks.decode.forms import FORMS
from tasks.errors import StenoboxError
from tasks.jobs import JobKind, Params
from tasks.languages import NAMES, find_code

FIELDS: dict[JobKind, tuple[str, ...]] = {
    JobKind.TRANSCRIPTION: ("model", "language", "track"),
    JobKind.EXTRACTION: ("format", "bitrate", "language", "track"),
    JobKind.DOWNLOAD: (),
}
"""What may be asked of each kind, besides the media."""


def check_extraction(asked: Mapping[str, Any]) -> Params:
    """Parameters of an extraction. Empty means MP3 at its usual bit rate and the likeliest track.

    Raises StenoboxError unknown_format, unknown_language or invalid_value.
    """
    name = str(asked.get("format") or "mp3").strip().lower()
    if name not in FORMS:
        raise StenoboxError(
            "unknown_format",
            f"Sound can't be extracted as {name[:40]!r}. Choose one of {', '.join(FORMS)}.",
            param="format",
        )
    code = None
    if language := str(asked.get("language") or "").strip():
        code = None if language.lower() == "auto" else find_code(language)
        if code is None and language.lower() != "auto":
            raise StenoboxError("unknown_language", f"There is no language {language[:40]!r}.", param="language")
    return Params(
        "", code, check_track(asked.get("track")), JobKind.EXTRACTION, name, _bitrate(name, asked.get("bitrate"))
    )


def _bitrate(name: str, asked: Any) -> int | None:
    if asked in (None, ""):
        return None
    span = FORMS[name].bitrates
    if span is None:
        sentence = f"{name} has no bit rate to choose: leave it out, or take one of "
        sentence += ", ".join(form.name for form in FORMS.values() if form.bitrates) + "."
        raise StenoboxError("invalid_value", sentence, param="bitrate")
    text = str(asked).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and span[0] <= int(text) <= span[1]):
        raise StenoboxError(
            "invalid_value",
            f"bitrate must be a number of bits a second from {span[0]} to {span[1]} for {name}.",
            param="bitrate",
        )
    return int(text)


def check_transcription(config: Config, model: str | None, language: str | None, track: Any = None) -> Params:
    """Check what was asked for. Empty means the default model, a detected language and the likeliest audio track.

    Raises StenoboxError unknown_model, unknown_language or invalid_value.
    """
    found = models.find(config, model or config.model)
    number = check_track(track)
    if not language or language.strip().lower() == "auto":
        return Params(found.name, None, number)
    code = find_code(language)
    if code is None:
        raise StenoboxError(
            "unknown_language",
            f"There is no language {language[:40]!r}. Send a code such as en or de, "
            "or leave it out to have the language detected.",
            param="language",
        )
    if code not in found.languages:
        known = ", ".join(NAMES[c] for c in found.languages[:8])
        raise StenoboxError(
            "unknown_language",
            f"The model {found.name} does not know {NAMES[code]}. It knows {known}. Choose another model.",
            param="language",
        )
    return Params(found.name, code, number)


def check_track(track: Any) -> int | None:
    """The number of an audio track, from 1; None for the likeliest. Raises StenoboxError invalid_value."""
    text = str(track if track is not None else "").strip().lower()
    if text in ("", "auto"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST_TRACKS):
        raise StenoboxError(
            "invalid_value",
            f"track must be the number of an audio track, from 1 to {MOST_TRACKS}, or be left out.",
            param="track",
        )
    return int(text)
