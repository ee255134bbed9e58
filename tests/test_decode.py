"""Decoding: what good files give, what hostile ones never do, and every way the child can end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import media_files as media
import numpy as np
import psutil
import pytest

from tasks import children
from tasks.children import ChildDied
from tasks.decode import SAMPLE_RATE, Sound, decode, extract, samples, sandbox
from tasks.decode import child as decoding
from tasks.decode.timeline import Story
from tasks.errors import StenoboxError

SPEECH = media.sound()
LONG = 600.0


def heard(source: Path, max_seconds: float = LONG) -> tuple[Sound, np.ndarray]:
    """Decode in a child: what it says, and the samples."""
    target = source.with_name(f"{source.name}.f32")
    sound = decode(source, target, max_seconds)
    samples = np.fromfile(target, "<f4")
    assert len(samples) == round(sound.seconds * SAMPLE_RATE)
    return sound, samples


def likeness(samples: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """Highest correlation (1 for the same) and the seconds by which samples are late at that point."""
    size = len(samples) + len(original)
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(original, size))
    correlation = np.fft.irfft(spectrum, size)
    lag = int(np.argmax(correlation))
    best = correlation[lag] / (np.linalg.norm(samples) * np.linalg.norm(original))
    return float(best), (lag if lag < len(samples) else lag - size) / SAMPLE_RATE


def refusal(source: Path, max_seconds: float = LONG, target: Path | None = None) -> StenoboxError:
    with pytest.raises(StenoboxError) as caught:
        decode(source, target or source.with_name(f"{source.name}.f32"), max_seconds)
    return caught.value


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[subprocess.Popen[bytes]]]:
    """Run this code instead of the decoder; returns the processes it started."""

    def use(code: str) -> list[subprocess.Popen[bytes]]:
        started: list[subprocess.Popen[bytes]] = []

        def spawn(_module: str, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", "import os, signal, sys, time\n" + code, *arguments]
            started.append(subprocess.Popen(command, start_new_session=True, **options))
            return started[-1]

        monkeypatch.setattr(children, "spawn", spawn)
        return started

    return use


class TestGoodFiles:
    @pytest.mark.parametrize("kind", media.FORMATS)
    def test_every_format_gives_its_sound(self, kind: str, tmp_path: Path) -> None:
        _, _, rate, layout = media.FORMATS[kind]
        source = media.make(tmp_path / f"recording.{kind}", SPEECH, picture=kind in media.WITH_PICTURE)
        sound, samples = heard(source)
        assert abs(len(samples) - len(SPEECH)) < 0.1 * SAMPLE_RATE
        like, late = likeness(samples, SPEECH)
        assert like > 0.95
        assert abs(late) < 0.03
        assert (sound.facts.sample_rate, sound.facts.channels) == (rate, {"mono": 1, "stereo": 2, "5.1": 6}[layout])
        assert not sound.damaged

    @pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
    @pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
    def test_rates_and_layouts(self, rate: int, layout: str, tmp_path: Path) -> None:
        sound, samples = heard(media.make(tmp_path / "a.wav", SPEECH, rate=rate, layout=layout))
        assert (sound.facts.container, sound.facts.codec, sound.facts.sample_rate) == ("wav", "pcm_s16le", rate)
        assert abs(len(samples) - len(SPEECH)) < 0.01 * SAMPLE_RATE
        assert likeness(samples, SPEECH)[0] > 0.95

    def test_the_extension_says_nothing(self, tmp_path: Path) -> None:
        source = media.make(tmp_path / "film.mp4", SPEECH, picture=True).rename(tmp_path / "source")
        assert likeness(heard(source)[1], SPEECH)[0] > 0.95

    def test_a_name_cannot_be_an_option_or_a_protocol(self, tmp_path: Path) -> None:
        source = media.plain_wav(tmp_path / "concat:a|b %d -f lavfi", SPEECH)
        assert heard(source)[0].seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE)

    def test_sound_that_starts_late_keeps_its_time(self, tmp_path: Path) -> None:
        for kind in ("mp4", "mkv"):
            source = media.make(tmp_path / f"late.{kind}", SPEECH, picture=True, late=1.5)
            sound, samples = heard(source)
            assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE + 1.5, abs=0.1)
            assert likeness(samples, SPEECH)[1] == pytest.approx(1.5, abs=0.03)
            assert not samples[: int(1.4 * SAMPLE_RATE)].any()

    def test_rate_and_layout_may_change_midway(self, tmp_path: Path) -> None:
        other = media.sound("en-u004.flac")
        sound, samples = heard(media.changing(tmp_path / "changing.ts", SPEECH, other))
        assert sound.seconds == pytest.approx((len(SPEECH) + len(other)) / SAMPLE_RATE, abs=0.2)
        assert likeness(samples[: len(SPEECH)], SPEECH)[0] > 0.95
        assert likeness(samples[len(SPEECH) :], other)[0] > 0.95

    def test_silence_and_very_short(self, tmp_path: Path) -> None:
        sound, samples = heard(media.plain_wav(tmp_path / "silence.wav", media.silence(2)))
        assert sound.seconds == 2.0
        assert not samples.any()
        sound, samples = heard(media.plain_wav(tmp_path / "short.wav", SPEECH[:800]))
        assert sound.seconds == 0.05

    def test_progress_only_grows(self, tmp_path: Path) -> None:
        told: list[float] = []
        source = media.plain_wav(tmp_path / "long.wav", np.tile(SPEECH, 20))
        decode(source, tmp_path / "a.f32", LONG, on_progress=told.append)
        assert len(told) > 20
        assert told == sorted(set(told))
        assert 0 < told[0] < told[-1] <= 1

    def test_files_that_name_no_length_are_read_to_their_end(self, tmp_path: Path) -> None:
        """As programs write them that stream: 4 GB, or nothing."""
        for claimed in (2**32 - 1, 0):
            sound, _ = heard(media.plain_wav(tmp_path / f"{claimed}.wav", SPEECH, claimed_bytes=claimed))
            assert sound.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE)
            assert not sound.damaged


class TestHostileFiles:
    def test_none_is_read_and_none_reads_another(self, tmp_path: Path) -> None:
        for name, source in media.hostile(tmp_path).items():
            target = tmp_path / f"{name}.f32"
            assert refusal(source, target=target).code == "undecodable", name
            assert not target.exists() or target.stat().st_size == 0, name

    def test_without_the_whitelists_some_do(self, tmp_path: Path) -> None:
        """So that the test above proves something."""
        files = media.hostile(tmp_path)
        for name in ("absolute.m3u8", "concat.wav"):
            with av.open(str(files[name])) as container:
                assert sum(frame.samples for frame in container.decode(audio=0)) > SAMPLE_RATE

    def test_channels_that_nobody_can_mix_are_a_sentence(self, tmp_path: Path) -> None:
        """What libav answers with a ValueError must not count as a crash of ours."""
        source = media.plain_wav(tmp_path / "many.wav", np.repeat(SPEECH, 65))
        data = bytearray(source.read_bytes())
        data[22:24], data[32:34] = (65).to_bytes(2, "little"), (130).to_bytes(2, "little")
        source.write_bytes(data)
        assert refusal(source).code == "undecodable"

    def test_a_rate_that_needs_all_memory_is_a_sentence(self, tmp_path: Path) -> None:
        source = media.plain_wav(tmp_path / "rate.wav", SPEECH)
        data = bytearray(source.read_bytes())
        data[24:28] = (2**31 - 1).to_bytes(4, "little")
        source.write_bytes(data)
        error = refusal(source)
        assert error.code == "undecodable"
        assert "memory" in error.message


class TestDamagedFiles:
    def test_no_sound_track(self, tmp_path: Path) -> None:
        assert refusal(media.video_only(tmp_path / "film.mp4")).code == "no_audio"

    @pytest.mark.parametrize("kind", ["mp4", "m4a", "mov"])
    def test_without_their_end_these_cannot_be_read(self, kind: str, tmp_path: Path) -> None:
        whole = media.make(tmp_path / f"whole.{kind}", SPEECH)
        assert refusal(media.truncated(whole, tmp_path / f"cut.{kind}", 0.8)).code == "undecodable"

    @pytest.mark.parametrize("kind", ["mp3", "mkv", "webm", "wav", "flac", "aiff"])
    def test_cut_short_keeps_what_is_there_and_says_so(self, kind: str, tmp_path: Path) -> None:
        whole = media.make(tmp_path / f"whole.{kind}", SPEECH)
        sound, samples = heard(media.truncated(whole, tmp_path / f"cut.{kind}", 0.7))
        assert sound.damaged
        assert sound.seconds == pytest.approx(0.7 * len(SPEECH) / SAMPLE_RATE, rel=0.2)
        assert likeness(samples, SPEECH[: len(samples)])[0] > 0.95

    def test_cut_short_with_its_index_in_front(self, tmp_path: Path) -> None:
        whole = media.make(tmp_path / "whole.mp4", SPEECH, options={"movflags": "faststart"})
        sound, _ = heard(media.truncated(whole, tmp_path / "cut.mp4", 0.7))
        assert sound.damaged
        assert 2 < sound.seconds < 3.5

    def test_an_mp3_without_a_length_is_not_called_damaged(self, tmp_path: Path) -> None:
        """libav guesses its length from the first frame's bit rate, so nothing can be told from it."""
        whole = media.make(tmp_path / "whole.mp3", SPEECH, options={"write_xing": "0"})
        sound, _ = heard(media.truncated(whole, tmp_path / "cut.mp3", 0.7))
        assert not sound.damaged

    def test_a_picture_may_outlast_the_sound(self, tmp_path: Path) -> None:
        source = tmp_path / "film.mkv"
        media.make(source, np.concatenate([SPEECH, media.silence(3)]), picture=True)
        assert not heard(source)[0].damaged

    @pytest.mark.parametrize("kind", ["mp3", "mkv", "mp4"])
    def test_a_hole_is_left_out_and_said(self, kind: str, tmp_path: Path) -> None:
        whole = media.make(tmp_path / f"whole.{kind}", SPEECH)
        sound, samples = heard(media.holed(whole, tmp_path / f"hole.{kind}"))
        assert sound.damaged
        third = len(SPEECH) // 3
        assert likeness(samples[:third], SPEECH[:third])[0] > 0.95

    def test_nothing_but_a_header(self, tmp_path: Path) -> None:
        assert refusal(media.plain_wav(tmp_path / "header.wav", SPEECH[:0])).code == "undecodable"


