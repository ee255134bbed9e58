"""Time is the recording's own: whatever is missing, late or broken, what follows stays where it is."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import media_files as media
import numpy as np
import pytest

from tasks.decode import SAMPLE_RATE, Sound, notes
from tasks.decode import child as decoding
from tasks.decode.timeline import Clock, Lost, Story, place
from tasks.errors import StenoboxError

FIRST, SECOND = media.sound("en-u000.flac"), media.sound("en-u014.flac")
PAUSE = 2.0
BEGINS = len(FIRST) / SAMPLE_RATE + PAUSE
"""Seconds at which the second sentence does."""
WHOLE = np.concatenate([FIRST, media.silence(PAUSE), SECOND, media.silence(0.7)])
MISSING = "About 2 s are missing in the middle: silence stands in for them."


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "say", lambda **_: None)


def heard(source: Path, most: float = 600, **options: Any) -> tuple[Sound, np.ndarray]:
    target = source.with_name("out.f32")
    sound = decoding.hear(source, target, most, **options)
    samples = np.fromfile(target, "<f4")
    assert len(samples) == round(sound.seconds * SAMPLE_RATE)
    return sound, samples


def begins(samples: np.ndarray, part: np.ndarray = SECOND) -> float:
    """Seconds at which a part is found in samples; it must be there."""
    size = len(samples) + len(part)
    found = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(part, size)), size)[: len(samples)]
    at = int(np.argmax(found))
    there = samples[at : at + len(part)]
    assert found[at] > 0.8 * np.linalg.norm(there) * np.linalg.norm(part[: len(there)])
    return at / SAMPLE_RATE


def hole(seconds: float) -> bool:
    return 2.9 < seconds < 4.9


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wholes")
    return {kind: media.make(folder / f"whole.{kind}", WHOLE) for kind in ("m4a", "webm", "ts")}


CONTAINERS = [
    ("m4a", "ipod"), ("m4a", "mp4"), ("m4a", "mov"), ("m4a", "matroska"), ("m4a", "mpegts"), ("m4a", "flv"),
    ("webm", "webm"), ("webm", "matroska"), ("webm", "ogg"), ("webm", "mp4"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "container"), CONTAINERS)
def test_a_hole_is_silence_and_said(kind: str, container: str, wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(wholes[kind], tmp_path / "gap", container, keep=lambda seconds: not hole(seconds))
    sound, samples = heard(source)
    assert begins(samples) == pytest.approx(BEGINS, abs=0.1)
    assert sound.seconds == pytest.approx(len(WHOLE) / SAMPLE_RATE, abs=0.1)
    if container != "ogg":  # which has one time a page, not one a packet
        assert not samples[round(3.1 * SAMPLE_RATE) : round(4.7 * SAMPLE_RATE)].any()
    assert (sound.notes, sound.damaged) == ([MISSING], False)


@pytest.mark.parametrize(("kind", "container"), [*CONTAINERS[:5], ("webm", "matroska")])
def test_what_can_not_be_read_is_silence_too(
    kind: str, container: str, wholes: dict[str, Path], tmp_path: Path
) -> None:
    source = media.remuxed(wholes[kind], tmp_path / "spoilt", container, spoil=hole)
    if kind == "webm":  # Opus reads whatever comes: only what follows counts
        assert begins(heard(source)[1]) == pytest.approx(BEGINS, abs=0.1)
        return
    sound, samples = heard(source)
    assert begins(samples) == pytest.approx(BEGINS, abs=0.1)
    assert (sound.notes, sound.damaged) == ([notes.HARMED], True)


def test_two_holes_are_two(wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(
        wholes["m4a"], tmp_path / "gaps", "mp4", keep=lambda at: not (1 < at < 1.5) and not (3 < at < 4.5)
    )
    assert heard(source)[0].notes == ["About 2 s are missing in 2 places: silence stands in for them."]


@pytest.mark.parametrize("form", ["flac", "mp3"])
def test_what_is_extracted_has_the_same_times(form: str, wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(wholes["m4a"], tmp_path / "gap", "mp4", keep=lambda seconds: not hole(seconds))
    sound = decoding.extract(source, tmp_path / f"out.{form}", form, None, 600)
    assert sound.notes == [MISSING]
    assert sound.seconds == pytest.approx(len(WHOLE) / SAMPLE_RATE, abs=0.1)
    assert begins(heard(tmp_path / f"out.{form}")[1]) == pytest.approx(BEGINS, abs=0.1)


def test_peaks_have_the_same_times(wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(wholes["m4a"], tmp_path / "gap", "mp4", keep=lambda seconds: not hole(seconds))
    heard(source, extras=tmp_path)
    peaks = decoding.json.loads((tmp_path / "peaks.json").read_bytes())["peaks"]
    assert max(peaks[310:470]) == 0
    assert max(peaks[580:700]) > 30


@pytest.mark.parametrize("late", [2.5, 75.0])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_sound_that_begins_late(kind: str, late: float, tmp_path: Path) -> None:
    source = media.make(tmp_path / f"late.{kind}", SECOND, picture=True, late=late)
    sound, samples = heard(source)
    assert begins(samples) == pytest.approx(late, abs=0.1)
    assert sound.notes == []


@pytest.mark.parametrize("hours", [1, 9, 300])
@pytest.mark.parametrize(
    ("kind", "container"), [("m4a", "matroska"), ("webm", "webm"), ("webm", "ogg"), ("m4a", "mp4")]
)
def test_a_clock_that_does_not_begin_at_zero(
    kind: str, container: str, hours: int, wholes: dict[str, Path], tmp_path: Path
) -> None:
    source = media.remuxed(wholes[kind], tmp_path / "hours", container, later=lambda _: 3600.0 * hours)
    sound, samples = heard(source, most=60)
    assert begins(samples) == pytest.approx(BEGINS, abs=0.1)
    assert sound.notes == []


def test_a_clock_that_starts_again(tmp_path: Path) -> None:
    part = media.make(tmp_path / "a.ts", SECOND).read_bytes()
    (tmp_path / "twice.ts").write_bytes(part * 2)
    sound, samples = heard(tmp_path / "twice.ts")
    assert sound.seconds == pytest.approx(2 * len(SECOND) / SAMPLE_RATE, abs=0.2)
    assert begins(samples[len(SECOND) // 2 :]) == pytest.approx(len(SECOND) / SAMPLE_RATE / 2, abs=0.1)
    assert sound.notes == []


def placed(times: list[float | Lost | None], **clock: Any) -> tuple[list[float], Story]:
    """Where frames of a fifth of a second with these timestamps come to lie."""
    story, at, starts = Story(), 0.0, []
    items = [
        time if isinstance(time, Lost) else SimpleNamespace(time=time, samples=3_200, sample_rate=SAMPLE_RATE)
        for time in times
    ]
    known = {"origin": 0.0, "most": 100.0, "stamped": True, "stream": False} | clock
    for gap, frame in place(iter(items), Clock(**known), story):
        at += gap
        if frame is not None:
            starts.append(round(at, 3))
            at += 0.2
    assert story.position == pytest.approx(at)
    return starts, story


def clock(start: float, count: int = 5) -> list[float | Lost | None]:
    return [round(start + 0.2 * number, 3) for number in range(count)]


@pytest.mark.parametrize(
    ("times", "starts"),
    [
        (clock(0, 10), clock(0, 10)),
        (clock(3), clock(3)),  # it begins late
        (clock(0) + clock(4), clock(0) + clock(4)),
        (clock(0) + clock(50), clock(0) + clock(50)),
        (clock(0) + clock(1.04), clock(0, 10)),  # jitter
        (clock(0) + [time - 0.3 for time in clock(1)], clock(0, 10)),  # time never goes back
        (clock(50, 5) + clock(0), clock(50, 10)),  # a clock that starts again
        (clock(0) + clock(5_000), clock(0, 10)),  # past the limit: another clock
        ([*clock(0), 33.0, *clock(1.2)], clock(0, 11)),  # one wrong timestamp
        ([*clock(0), 33.0, 33.2, *clock(1.4)], clock(0, 12)),
        ([*clock(0), 9000000000.0, *clock(1.2)], clock(0, 11)),
        ([*clock(4), 0.0, *clock(5.2)], clock(4, 11)),
        (clock(0) + [None] * 5, clock(0, 10)),
        ([*clock(0), Lost(1.0, True), *clock(2)], clock(0) + clock(2)),
        ([*clock(0), Lost(1.0, True), *([None] * 5)], clock(0) + clock(2)),
    ],
)
def test_which_timestamps_are_believed(times: list[float | Lost | None], starts: list[float]) -> None:
    assert placed(times)[0] == pytest.approx(starts)


def test_a_stream_of_broadcasts_may_set_its_clock_anew() -> None:
    assert placed(clock(0) + clock(90), stream=True)[0] == pytest.approx(clock(0) + clock(90))
    assert placed(clock(0) + clock(4_000), stream=True, most=10_000)[0] == pytest.approx(clock(0, 10))


def test_what_is_damage_and_what_is_missing() -> None:
    story = placed([*clock(0), Lost(0.5, True), *clock(4)])[1]
    assert (round(story.harmed, 3), round(story.missing, 3), story.places) == (0.5, 2.5, 1)
    story = placed([*clock(0), Lost(3.0, False), *clock(4)])[1]
    assert (story.harmed, story.missing, story.lost) == (0.0, 0.0, 0.0)
    story = placed([*clock(0), Lost(3.0, True)])[1]
    assert (story.position, story.harmed) == (pytest.approx(4.0), 3.0)


def test_a_clock_that_jumps_past_every_limit_is_another_clock(wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(
        wholes["webm"], tmp_path / "jump", "matroska", later=lambda seconds: 90_000.0 if seconds > 4 else 0.0
    )
    sound, samples = heard(source)
    assert begins(samples) == pytest.approx(BEGINS, abs=0.1)
    assert sound.seconds == pytest.approx(len(WHOLE) / SAMPLE_RATE, abs=0.2)


@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_an_mp3_with_ruined_bytes_keeps_its_times(filling: str, tmp_path: Path) -> None:
    """Frames alone have no times: bytes that are none took as long as others."""
    samples = np.concatenate([SECOND, SECOND, SECOND])
    data = bytearray(media.make(tmp_path / "whole.mp3", samples).read_bytes())
    start, size = len(data) // 3, len(data) // 4
    data[start : start + size] = bytes(size) if filling == "zeros" else random.Random(5).randbytes(size)
    (tmp_path / "ruined.mp3").write_bytes(data)
    sound, found = heard(tmp_path / "ruined.mp3")
    assert sound.notes == [notes.HARMED]
    assert begins(found[-len(SECOND) - SAMPLE_RATE :]) == pytest.approx(1, abs=0.3)


def test_an_mp3_whose_rate_changes_is_whole(tmp_path: Path) -> None:
    parts = [media.make(tmp_path / f"{rate}.mp3", SECOND, rate=rate, layout="mono") for rate in (44_100, 22_050)]
    (tmp_path / "both.mp3").write_bytes(b"".join(part.read_bytes() for part in parts))
    sound, _ = heard(tmp_path / "both.mp3")
    assert (sound.notes, sound.damaged) == ([], False)
    assert sound.seconds == pytest.approx(2 * len(SECOND) / SAMPLE_RATE, abs=0.2)


def test_a_file_in_which_another_track_begins_is_heard_to_its_end(tmp_path: Path) -> None:
    """A camera that is switched on late, in FLV: PyAV's demuxer raises IndexError there."""
    long = np.concatenate([FIRST, media.silence(5), SECOND])
    first = media.make(tmp_path / "a.flv", long).read_bytes()
    second = tmp_path / "b.flv"
    with av.open(str(second), "w", format="flv") as container:
        picture: Any = container.add_stream("flv", rate=10)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            frame.pts = number + 140
            container.mux(picture.encode(frame.reformat(format="yuv420p")))
        container.mux(picture.encode(None))
    (tmp_path / "live.flv").write_bytes(first + second.read_bytes()[13:])
    sound, samples = heard(tmp_path / "live.flv")
    assert sound.seconds == pytest.approx(len(long) / SAMPLE_RATE, abs=0.2)
    assert sound.notes == []
    assert begins(samples) == pytest.approx(BEGINS + 3, abs=0.1)


