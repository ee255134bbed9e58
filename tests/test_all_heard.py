"""All of the sound is heard: whatever the channels, the level, the container and its header are like."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import media_files as media
import numpy as np
import pytest
from test_true_time import begins

from tasks.decode import SAMPLE_RATE, Sound, kinds, level
from tasks.decode import child as decoding
from tasks.decode.channels import mono
from tasks.errors import StenoboxError

SPEECH = media.sound("en-u014.flac")
OTHER = media.sound("en-u000.flac")
NOISE = np.random.default_rng(3).normal(0, 1, len(SPEECH)).astype(np.float32)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "say", lambda **_: None)


def heard(source: Path, **options: Any) -> tuple[Sound, np.ndarray]:
    target = source.with_name("out.f32")
    sound = decoding.hear(source, target, 600, **options)
    return sound, np.fromfile(target, "<f4")


def refusal(source: Path) -> str:
    with pytest.raises(StenoboxError) as caught:
        heard(source)
    assert caught.value.code == "undecodable"
    return caught.value.message


class TestChannels:
    def mixed(self, *channels: np.ndarray) -> np.ndarray:
        """What is made of these channels, given in uneven pieces."""
        wide = np.stack(channels)
        layout = av.AudioLayout({2: "stereo", 3: "3.0", 6: "5.1"}[len(channels)])
        places = [0, *range(100, wide.shape[1], 3_777), wide.shape[1]]
        pieces = [(layout, wide[:, a:b]) for a, b in itertools.pairwise(places)]
        found = np.concatenate(list(mono(iter(pieces))))
        assert len(found) == wide.shape[1]
        return found

    def like(self, found: np.ndarray, part: np.ndarray = SPEECH) -> float:
        """From the first word on: before it nothing tells speech from noise."""
        found, part = found[SAMPLE_RATE * 9 // 10 :], part[SAMPLE_RATE * 9 // 10 :]
        return float(found @ part / np.linalg.norm(found) / np.linalg.norm(part))

    @pytest.mark.parametrize("share", [-1.0, -0.97, -0.8, -0.5, 0.0, 0.3, 1.0])
    def test_whatever_the_other_channel_has_of_it(self, share: float) -> None:
        for found in (self.mixed(SPEECH, share * SPEECH), self.mixed(share * SPEECH, SPEECH)):
            assert abs(self.like(found)) > 0.99
            assert np.linalg.norm(found) > 0.5 * np.linalg.norm(SPEECH)

    def test_inverse_with_noise_of_their_own(self) -> None:
        other = np.roll(NOISE, 777)
        found = self.mixed(SPEECH + 0.01 * NOISE, -SPEECH + 0.01 * other)
        assert self.like(found) > 0.95

    def test_two_voices_are_both_there(self) -> None:
        left, right = np.zeros(len(SPEECH), np.float32), SPEECH
        left[: len(OTHER)] = OTHER
        found = self.mixed(left, right)
        assert found == pytest.approx((left + right) * 2**-0.5, abs=1e-5)

    def test_a_change_in_the_middle_clicks_nowhere(self) -> None:
        tone = np.sin(np.arange(10 * SAMPLE_RATE) * 0.1).astype(np.float32)
        other = tone.copy()
        other[4 * SAMPLE_RATE :] *= -1
        other[7 * SAMPLE_RATE :] *= -1
        found = self.mixed(tone, other)
        for start in range(0, len(found) - SAMPLE_RATE, SAMPLE_RATE):
            if start not in (4 * SAMPLE_RATE, 7 * SAMPLE_RATE):
                assert np.linalg.norm(found[start : start + SAMPLE_RATE]) > 0.4 * np.linalg.norm(tone[:SAMPLE_RATE])
        steps = np.abs(np.diff(found))
        jumps = np.delete(steps, [4 * SAMPLE_RATE - 1, 7 * SAMPLE_RATE - 1])  # there the file itself has one
        assert jumps.max() < 0.2

    @pytest.mark.parametrize("noise", [0.1 * NOISE, 0.2 * np.sin(np.arange(len(SPEECH)) * 0.02).astype(np.float32)])
    def test_a_channel_of_noise_or_hum_covers_nothing(self, noise: np.ndarray) -> None:
        for found in (self.mixed(SPEECH, noise), self.mixed(noise, SPEECH)):
            assert self.like(found) > 0.99

    def test_the_centre_of_a_film_is_not_lost(self) -> None:
        nothing = np.zeros_like(SPEECH)
        assert self.like(self.mixed(nothing, nothing, SPEECH, nothing, nothing, nothing)) > 0.99
        surround = 0.3 * NOISE
        assert self.like(self.mixed(nothing, nothing, SPEECH, nothing, surround, -surround)) > 0.99

    def test_what_is_no_number_counts_as_silence(self) -> None:
        broken = SPEECH.copy()
        broken[1000] = np.nan
        assert np.isfinite(self.mixed(SPEECH, broken)).all()

    def test_a_file_of_inverse_channels(self, tmp_path: Path) -> None:
        source = tmp_path / "inverse.wav"
        write_wav(source, np.stack([SPEECH, -SPEECH], axis=1))
        sound, samples = heard(source, extras=tmp_path)
        assert begins(samples) == pytest.approx(0, abs=0.01)
        assert sound.facts.channels == 2


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """32-bit float, a column a channel."""
    data = samples.astype("<f4").tobytes()
    channels = samples.shape[1] if samples.ndim > 1 else 1
    form = struct.pack("<HHIIHH", 3, channels, SAMPLE_RATE, SAMPLE_RATE * 4 * channels, 4 * channels, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


class TestLevel:
    @pytest.mark.parametrize("decibels", [-35, -40, -50, -60])
    def test_what_is_faint_is_made_louder(self, decibels: int, tmp_path: Path) -> None:
        faint = SPEECH * 10 ** (decibels / 20)
        _, samples = heard(write_wav(tmp_path / "a.wav", faint), extras=tmp_path)
        assert 0.2 < np.abs(samples).max() <= 1
        assert samples == pytest.approx(faint * (np.abs(samples).max() / np.abs(faint).max()), abs=2e-3)
        peaks = json.loads((tmp_path / "peaks.json").read_bytes())["peaks"]
        assert max(peaks) == pytest.approx(255 * np.abs(faint).max(), abs=1)

    def test_what_is_not_stays_as_it_is(self, tmp_path: Path) -> None:
        for gain in (1.0, 0.2):
            assert heard(write_wav(tmp_path / "a.wav", gain * SPEECH))[1] == pytest.approx(gain * SPEECH, abs=1e-6)

    def test_clicks_do_not_hide_that_it_is_faint(self, tmp_path: Path) -> None:
        faint = np.tile(SPEECH, 3) / 300
        faint[[20_000, 50_000, 50_001]] = (0.9, -0.9, 0.5)
        _, samples = heard(write_wav(tmp_path / "a.wav", faint))
        assert np.median(np.abs(samples)) > 20 * np.median(np.abs(faint))
        assert np.abs(samples).max() <= 1

    @pytest.mark.parametrize(
        "samples",
        [
            np.zeros(5 * SAMPLE_RATE),
            NOISE / 1000,
            np.round(NOISE) / 32_768,  # what 16 bits make of nothing
            np.sin(np.arange(5 * SAMPLE_RATE) * 0.3) / 500,
        ],
    )
    def test_silence_noise_and_tones_are_no_speech(self, samples: np.ndarray, tmp_path: Path) -> None:
        assert np.abs(heard(write_wav(tmp_path / "a.wav", samples))[1]).max() == pytest.approx(np.abs(samples).max())

    def test_a_little_speech_in_a_long_silence(self) -> None:
        """Ten seconds in an hour, 40 dB down, above noise another 30 dB down."""
        found = level.Level()
        for second in range(3600):
            loud = 0.005 if 1800 <= second < 1810 else 0.00015
            found.add(loud * NOISE[:SAMPLE_RATE] / np.abs(NOISE).max())
        assert 40 < found.gain < 80

    def test_pieces_of_any_size_count_the_same(self) -> None:
        whole, parts = level.Level(), level.Level()
        whole.add(SPEECH / 100)
        for piece in np.array_split(SPEECH / 100, 37):
            parts.add(piece)
        assert whole.gain == parts.gain > 1


CONTAINERS: dict[str, tuple[str, str, int]] = {
    "mpg": ("mpeg", "mp2", 48_000),
    "vob": ("vob", "ac3", 48_000),
    "au": ("au", "pcm_mulaw", 8_000),
    "ac3": ("ac3", "ac3", 48_000),
    "eac3": ("eac3", "eac3", 48_000),
    "wv": ("wv", "wavpack", 44_100),
    "tta": ("tta", "tta", 44_100),
    "dts": ("dts", "dca", 48_000),
    "sox": ("sox", "pcm_s32le", 16_000),
    "nut": ("nut", "libmp3lame", 44_100),
    "oma": ("oma", "atrac3p", 44_100),
    "mka": ("matroska", "libopus", 48_000),
    "ts": ("mpegts", "ac3", 48_000),
    "loas": ("latm", "aac", 44_100),
    "ircam": ("ircam", "pcm_s16le", 16_000),
    "spdif": ("spdif", "ac3", 48_000),
}


class TestContainers:
    @pytest.mark.parametrize("kind", CONTAINERS)
    def test_rarer_ones_are_heard(self, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        container, codec, rate = CONTAINERS[kind]
        try:
            av.codec.Codec(codec, "w")
        except ValueError:
            pytest.skip(f"libav has no encoder {codec}")
        monkeypatch.setitem(media.FORMATS, kind, (container, codec, rate, "mono"))
        source = media.make(tmp_path / f"a.{kind}", SPEECH, options={"strict": "-2"} if codec == "dca" else {})
        source = source.rename(tmp_path / "source")  # its name says nothing
        sound, samples = heard(source)
        assert begins(samples) == pytest.approx(0, abs=0.1)
        assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.15)
        assert sound.notes == []

    def test_all_that_is_allowed_is_known_to_libav_or_to_older_ones(self) -> None:
        unknown = set(kinds.FORMATS.split(",")) - {part for name in av.formats_available for part in name.split(",")}
        assert unknown <= {"m4a", "mj2"}

    def test_none_of_them_opens_others(self) -> None:
        refused = (
            "hls concat dash sdp rtsp rtp sap image2 image2pipe imf vobsub mlv lavfi webm_dash_manifest sbg tee data"
        )
        refused += " ffmetadata alsa pulse oss fbdev x11grab kmsgrab v4l2 avisynth vapoursynth s16le rawvideo applehttp"
        assert not set(kinds.FORMATS.split(",")) & set(refused.split())


def tag(frames: int, kind: bytes = b"TXXX", size: int = 10) -> bytes:
    """An ID3 tag."""
    body = b"".join(
        kind + size.to_bytes(4, "big") + bytes(3) + f"{number:08d}".encode() + b"\0" + bytes(size - 10)
        for number in range(frames)
    )
    return b"ID3\3\0\0" + bytes((len(body) >> shift) & 127 for shift in (21, 14, 7, 0)) + body


class TestHeaders:
    """The recording is there; something stands in front of it, or its header is wrong."""

    @pytest.fixture
    def wav(self, tmp_path: Path) -> bytes:
        return media.plain_wav(tmp_path / "a.wav", SPEECH).read_bytes()

    @pytest.fixture
    def mp3(self, tmp_path: Path) -> bytes:
        return media.make(tmp_path / "a.mp3", SPEECH).read_bytes()

    def whole(self, folder: Path, data: bytes) -> Sound:
        (folder / "source").write_bytes(data)
        sound, samples = heard(folder / "source")
        assert begins(samples) == pytest.approx(0, abs=0.1)
        assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.1)
        assert sound.notes == []
        return sound

    @pytest.mark.parametrize("front", [bytes(100), bytes(200_000), bytes(5_000_001)])
    @pytest.mark.parametrize("kind", ["mp3", "wav", "flac", "m4a", "ogg", "mkv", "mpg"])
    def test_zeros_in_front(self, kind: str, front: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(media.FORMATS, "mpg", ("mpeg", "mp2", 48_000, "mono"))
        self.whole(tmp_path, front + media.make(tmp_path / f"a.{kind}", SPEECH).read_bytes())

    @pytest.mark.parametrize("front", [b"x" * 1000, NOISE.tobytes()[:70_000], b"HTTP/1.1 200 OK\r\n\r\n"])
    @pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "m4a"])
    def test_junk_in_front(self, kind: str, front: bytes, tmp_path: Path) -> None:
        self.whole(tmp_path, front + media.make(tmp_path / f"a.{kind}", SPEECH).read_bytes())

    @pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "m4a", "aiff", "mkv"])
    def test_an_id3_tag_in_front(self, kind: str, tmp_path: Path) -> None:
        data = media.make(tmp_path / f"a.{kind}", SPEECH).read_bytes()
        self.whole(tmp_path, tag(3) + data)
        self.whole(tmp_path, tag(3) + bytes(500) + tag(2) + data)

    def test_200_000_entries_hold_nobody_up(self, mp3: bytes, tmp_path: Path) -> None:
        self.whole(tmp_path, tag(200_000) + mp3)

    def test_a_small_tag_is_still_read(self, mp3: bytes, tmp_path: Path) -> None:
        title = b"\0A talk"
        body = b"TIT2" + len(title).to_bytes(4, "big") + bytes(2) + title
        data = b"ID3\3\0\0\0\0\0" + bytes([len(body)]) + body + mp3[mp3.index(b"\xff\xfb") :]
        assert self.whole(tmp_path, data).facts.tags["title"] == "A talk"

    def test_a_header_that_says_half_a_second(self, wav: bytes, tmp_path: Path) -> None:
        short = bytearray(wav)
        short[4:8], short[40:44] = struct.pack("<I", 36 + 16_000), struct.pack("<I", 16_000)
        self.whole(tmp_path, bytes(short))

    def test_what_follows_the_sound_of_a_wav_is_not_sound(self, wav: bytes, tmp_path: Path) -> None:
        for rest in (b"LIST" + struct.pack("<I", 2000) + bytes(2000), bytes(3000), b"TAG" + bytes(125), tag(9)):
            self.whole(tmp_path, wav + rest)

    def test_ogg_files_one_after_the_other(self, tmp_path: Path) -> None:
        parts = [
            media.make(tmp_path / f"{number}.ogg", samples, rate=rate, layout=layout).read_bytes()
            for number, (samples, rate, layout) in enumerate(
                ((OTHER, 48_000, "stereo"), (SPEECH, 48_000, "mono"), (OTHER, 48_000, "mono"))
            )
        ]
        (tmp_path / "chained").write_bytes(b"".join(parts))
        sound, samples = heard(tmp_path / "chained")
        assert sound.seconds == pytest.approx((2 * len(OTHER) + len(SPEECH)) / SAMPLE_RATE, abs=0.1)
        assert begins(samples) == pytest.approx(len(OTHER) / SAMPLE_RATE, abs=0.1)
        assert sound.notes == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "empty"),
            (b"#EXTM3U\nsecret.ts\n", "a playlist, which only names"),
            (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
            (b"PK\3\4" + bytes(100), "a ZIP archive or an Office document"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture"),
            (b"MThd\0\0\0\6\0\1" + bytes(100), "MIDI"),
            (b"CWS\6" + bytes(100), "SWF), which is not supported"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"Hello, this is a text.\n" * 9, "it is a text"),
            (bytes(range(256)) * 40, "no kind of recording that this box knows"),
            (b"fLaC" + bytes(range(256)) * 4, "it looks like a FLAC, but is damaged"),
            (b"\x1aE\xdf\xa3" + b"\xff" * 400, "it looks like a Matroska or WebM file, but is damaged"),
        ],
    )
    def test_each_says_what_it_is(self, data: bytes, words: str, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(data)
        message = refusal(tmp_path / "source")
        assert message.startswith("This file can't be read as a recording: ")
        assert words in message
        assert message.endswith(".")

    def test_an_mp4_without_its_index(self, tmp_path: Path) -> None:
        whole = media.make(tmp_path / "a.mp4", SPEECH)
        assert "its index at the end" in refusal(media.truncated(whole, tmp_path / "cut.mp4", 0.8))

    def test_what_is_encrypted(self, tmp_path: Path) -> None:
        key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
        assert "encrypted" in refusal(media.make(tmp_path / "a.mp4", SPEECH, options=key))

    def test_a_header_without_sound(self, tmp_path: Path) -> None:
        assert "it looks like a WAV, but is damaged" in refusal(media.plain_wav(tmp_path / "a.wav", SPEECH[:0]))


def test_every_exception_of_a_library_ends_as_what_was_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ValueError, TypeError, …: PyAV's own, in the middle of a file."""
    source = media.make(tmp_path / "a.mp3", SPEECH)
    import tasks.decode.samples as samples

    real: Callable[..., Any] = samples._blocks
    calls = [0]

    def sometimes(resampler: Any, frame: Any) -> Any:
        calls[0] += 1
        if calls[0] in (50, 51, 52, 53):
            raise ValueError("what PyAV makes of it")
        return real(resampler, frame)

    monkeypatch.setattr(samples, "_blocks", sometimes)
    sound, found = heard(source)
    assert sound.damaged
    assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.1)
    assert begins(found) == pytest.approx(0, abs=0.1)