class TestTooLong:
    def test_counted_in_decoded_samples(self, tmp_path: Path) -> None:
        source = media.plain_wav(tmp_path / "a.wav", SPEECH)  # 3.88 s
        error = refusal(source, max_seconds=3.8)
        assert error.code == "too_long"
        assert "raise the limit on the Limits page" in error.message
        assert heard(source, max_seconds=3.9)[0].seconds > 3.8

    @pytest.mark.parametrize("claimed", [0, SAMPLE_RATE])
    def test_whatever_the_header_says(self, claimed: int, tmp_path: Path) -> None:
        source = media.long_silent_flac(tmp_path / "long.flac", 120)
        data = bytearray(source.read_bytes())
        data[21] &= 0xF0  # the upper four bits of STREAMINFO's number of samples; 0 for unknown
        data[22:26] = claimed.to_bytes(4, "big")
        source.write_bytes(data)
        target = tmp_path / "a.f32"
        assert refusal(source, max_seconds=60, target=target).code == "too_long"
        assert target.stat().st_size < 62 * decoding.BYTES_PER_SECOND  # stopped at the limit, not at the end

    def test_a_clear_excess_is_not_decoded_at_all(self, tmp_path: Path) -> None:
        source, target = media.long_silent_flac(tmp_path / "long.flac", 3600), tmp_path / "a.f32"
        assert refusal(source, max_seconds=60, target=target).code == "too_long"
        assert target.stat().st_size == 0

    def test_the_peak_is_the_decoder_s_own(self, tmp_path: Path) -> None:
        """On Linux ru_maxrss of a child begins with what its parent held."""
        if not Path("/proc/self/status").exists():
            pytest.skip("needs /proc")
        ballast = np.ones(50_000_000)  # 400 MB
        sound, _ = heard(media.plain_wav(tmp_path / "a.wav", SPEECH))
        assert 10 * 2**20 < sound.peak < 250 * 2**20 < ballast.nbytes

    def test_two_hours_take_no_more_memory_than_a_minute(self, tmp_path: Path) -> None:
        source = media.long_silent_flac(tmp_path / "long.flac", 7200)
        assert source.stat().st_size < 2_000_000
        peaks: dict[float, int] = {}
        pids: list[int] = []

        def note(progress: float) -> None:
            status = Path(f"/proc/{pids[0]}/status")
            if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
                peaks[progress] = int(peak[1]) // 1024

        sound = decode(
            source, Path(os.devnull), 4 * 3600, on_progress=note, on_start=lambda child: pids.append(child.pid)
        )
        assert sound.seconds == 7200
        if not Path("/proc/self/status").exists():
            pytest.skip("needs /proc")
        print("peak MiB of the decoder, by progress:", peaks[min(peaks)], "…", peaks[max(peaks)])
        print(f"peak as it says itself: {sound.peak / 2**20:.0f} MiB")
        assert max(peaks) > 0.9
        assert peaks[max(peaks)] < 250
        assert peaks[max(peaks)] - peaks[min(peaks)] < 20