@pytest.mark.parametrize("container", ["amr", "3gp"])
def test_pauses_of_a_telephone_are_time(container: str, tmp_path: Path) -> None:
    """AMR with DTX: frames that say that nobody speaks, which libav refuses."""
    whole = media.make(tmp_path / f"whole.{container}", np.concatenate([media.silence(6), SECOND]), kind=container)

    def silent(data: bytes, seconds: float) -> bytes:
        return (b"\x7c" if int(seconds * 50) % 8 else b"\x44" + bytes(5)) if 1 < seconds < 5.9 else data

    target = tmp_path / f"dtx.{container}"
    with av.open(str(whole)) as old, av.open(str(target), "w", format=container) as new:
        stream = old.streams.audio[0]
        written = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if packet.size:
                copy = av.Packet(silent(bytes(packet), number / 50))
                copy.pts = copy.dts = number * 160
                copy.duration, copy.time_base, copy.stream = 160, packet.time_base, written
                new.mux(copy)
    sound, samples = heard(target)
    assert sound.seconds == pytest.approx(6 + len(SECOND) / SAMPLE_RATE, abs=0.1)
    assert begins(samples) == pytest.approx(6, abs=0.1)
    assert (sound.notes, sound.damaged) == ([], False)


def test_the_limit_counts_silence_too(wholes: dict[str, Path], tmp_path: Path) -> None:
    source = media.remuxed(wholes["m4a"], tmp_path / "gap", "mp4", keep=lambda seconds: not hole(seconds))
    with pytest.raises(StenoboxError, match="longer than 9 seconds"):
        heard(source, most=9)


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_an_estimated_length_refuses_nothing(kind: str, tmp_path: Path) -> None:
    """libav takes the bit rate of what comes first, here silence, for the whole file's."""
    samples = np.concatenate([media.silence(10), np.tile(SECOND, 4)])
    source = tmp_path / f"quiet.{kind}"
    if kind == "mp3":
        media.make(source, samples, options={"write_xing": "0"})
    else:
        media.remuxed(media.make(tmp_path / "a.m4a", samples), source, "adts")
    assert heard(source, most=len(samples) / SAMPLE_RATE + 1)[0].seconds > 28
