"""What is heard of a file with several tracks, and what it says of itself: in the real child."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import media_files as media
import numpy as np
import pytest

from tasks.decode import SAMPLE_RATE, Facts, Sound, decode, facts
from tasks.decode.peaks import FIRST_STEP, MOST, Peaks
from tasks.decode.tracks import MOST_MIXED
from tasks.errors import StenoboxError
from tasks.languages import NAMES, find_tag


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def heard(source: Path, **options: Any) -> tuple[Sound, set[int]]:
    """What the child says, and the pitches it heard in tens of hertz."""
    target = source.with_suffix(".f32")
    sound = decode(source, target, 600, **options)
    samples = np.fromfile(target, "<f4")
    spectrum = np.abs(np.fft.rfft(samples))
    return sound, {
        round(place * SAMPLE_RATE / len(samples), -1) for place in np.nonzero(spectrum > spectrum.max() / 3)[0]
    }


TRACKS: list[dict[str, Any]] = [
    {"samples": tone(300), "language": "ger", "title": "Kommentar", "disposition": "comment"},
    {"samples": tone(400), "language": "eng"},
    {"samples": tone(500), "language": "fra", "default": True},
    {"samples": tone(600), "language": "eng", "layout": "stereo", "title": "Better\x07 one " + "x" * 200},
]


@pytest.mark.parametrize(
    ("options", "pitches"),
    [
        ({}, {500}),
        ({"language": "en"}, {400, 600}),
        ({"language": "fr"}, {500}),
        ({"language": "de"}, {300}),
        ({"language": "uk"}, {500}),
        ({"track": 2}, {400}),
        ({"track": 1, "language": "en"}, {300}),
    ],
)
def test_which_tracks_are_heard(options: dict[str, Any], pitches: set[int], tmp_path: Path) -> None:
    sound, found = heard(media.tracked(tmp_path / "film.mkv", TRACKS), **options)
    assert found == pitches
    assert sound.facts.track == {300: 1, 400: 2, 500: 3, 600: 4}[min(pitches)]
    assert sound.notes == (["Tracks 2 and 4 were mixed."] if len(pitches) > 1 else [])


@pytest.mark.parametrize(
    ("languages", "options", "pitches", "notes"),
    [
        ([None, None, None], {}, {300, 400, 500}, ["Tracks 1, 2 and 3 were mixed."]),
        (["eng", None, "ger"], {}, {300, 400}, ["Tracks 1 and 2 were mixed."]),
        (["eng", None, "ger"], {"language": "en"}, {300}, []),
        ([None, None, None], {"track": 3}, {500}, []),
    ],
)
def test_tracks_of_one_talk_are_mixed(
    languages: list[str | None], options: dict[str, Any], pitches: set[int], notes: list[str], tmp_path: Path
) -> None:
    tracks: list[dict[str, Any]] = [
        {"samples": tone(300 + 100 * number), **({"language": language} if language else {})}
        for number, language in enumerate(languages)
    ]
    sound, found = heard(media.tracked(tmp_path / "film.mkv", tracks), **options)
    assert (found, sound.notes) == (pitches, notes)


@pytest.mark.parametrize("languages", [("und", "und"), ("eng", "ger")])
def test_a_silent_first_track_is_passed_over(languages: tuple[str, str], tmp_path: Path) -> None:
    tracks: list[dict[str, Any]] = [
        {"samples": media.silence(3), "layout": "stereo", "language": languages[0], "default": True},
        {"samples": tone(400), "language": languages[1]},
    ]
    sound, found = heard(media.tracked(tmp_path / "film.mkv", tracks))
    assert found == {400}
    assert sound.facts.track == 2
    assert sound.notes == ["Track 1 is silent, so track 2 was heard."]
    assert decode(tmp_path / "film.mkv", tmp_path / "a.f32", 600, track=1).notes == []
    assert not np.fromfile(tmp_path / "a.f32", "<f4").any()


def test_a_commentary_without_a_flag_is_known_by_its_title(tmp_path: Path) -> None:
    tracks: list[dict[str, Any]] = [{"samples": tone(300)}, {"samples": tone(400), "title": "Director's Commentary"}]
    assert heard(media.tracked(tmp_path / "film.mkv", tracks))[1] == {300}


def test_all_tracks_are_listed_with_what_they_say(tmp_path: Path) -> None:
    found = heard(media.tracked(tmp_path / "film.mkv", TRACKS))[0].facts
    assert [(track.number, track.language, track.default, track.channels) for track in found.tracks] == [
        (1, "de", False, 1),
        (2, "en", False, 1),
        (3, "fr", True, 1),
        (4, "en", False, 2),
    ]
    assert [track.title for track in found.tracks[:3]] == ["Kommentar", None, None]
    assert str(found.tracks[3].title).startswith("Better one xxx")
    assert len(str(found.tracks[3].title)) == 80
    assert (found.container, found.codec, found.sample_rate) == ("matroska", "flac", SAMPLE_RATE)


def test_a_track_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    for tracks, words in ((TRACKS, "it has 4 audio tracks"), (TRACKS[:1], "only one audio track")):
        with pytest.raises(StenoboxError, match=words) as caught:
            heard(media.tracked(tmp_path / "film.mkv", tracks), track=9)
        assert caught.value.code == "unknown_track"


def test_sixty_tracks(tmp_path: Path) -> None:
    tracks = [{"samples": tone(200 + 10 * number, 0.5)} for number in range(60)]
    tracks[41]["default"] = True
    sound, pitches = heard(media.tracked(tmp_path / "many.mkv", tracks))
    assert len(sound.facts.tracks) == 60
    assert len(pitches) == MOST_MIXED
    assert 610 in pitches
    assert sound.peak < 400 * 2**20


def test_tags_are_short_clean_data(tmp_path: Path) -> None:
    tags = {"title": "A <b>talk</b>\n\x1b[31m", "ARTIST": "Ä" * 2000, "x" * 50: "dropped", "a weird/key!": "kept"}
    tags |= {f"tag{number}": "x" for number in range(100)}
    found = heard(media.tracked(tmp_path / "tags.mkv", TRACKS[:1], tags))[0].facts.tags
    assert found["title"] == "A <b>talk</b> [31m"
    assert found["artist"] == "Ä" * 499 + "…"
    assert found["a_weird_key"] == "kept"
    assert len(found) == facts.MOST_TAGS


@pytest.mark.parametrize(
    ("name", "brand", "word"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", "isom", "mp4"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "qt  ", "mov"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "M4A ", "m4a"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "3gp6", "3gp"),
        ("matroska,webm", "", "matroska"),
        ("flac", "", "flac"),
    ],
)
def test_a_container_has_the_name_people_know(name: str, brand: str, word: str) -> None:
    assert facts.container_name(name, {"major_brand": brand} if brand else {}) == word


def test_every_language_of_whisper_has_a_tag_in_files() -> None:
    assert all(find_tag(code) == code for code in NAMES)
    tags = {
        "eng": "en",
        "deu": "de",
        "ger": "de",
        "pt-BR": "pt",
        "zh_Hant": "zh",
        " NOB ": "no",
        "cmn": "zh",
        "und": None,
    }
    assert {tag: find_tag(tag) for tag in tags} == tags


class TestCover:
    def decoded(self, source: Path, folder: Path) -> Facts:
        work = folder / "work"
        work.mkdir()
        return decode(source, folder / "a.f32", 600, extras=work).facts

    @pytest.mark.parametrize(("codec", "mime"), [("png", b"image/png"), ("mjpeg", b"image/jpeg")])
    def test_it_is_drawn_anew_and_small(self, codec: str, mime: bytes, tmp_path: Path) -> None:
        image = media.picture(800, 400, codec) + b"<script>alert(1)</script>"
        assert self.decoded(media.with_picture(tmp_path / "a.flac", tone(300), image, mime), tmp_path).cover
        cover = (tmp_path / "work" / "cover.jpg").read_bytes()
        assert b"script" not in cover
        with av.open(str(tmp_path / "work" / "cover.jpg"), format="image2") as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.width, context.height) == ("mjpeg", 320, 160)

    def test_one_that_cannot_be_read_is_left_out(self, tmp_path: Path) -> None:
        image = media.picture(100, 100)[:40] + bytes(1000)
        source = media.with_picture(tmp_path / "a.flac", tone(300), image)
        found = self.decoded(source, tmp_path)
        assert not found.cover
        assert not (tmp_path / "work" / "cover.jpg").exists()
        assert found.tracks[0].codec == "flac"

    def test_one_that_unfolds_to_gigabytes_is_left_out(self, tmp_path: Path) -> None:
        bomb = media.picture(100, 100, "png")
        bomb = bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:]
        work = tmp_path / "work"
        work.mkdir()
        source = media.with_picture(tmp_path / "a.flac", tone(300), bomb)
        sound = decode(source, tmp_path / "a.f32", 600, extras=work)
        assert not sound.facts.cover
        assert sound.peak < 250 * 2**20


class TestPeaks:
    def test_each_step_has_its_loudest_sample(self) -> None:
        peaks = Peaks(SAMPLE_RATE)
        samples = np.zeros(FIRST_STEP * 4 + 10, np.float32)
        samples[5], samples[FIRST_STEP * 2], samples[-1] = -1.5, 0.5, 0.25
        for part in np.array_split(samples, 7):
            peaks.add(part)
        assert json.loads(peaks.as_json()) == {"seconds_per_peak": 0.01, "peaks": [255, 0, 128, 0, 64]}

    def test_steps_double_and_nothing_moves(self) -> None:
        """Four hours, loud only for a second at three of them."""
        peaks, second = Peaks(SAMPLE_RATE), np.zeros(SAMPLE_RATE, np.float32)
        for number in range(4 * 3600):
            peaks.add(second + (0.5 if number == 3 * 3600 else 0))
        text = peaks.as_json()
        assert len(text) < 250_000
        found = json.loads(text)
        step, values = found["seconds_per_peak"], np.array(found["peaks"])
        assert MOST / 2 <= len(values) <= MOST
        assert len(values) * step == pytest.approx(4 * 3600, abs=step)
        loud = np.nonzero(values)[0] * step
        assert (loud.min(), loud.max()) == (pytest.approx(3 * 3600, abs=step), pytest.approx(3 * 3600 + 1, abs=step))

    def test_nothing_and_what_is_no_number(self) -> None:
        assert json.loads(Peaks(SAMPLE_RATE).as_json())["peaks"] == []
        peaks = Peaks(SAMPLE_RATE)
        peaks.add(np.full(FIRST_STEP, np.nan, np.float32))
        assert json.loads(peaks.as_json())["peaks"] == [0]

    def test_the_child_writes_them(self, tmp_path: Path) -> None:
        work = tmp_path / "work"
        work.mkdir()
        sound = decode(media.make(tmp_path / "a.mp3", media.sound()), tmp_path / "a.f32", 600, extras=work)
        found = json.loads((work / "peaks.json").read_bytes())
        assert len(found["peaks"]) == pytest.approx(sound.seconds * 100, abs=1)
        assert max(found["peaks"]) == pytest.approx(255 * float(np.abs(media.sound()).max()), abs=12)
        assert {path.name for path in work.iterdir()} == {"peaks.json"}
