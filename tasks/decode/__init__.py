"""Hostile bytes in, 16 kHz mono sound out: one short-lived child a job, and what the file says of itself.

The child opens the file through PyAV with whitelists (without them a text named .mp3 reads other files on the disk
or dials out), in a sandbox, under limits on memory, CPU, files and length, and writes little-endian float32 samples as
it goes, so that its own memory stays the same for any length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.capacity import SPARE_BYTES, WORK_SPARE_BYTES
from tasks.decode.facts import Facts, Sound, Track
from tasks.decode.forms import FORMS, Form
from tasks.decode.process import Started, Told, converse
from tasks.decode.samples import BYTES_PER_SECOND, SAMPLE_RATE
from tasks.typed import Reader

__all__ = ["BYTES_PER_SECOND", "FORMS", "SAMPLE_RATE", "Facts", "Form", "Sound", "Track", "decode", "extract"]

_sound = Reader(Sound)


def decode(
    source: Path,
    target: Path,
    max_seconds: float,
    *,
    track: int | None = None,
    language: str | None = None,
    extras: Path | None = None,
    on_progress: Told = lambda _: None,
    on_start: Started = lambda _: None,
) -> Sound:
    """Decode source into target, which gets 64,000 bytes a second. on_start receives the child, to end it.

    track: which audio track, from 1; None for the likeliest, one in the language if there is one. extras: the child's
    working folder, which gets peaks.json and, where the file has a picture, cover.jpg; None for neither.
    Raises StenoboxError undecodable, no_audio, unknown_track, too_long, timed_out, disk_full or storage_failing, and
    ChildDied when it was killed.
    """
    task = _task(source, target, max_seconds, track, language)
    task |= {"extras": str(extras) if extras else None, "spare_bytes": WORK_SPARE_BYTES}  # it is gone after the job
    answer = converse(task, extras or Path("/"), on_progress, on_start)
    return _sound.convert(answer["sound"])


def extract(
    source: Path,
    target: Path,
    form: str,
    bitrate: int | None,
    max_seconds: float,
    *,
    track: int | None = None,
    language: str | None = None,
    on_progress: Told = lambda _: None,
    on_start: Started = lambda _: None,
) -> Sound:
    """Write the sound of source to target as one of FORMS. bitrate: bits a second, None for the form's own.

    The rest, and what it raises, as for `decode`; the child works in target's folder.
    """
    task = _task(source, target, max_seconds, track, language)
    task |= {"form": form, "bitrate": bitrate, "spare_bytes": SPARE_BYTES}  # it stays
    answer = converse(task, target.parent, on_progress, on_start)
    return _sound.convert(answer["sound"])


def _task(source: Path, target: Path, max_seconds: float, track: int | None, language: str | None) -> dict[str, Any]:
    chosen = {"max_seconds": max_seconds, "track": track, "language": language}
    return chosen | {"source": str(source), "target": str(target), "extras": None, "form": None, "bitrate": None}
