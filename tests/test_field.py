"""Recordings that broke elsewhere, through the real server: the words are there, at their times, and notes are true."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import media_files as media
import numpy as np
import pytest
from support import TRUTH, Served
from test_all_heard import write_wav

from tasks import choosing

RATE = media.RATE
MORNING, GOOD = media.sound("en-u000.flac"), media.sound("en-u014.flac")
WORDS = TRUTH["en-u014.flac"]["text"].split()
FIRST = TRUTH["en-u000.flac"]["text"].split()
SECOND_AT = len(MORNING) / RATE + 2
FULL = np.concatenate([MORNING, media.silence(2), GOOD, media.silence(0.7)])


def hole(seconds: float) -> bool:
    return 2.9 < seconds < 4.9


def gap(container: str, kind: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = media.make(folder / f"whole.{kind}", FULL)
        return media.remuxed(whole, folder / f"gap.{container}", container, keep=lambda seconds: not hole(seconds))

    return make


def damaged(folder: Path) -> Path:
    return media.remuxed(media.make(folder / "whole.m4a", FULL), folder / "damaged.m4a", "ipod", spoil=hole)


def two_tracks(folder: Path) -> Path:
    second = np.concatenate([media.silence(4), GOOD])
    return media.tracked(folder / "talk.mkv", [{"samples": MORNING}, {"samples": second}])


def silent_first(folder: Path) -> Path:
    silence = {"samples": media.silence(8), "layout": "stereo", "default": True}
    return media.tracked(folder / "silent.mkv", [silence, {"samples": GOOD}])


def faint(folder: Path) -> Path:
    return write_wav(folder / "faint.wav", GOOD * 10 ** (-50 / 20))


def inverse(folder: Path) -> Path:
    return write_wav(folder / "inverse.wav", np.stack([GOOD, -GOOD], axis=1))


def nearly_inverse(folder: Path) -> Path:
    return write_wav(folder / "nearly.wav", np.stack([GOOD, -0.97 * GOOD], axis=1))


def zeros(folder: Path) -> Path:
    path = media.make(folder / "zeros.mp3", GOOD)
    path.write_bytes(bytes(200_000) + path.read_bytes())
    return path


def short_header(folder: Path) -> Path:
    path = media.plain_wav(folder / "short.wav", GOOD)
    data = bytearray(path.read_bytes())
    data[4:8], data[40:44] = struct.pack("<I", 36 + 16_000), struct.pack("<I", 16_000)
    path.write_bytes(data)
    return path


def chained(folder: Path) -> Path:
    first = media.make(folder / "one.ogg", MORNING)
    second = media.make(folder / "two.ogg", GOOD, layout="mono")
    (folder / "chained.ogg").write_bytes(first.read_bytes() + second.read_bytes())
    return folder / "chained.ogg"


@dataclass(frozen=True)
class Case:
    """What is heard of it: seconds, words, and when the first word of GOOD begins."""

    make: Callable[[Path], Path]
    seconds: float
    good: float
    words: list[str]
    note: str | None = None


SHORT = len(GOOD) / RATE
GOOD_AT = TRUTH["en-u014.flac"]["words"][0]["start"]
MISSING = "About 2 s are missing in the middle: silence stands in for them."
HARMED = "Parts of the file could not be read: silence stands in for them."
BOTH = [*FIRST, *WORDS]
CASES = {
    "gap.webm": Case(gap("webm", "webm"), 10.2, SECOND_AT + GOOD_AT, BOTH, MISSING),
    "gap.mp4": Case(gap("mp4", "m4a"), 10.2, SECOND_AT + GOOD_AT, BOTH, MISSING),
    "damaged": Case(damaged, 10.2, SECOND_AT + GOOD_AT, BOTH, HARMED),
    "late": Case(
        lambda folder: media.make(folder / "late.mp4", GOOD, picture=True, late=75.0), 75 + SHORT, 75 + GOOD_AT, WORDS
    ),
    "two tracks": Case(two_tracks, 4 + SHORT, 4 + GOOD_AT, BOTH, "Tracks 1 and 2 were mixed."),
    "silent first": Case(silent_first, 8.0, GOOD_AT, WORDS, "Track 1 is silent, so track 2 was heard."),
    "faint": Case(faint, SHORT, GOOD_AT, WORDS),
    "inverse": Case(inverse, SHORT, GOOD_AT, WORDS),
    "nearly inverse": Case(nearly_inverse, SHORT, GOOD_AT, WORDS),
    "zeros": Case(zeros, SHORT, GOOD_AT, WORDS),
    "short header": Case(short_header, SHORT, GOOD_AT, WORDS),
    "chained": Case(chained, len(MORNING) / RATE + SHORT, len(MORNING) / RATE + GOOD_AT, BOTH),
}


def noted(note: str | None) -> str:
    """The whole note: that it was the demo model is said of each."""
    return " ".join(filter(None, (note, choosing.DEMO_NOTE)))


@pytest.fixture(scope="module")
def submitted(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A job for each, all submitted at once."""
    folders = {name: tmp_path_factory.mktemp("field") for name in CASES}
    return {name: served.submit(case.make(folders[name])) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_its_words_are_heard_at_their_times(served: Served, submitted: dict[str, dict[str, Any]], name: str) -> None:
    case, job = CASES[name], served.finish(submitted[name])
    assert job["state"] == "completed", job["error"]
    assert job["source"]["seconds"] == pytest.approx(case.seconds, abs=0.15)
    assert job["note"] == noted(case.note)
    transcript = served.transcript(job).json()
    heard = transcript["text"].split()
    assert heard[-len(WORDS) :] == WORDS
    assert heard == case.words or name == "gap.webm"  # where one word more is heard in the first
    times = {word["word"]: word["start"] for segment in transcript["segments"] for word in segment["words"]}
    assert times[WORDS[0]] == pytest.approx(case.good, abs=0.1)


NOTHING = {
    "silence": media.silence(5),
    "faint noise": np.random.default_rng(3).normal(0, 1e-3, 6 * RATE).astype(np.float32),
    "a faint tone": (2e-3 * np.sin(np.arange(6 * RATE) * 0.2)).astype(np.float32),
    "plucked": sum(
        np.roll(np.exp(-np.arange(8 * RATE) / 3_000) * np.sin(np.arange(8 * RATE) * pitch), at).astype(np.float32)
        for pitch, at in ((0.08, 0), (0.1, 20_000), (0.12, 50_000), (0.16, 90_000))
    )
    * np.float32(5e-3),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_faint_and_no_speech_stays_without_words(served: Served, name: str, tmp_path: Path) -> None:
    job = served.finish(served.submit(write_wav(tmp_path / "nothing.wav", np.asarray(NOTHING[name]))))
    assert (job["state"], job["note"]) == ("completed", noted("No speech found."))
