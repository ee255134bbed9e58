"""What can be asked of a job, and whether it makes sense: the fields that become its parameters."""

from __future__ import annotations

from tasks import models
from tasks.config import Config
from tasks.decode.facts import MOST_TRACKS
from tasks.errors import StenoboxError
from tasks.jobs import Params
from tasks.languages import NAMES, find_code


def check_transcription(
    config: Config, model: str | None, language: str | None, track: str | int | None = None
) -> Params:
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


def check_track(track: str | int | None) -> int | None:
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
