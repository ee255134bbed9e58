"""Formats in and out: the same speech in every container and codec becomes the same words, through the real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from media_files import FORMATS, SAMPLE, WITH_PICTURE, make, silence, sound, truncated, video_only
from support import SAMPLES, TRUTH, Served

WORDS = TRUTH[SAMPLE]["text"].split()
NAMED = ("wav", "mp3", "m4a", "ogg", "flac", "mp4", "mkv", "webm")
"""What the README promises; the makers know a few more."""


def words(transcript: dict[str, Any]) -> list[dict[str, Any]]:
    return [word for segment in transcript["segments"] for word in segment["words"]]


@pytest.fixture(scope="module")
def submitted(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A job for each format, all submitted at once."""
    folder = tmp_path_factory.mktemp("formats")
    files = {kind: make(folder / f"talk.{kind}", sound(), picture=kind in WITH_PICTURE) for kind in FORMATS}
    return {kind: served.submit(path) for kind, path in files.items()}


def test_the_makers_know_every_promised_format() -> None:
    assert set(NAMED) <= set(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_recording_in_any_format_becomes_the_same_words(
    served: Served, submitted: dict[str, dict[str, Any]], kind: str
) -> None:
    job = served.finish(submitted[kind])
    assert job["state"] == "completed", job["error"]
    assert job["source"]["name"] == f"talk.{kind}"
    assert job["source"]["seconds"] == pytest.approx(TRUTH[SAMPLE]["seconds"], abs=0.1)
    transcript = served.transcript(job).json()
    assert transcript["language"] == "en"
    assert transcript["text"].split() == WORDS
    for word, true in zip(words(transcript), TRUTH[SAMPLE]["words"], strict=True):
        assert word["word"] == true["word"]
        assert word["start"] == pytest.approx(true["start"], abs=0.1)
        assert word["end"] == pytest.approx(true["end"], abs=0.1)


def test_every_format_out_holds_the_same_words(served: Served, submitted: dict[str, dict[str, Any]]) -> None:
    job = served.finish(submitted["wav"])
    assert served.transcript(job, "txt").text.split() == WORDS
    for form, start in (("srt", "1\n"), ("vtt", "WEBVTT\n\n")):
        body = served.transcript(job, form).text
        assert body.startswith(start)
        spoken = re.sub(r"(WEBVTT|^\d+$|^.* --> .*$)", "", body, flags=re.MULTILINE)
        assert spoken.split() == WORDS


@pytest.mark.parametrize("named", ["de", ""])
def test_another_language_is_taken_as_named_or_detected(served: Served, named: str) -> None:
    truth = TRUTH["de-u012.flac"]
    done = served.finish(served.submit(SAMPLES / truth["file"], language=named))
    assert done["params"]["language"] == (named or None)
    transcript = served.transcript(done).json()
    assert transcript["language"] == "de"
    assert transcript["text"].split() == truth["text"].split()


def test_silence_completes_without_segments_and_says_so(served: Served, tmp_path: Path) -> None:
    done = served.finish(served.submit(make(tmp_path / "silence.wav", silence(3.0))))
    assert (done["state"], done["error"]) == ("completed", None)
    assert "no speech found" in done["note"].lower()
    transcript = served.transcript(done).json()
    assert (transcript["text"], transcript["segments"]) == ("", [])


@pytest.mark.parametrize("start", [0, 8_000, 20_000])
def test_50_milliseconds_of_sound_hold_a_word_or_are_said_to_hold_none(
    served: Served, tmp_path: Path, start: int
) -> None:
    done = served.finish(served.submit(make(tmp_path / "blip.wav", sound()[start : start + 800])))
    assert done["state"] == "completed"
    assert done["source"]["seconds"] == 0.05
    transcript = served.transcript(done).json()
    assert bool(transcript["segments"]) is bool(transcript["text"]) is ("No speech found." not in done["note"])
    times = [time for part in [*transcript["segments"], *words(transcript)] for time in (part["start"], part["end"])]
    assert all(0 <= time <= 0.05 for time in times)


def test_what_can_not_be_transcribed_fails_with_a_code_and_a_sentence(served: Served, tmp_path: Path) -> None:
    text = tmp_path / "text.mp3"
    text.write_text("This is a text, not a recording.\n" * 50)
    jobs = {
        "no_audio": served.submit(video_only(tmp_path / "silent.mp4")),
        "undecodable": served.submit(text),
    }
    cut = served.submit(truncated(make(tmp_path / "a.mp4", sound()), tmp_path / "cut.mp4", 0.5))
    for code, job in [*jobs.items(), ("undecodable", cut)]:
        done = served.finish(job)
        assert done["state"] == "failed"
        assert done["error"]["code"] == code
        assert re.match(r"[A-Z].*\.$", done["error"]["message"])
        assert served.transcript(done).status_code == 409
