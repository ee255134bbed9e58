"""How long a recording is, roughly, before anything has looked into it: from its size and the kind of its name."""

from __future__ import annotations

_BYTES_A_SECOND = {
    "wav": 32_000, "aiff": 32_000, "aif": 32_000, "w64": 32_000, "flac": 20_000, "mp3": 14_000, "m4a": 12_000,
    "aac": 12_000, "mp4a": 12_000, "m4b": 8_000, "wma": 12_000, "ogg": 8_000, "oga": 8_000, "opus": 5_000, "amr": 1_200,
    "3gp": 4_000, "webm": 12_000, "mp4": 60_000, "mov": 100_000, "mkv": 60_000, "avi": 100_000, "flv": 50_000,
    "ts": 100_000, "m2ts": 200_000, "wmv": 60_000,
}  # fmt: skip
"""What speech commonly is recorded with: at the lower end, for a time that is told too short disappoints."""
_ANY = 12_000


def guess(name: str, size: int | None) -> float | None:
    """Seconds; None for an unknown size. name: of the file, only its suffix counts; size: bytes."""
    if size is None:
        return None
    return size / _BYTES_A_SECOND.get(name.rpartition(".")[2].lower(), _ANY)
