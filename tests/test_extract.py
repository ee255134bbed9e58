"""Sound extracted from recordings, by the real child: every form, from every kind of source."""

from __future__ import annotations

from pathlib import Path

import av
import media_files as media
import numpy as np
import pytest

from tasks.decode import FORMS, SAMPLE_RATE, decode, extract
from tasks.decode.encode import rate_for
from tasks.errors import StenoboxError

SPEECH = media.sound()


def correlation(source: Path) -> float:
    """How much a file sounds like the sample, 1 for the same."""
    decode(source, source.with_suffix(".f32"), 600)
    samples = np.fromfile(source.with_suffix(".f32"), "<f4")
    size = len(samples) + len(SPEECH)
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(SPEECH, size))
    return float(np.fft.irfft(spectrum, size).max() / np.linalg.norm(samples) / np.linalg.norm(SPEECH))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mp4", "wav"])
def test_every_form_sounds_like_its_source(form: str, kind: str, tmp_path: Path) -> None:
    source = media.make(tmp_path / f"film.{kind}", SPEECH, picture=kind == "mp4")
    told: list[float] = []
    target = tmp_path / f"out.{form}"
    sound = extract(source, target, form, None, 600, on_progress=told.append)
    assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.1)
    assert sound.facts.container == kind
    assert told == sorted(told)
    assert told[-1] > 0.9
    with av.open(str(target)) as container:
        (stream,) = container.streams
        assert stream.type == "audio"
        assert container.format.name == FORMS[form].container
        assert stream.channels == 2
        assert stream.rate == 48_000 if form == "opus" else stream.rate in (44_100, 48_000)
    assert correlation(target) > 0.95


def test_bit_rate_track_and_tags(tmp_path: Path) -> None:
    long = np.tile(SPEECH, 4)
    tracks = [{"samples": media.silence(5)}, {"samples": long, "layout": "5.1"}]
    source = media.tracked(tmp_path / "film.mkv", tracks, {"title": "A talk", "genre": "Speech"})
    sizes = {}
    for bitrate in (32_000, 160_000):
        extract(source, tmp_path / "out.mp3", "mp3", bitrate, 600, track=2)
        sizes[bitrate] = (tmp_path / "out.mp3").stat().st_size
    assert sizes[160_000] > 4 * sizes[32_000]
    assert sizes[160_000] == pytest.approx(160_000 / 8 * len(long) / SAMPLE_RATE, rel=0.1)
    with av.open(str(tmp_path / "out.mp3")) as container:
        assert container.metadata["title"] == "A talk"
        assert container.streams.audio[0].channels == 2


def test_a_shape_that_changes_midway_goes_on(tmp_path: Path) -> None:
    source = media.changing(tmp_path / "changing.ts", SPEECH, SPEECH)
    sound = extract(source, tmp_path / "out.flac", "flac", None, 600)
    assert sound.seconds == pytest.approx(2 * len(SPEECH) / SAMPLE_RATE, abs=0.2)
    with av.open(str(tmp_path / "out.flac")) as container:
        assert sum(f.samples for f in container.decode(audio=0)) == pytest.approx(sound.seconds * 48_000, rel=0.02)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: media.video_only(folder / "a.mp4"), "no_audio"),
        (lambda folder: media.plain_wav(folder / "a.wav", SPEECH[:0]), "undecodable"),
        (lambda folder: media.long_silent_flac(folder / "a.flac", 700), "too_long"),
        (lambda folder: media.hostile(folder)["concat.wav"], "undecodable"),
    ],
)
def test_refusals(make: object, code: str, tmp_path: Path) -> None:
    with pytest.raises(StenoboxError) as caught:
        extract(make(tmp_path), tmp_path / "out.mp3", "mp3", None, 600)  # type: ignore[operator]
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("form", "rate", "written"),
    [("mp3", 96_000, 48_000), ("mp3", 16_000, 16_000), ("mp3", 9_000, 11_025), ("mp3", 1, 8_000),
     ("wav", 22_000, 22_000), ("flac", 192_000, 48_000), ("opus", 8_000, 48_000)],
)  # fmt: skip
def test_rates(form: str, rate: int, written: int) -> None:
    assert rate_for(FORMS[form], rate) == written