class TestTheChild:
    def test_killed_from_outside(self, tmp_path: Path) -> None:
        source = media.long_silent_flac(tmp_path / "long.flac", 7200)
        started: list[subprocess.Popen[bytes]] = []
        with pytest.raises(ChildDied) as caught:
            decode(
                source,
                Path(os.devnull),
                4 * 3600,
                on_start=started.append,
                on_progress=lambda _: os.kill(started[0].pid, signal.SIGKILL),
            )
        assert str(caught.value) == "the decoder was killed (SIGKILL)"
        assert not caught.value.deliberate

    def test_a_crash_is_the_file_s_fault(self, stand_in: Callable[[str], Any], tmp_path: Path) -> None:
        stand_in("os.kill(os.getpid(), signal.SIGSEGV)")
        error = refusal(tmp_path / "any")
        assert error.code == "undecodable"
        assert error.message.startswith("The decoder crashed (SIGSEGV) on this file.")

    def test_killed_while_it_spoke(self, stand_in: Callable[[str], Any], tmp_path: Path) -> None:
        stand_in('print(\'{"sound": {"sec\', end="", flush=True); os.kill(os.getpid(), signal.SIGKILL)')
        with pytest.raises(ChildDied, match="was killed"):
            decode(tmp_path / "any", tmp_path / "a.f32", LONG)

    def test_left_without_an_answer(self, stand_in: Callable[[str], Any], tmp_path: Path) -> None:
        stand_in("sys.exit(3)")
        with pytest.raises(ChildDied, match="the decoder left with status 3"):
            decode(tmp_path / "any", tmp_path / "a.f32", LONG)

    def test_past_its_deadline(
        self, stand_in: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        started = stand_in("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); time.sleep(60)")
        deadlines: list[float] = []
        timer = threading.Timer

        def soon(seconds: float, function: Callable[[], None]) -> threading.Timer:
            deadlines.append(seconds)
            return timer(0.3, function)

        monkeypatch.setattr(threading, "Timer", soon)
        assert refusal(tmp_path / "any", max_seconds=600).code == "timed_out"
        assert deadlines == [180]
        assert started[0].returncode == -signal.SIGKILL

    def test_past_its_processor_time(self, stand_in: Callable[[str], Any], tmp_path: Path) -> None:
        stand_in(
            "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 3)); resource.setrlimit(resource.RLIMIT_CORE,"
            " (0, 0))\nwhile True: pass"
        )
        assert refusal(tmp_path / "any").code == "timed_out"

    def test_a_caller_that_stops_ends_it(self, tmp_path: Path) -> None:
        source = media.long_silent_flac(tmp_path / "long.flac", 7200)
        started: list[subprocess.Popen[bytes]] = []

        def stop(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            decode(source, Path(os.devnull), 4 * 3600, on_start=started.append, on_progress=stop)
        assert not psutil.pid_exists(started[0].pid)

    def test_disk_full(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        source = media.plain_wav(tmp_path / "a.wav", SPEECH)
        error = refusal(source, target=Path("/dev/full"))
        assert error.code == "disk_full"
        assert error.kind.retryable

    def test_a_disk_that_can_not_be_read_is_not_the_file_s_fault(self, tmp_path: Path) -> None:
        """Of a broken disk and of a damaged file libav says the same. Nothing can be read at the start of a process."""
        if not Path("/proc/self/mem").exists():
            pytest.skip("needs /proc")
        (tmp_path / "source").symlink_to("/proc/self/mem")
        error = refusal(tmp_path / "source")
        assert (error.code, error.message.partition("(")[2].partition(")")[0]) == (
            "storage_failing",
            "Input/output error",
        )

    def test_a_read_only_disk(self, tmp_path: Path) -> None:
        source, folder = media.plain_wav(tmp_path / "a.wav", SPEECH), tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", folder]
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("file systems can't be mounted here")
        try:
            error = refusal(source, target=folder / "a.f32")
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
        assert error.code == "storage_failing"
        assert "Read-only file system" in error.message


class TestRoom:
    """What must stay free of the disk stays free."""

    @pytest.fixture(autouse=True)
    def quiet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "say", lambda **_: None)

    def leave(self, monkeypatch: pytest.MonkeyPatch, *rooms: int) -> None:
        """Bytes that may be written, look by look; the last is what every later look finds."""
        left = list(rooms)
        monkeypatch.setattr(decoding.disk, "room", lambda *_: left.pop(0) if len(left) > 1 else left[0])

    def full(self, source: Path, **options: Any) -> str:
        with pytest.raises(StenoboxError) as caught:
            decoding.hear(source, source.with_name("out.f32"), LONG, **options)
        assert caught.value.code == "disk_full"
        return caught.value.message

    @pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "mkv"])
    def test_what_is_known_to_be_too_long_is_not_begun(
        self, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        source = media.make(tmp_path / f"a.{kind}", SPEECH)
        needed = len(SPEECH) * 4
        self.leave(monkeypatch, needed // 2)
        assert "0 MB of the disk of this box may be used" in self.full(source)
        assert (tmp_path / "out.f32").stat().st_size == 0
        self.leave(monkeypatch, needed * 11 // 10)
        decoding.hear(source, tmp_path / "out.f32", LONG)

    def test_the_sentence_has_the_figures(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        source = media.long_silent_flac(tmp_path / "a.flac", 500)
        self.leave(monkeypatch, 20_500_000)
        assert self.full(source) == (
            "There is no room for this recording: 32 MB once it is read, and 20 MB of the disk of this box may be used."
            " Delete some jobs, and try again."
        )

    def test_only_what_is_taken_of_it_counts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.leave(monkeypatch, 10 * 64_000)
        with pytest.raises(StenoboxError, match="longer than 5 seconds"):
            decoding.hear(media.plain_wav(tmp_path / "a.wav", media.silence(9.9)), tmp_path / "out.f32", 5)

    def test_what_is_longer_than_its_header_says_stops(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Or says nothing of its length: an MP3's is an estimate."""
        source = media.make(tmp_path / "a.mp3", media.silence(200))
        self.leave(monkeypatch, 10**6, 10**6, -1)
        assert self.full(source) == "The disk filled up while this file was read. Free some space and try again."
        assert 110 < (tmp_path / "out.f32").stat().st_size / 64_000 < 130

    def test_below_the_mark_nothing_is_begun(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.leave(monkeypatch, -1)
        assert "no room" in self.full(media.make(tmp_path / "a.mp3", SPEECH))

    def test_so_does_an_extraction(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        source = media.plain_wav(tmp_path / "a.wav", media.silence(200))
        self.leave(monkeypatch, 10**6, -1)
        with pytest.raises(StenoboxError, match="filled up"):
            decoding.extract(source, tmp_path / "out.wav", "wav", None, LONG)

    def test_the_child_is_told_what_must_stay_free(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        source = media.plain_wav(tmp_path / "a.wav", SPEECH)
        monkeypatch.setattr("tasks.decode.WORK_SPARE_BYTES", 2**60)
        assert refusal(source).code == "disk_full"
        monkeypatch.setattr("tasks.decode.SPARE_BYTES", 2**60)
        with pytest.raises(StenoboxError, match="no room"):
            extract(source, tmp_path / "out.flac", "flac", None, LONG)


class TestInThisProcess:
    """The child's own functions, without a child: quick, and a debugger can follow."""

    @pytest.fixture(autouse=True)
    def said(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        monkeypatch.setattr(decoding, "say", lambda **answer: said.append(answer))
        monkeypatch.setattr(sandbox, "enter", lambda *_: True)
        monkeypatch.delenv("STENOBOX_PARENT", raising=False)
        return said

    def answer(
        self, monkeypatch: pytest.MonkeyPatch, said: list[dict[str, Any]], source: Path, **replaced: Any
    ) -> dict[str, Any]:
        for name, value in replaced.items():
            monkeypatch.setattr(decoding, name, value)
        target = source.with_name("out.f32")
        task = {"source": str(source), "target": str(target), "max_seconds": LONG, "deadline": 60}
        task |= {"track": None, "language": None, "extras": None, "form": None, "spare_bytes": 0}
        monkeypatch.setattr(sys, "argv", ["decode", json.dumps(task)])
        decoding.main()
        return said[-1]

    def test_progress_then_the_sound(
        self, monkeypatch: pytest.MonkeyPatch, said: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        source = media.make(tmp_path / "a.flac", SPEECH)
        sound = self.answer(monkeypatch, said, source)["sound"]
        assert sound.pop("peak") > 2**20  # of this process, here
        facts = sound.pop("facts")
        assert sound == {"seconds": len(SPEECH) / SAMPLE_RATE, "damaged": False, "notes": []}
        assert (facts["container"], facts["codec"], facts["channels"], facts["sample_rate"]) == (
            "flac",
            "flac",
            1,
            16_000,
        )
        assert all(0 < answer["progress"] <= 1 for answer in said[:-1])

    @pytest.mark.parametrize(
        ("raised", "code"),
        [
            (StenoboxError("no_audio", "x"), "no_audio"),
            (MemoryError(), "undecodable"),
            (OSError(28, "full"), "disk_full"),
            (OSError(122, "quota"), "disk_full"),
            (OSError(5, "broken disk"), "storage_failing"),
            (OSError(30, "read-only"), "storage_failing"),
            (OSError(13, "another's folder"), "storage_failing"),
            (OSError(24, "too many files"), "undecodable"),
            (av.error.OSError(5, "what libav says of damaged files"), "undecodable"),
            (IndexError("list index out of range"), "undecodable"),
        ],
    )
    def test_every_exception_is_an_answer(
        self,
        raised: Exception,
        code: str,
        monkeypatch: pytest.MonkeyPatch,
        said: list[dict[str, Any]],
        tmp_path: Path,
    ) -> None:
        def fail(*_: Any, **__: Any) -> Sound:
            raise raised

        (tmp_path / "any").write_bytes(b"")
        assert self.answer(monkeypatch, said, tmp_path / "any", hear=fail)["error"][0] == code

    @pytest.mark.parametrize("kind", ["mp3", "mkv", "wav"])
    def test_cut_short(self, kind: str, tmp_path: Path) -> None:
        whole = media.make(tmp_path / f"whole.{kind}", SPEECH)
        cut = media.truncated(whole, tmp_path / f"cut.{kind}", 0.7)
        assert decoding.hear(cut, tmp_path / "a.f32", LONG).damaged

    def test_late_changing_and_holed(self, tmp_path: Path) -> None:
        late = media.make(tmp_path / "late.mp4", SPEECH, picture=True, late=1.0)
        assert decoding.hear(late, tmp_path / "a.f32", LONG).seconds == pytest.approx(4.9, abs=0.1)
        changing = media.changing(tmp_path / "changing.ts", SPEECH, SPEECH)
        assert decoding.hear(changing, tmp_path / "a.f32", LONG).facts.channels == 1
        holed = media.holed(media.make(tmp_path / "a.mp3", SPEECH), tmp_path / "b.mp3")
        assert decoding.hear(holed, tmp_path / "a.f32", LONG).damaged

    @pytest.mark.parametrize(
        ("make", "code"),
        [
            (lambda folder: media.video_only(folder / "a.mp4"), "no_audio"),
            (lambda folder: media.plain_wav(folder / "a.wav", SPEECH[:0]), "undecodable"),
            (lambda folder: media.long_silent_flac(folder / "a.flac", 700), "too_long"),
            (lambda folder: media.long_silent_flac(folder / "a.flac", 2000), "too_long"),
            (lambda folder: media.hostile(folder)["text.mp3"], "undecodable"),
        ],
    )
    def test_refusals(self, make: Callable[[Path], Path], code: str, tmp_path: Path) -> None:
        with pytest.raises(StenoboxError) as caught:
            decoding.hear(make(tmp_path), tmp_path / "out.f32", LONG)
        assert caught.value.code == code

    def test_a_container_that_breaks_midway(self) -> None:
        """The demuxer itself gives up: what came before it counts, and what follows where it can be read."""

        class Packet:
            size, stream, duration, time_base = 1, None, 0, None

            def decode(self) -> list[Any]:
                return [SimpleNamespace(samples=160, sample_rate=16_000)]

        class Container:
            format = SimpleNamespace(name="mp4")

            def __init__(self, *errors: Exception) -> None:
                self.errors = list(errors)

            def demux(self, _stream: object) -> Any:
                yield Packet()
                if self.errors:
                    raise self.errors.pop(0)

        stream: Any = SimpleNamespace(codec_context=SimpleNamespace(name="aac"))
        for error, broken in ((av.error.InvalidDataError(1, "broken"), True), (IndexError("a new track"), False)):
            story = Story()
            assert len(list(samples.frames(Container(error), stream, story))) == 2
            assert story.broken == broken
