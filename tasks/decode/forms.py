"""What sound can be extracted as. Known without libav, for forms and refusals."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_RATE, MOST_CHANNELS = 48_000, 2
"""Of what is extracted: all that a voice has, and a file whose size can be told from its length."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write sound. bitrates: least and most bits a second, None where there is nothing to choose; options:
    of the container."""

    name: str
    title: str
    container: str
    codec: str
    media_type: str
    bitrates: tuple[int, int] | None = None
    default_bitrate: int | None = None
    options: dict[str, str] = field(default_factory=dict)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("mp3", "MP3", "mp3", "libmp3lame", "audio/mpeg", (32_000, 320_000), 128_000),
        Form("opus", "Opus", "ogg", "libopus", "audio/ogg", (8_000, 256_000), 64_000),
        Form("wav", "WAV", "wav", "pcm_s16le", "audio/wav", options={"rf64": "auto"}),
        Form("flac", "FLAC", "flac", "flac", "audio/flac"),
    )
}

BYTES_PER_SECOND = MOST_RATE * MOST_CHANNELS * 2
"""The most that any of them takes."""
