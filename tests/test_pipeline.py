"""One attempt, from claim to end, for every way it can end: real files, real decoder, real database, a fake engine."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import media_files
import nvml_support
import pytest
import sqlalchemy as sa
from support import change_limit, wait_until

from tasks import children, devices, disk, journal, machine, media, models, pipeline, recovery, store
from tasks.actions import Box
from tasks.capacity import SPARE_BYTES, WORK_SPARE_BYTES, first_limits
from tasks.causes import PRESSED_SENTENCE
from tasks.children import ChildDied
from tasks.config import Config
from tasks.costs import MIB, Kind, Record
from tasks.db import Database, jobs, measurements
from tasks.decode import SAMPLE_RATE
from tasks.decode.notes import DAMAGED
from tasks.engine import probe
from tasks.engine.engines import Engines
from tasks.engine.meter import Usage
from tasks.engine.patience import Allowed, allow
from tasks.engine.process import MOST_FAILURES, Canceled, Recognized
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError
from tasks.heartbeat import Heartbeat
from tasks.jobs import MAX_CRASHES, Job, JobKind, Params, Stage, State
from tasks.outcomes import MOST_REFUSALS
from tasks.pipeline import Pipeline, engine_spec
from tasks.queue import Queue
from tasks.running import Reason
from tasks.slots import Plan

SPEECH = media_files.sound()
TRANSCRIPT = {
    "language": "en",
    "seconds": 3.9,
    "text": "five light",
    "segments": [
        {"id": 0, "start": 0.2, "end": 0.9, "text": "five light", "speaker": None, "confidence": 0.9, "words": []}
    ],
}
USAGE = Usage(base=900 * MIB, load=7 * MIB, job=800 * MIB, beside=1, seconds=0.5)

Answer = tuple[dict[str, Any], str | None]


def planner(slots: int = 1, batch: int = 4, **others: Any) -> Any:
    """Stands for a Planner: the arithmetic is done, what it says is given."""
    return SimpleNamespace(
        plan=lambda model: Plan(model, slots, slots, batch, 2, ()), slots_are_fixed=lambda: True, **others
    )


@dataclass
class Call:
    """What the fake engine was asked, and the functions it was given."""

    sound: Path
    language: str | None
    on_progress: Callable[[Stage, float], None]
    find_aligner: Callable[[str], tuple[str | None, str | None]]
    on_start: Callable[[Callable[[], None]], None]
    on_memory: Callable[[int], None]
    allowed: Allowed
    journal: Path
    batch: int


class FakeEngine:
    """Answers with what `behave` returns, and `usage`, or raises; remembers how it was asked."""

    def __init__(self) -> None:
        self.behave: Callable[[Call], Answer] = lambda call: (TRANSCRIPT, None)
        self.usage = USAGE
        self.calls: list[Call] = []
        self.specs: list[Spec] = []
        self.warmed: list[Spec] = []

    def transcribe(self, sound: Path, language: str | None, **callbacks: Any) -> Recognized:
        assert sound.stat().st_size > 0
        self.calls.append(Call(sound, language, **callbacks))
        return Recognized(*self.behave(self.calls[-1]), self.usage)

    @contextmanager
    def use(self, spec: Spec, stopped: Callable[[], bool]) -> Iterator[FakeEngine]:
        if stopped():
            raise Canceled
        self.specs.append(spec)
        yield self


class Bench:
    """A box and its worker's parts, without threads: `run` does one attempt, `beat` one heartbeat."""

    def __init__(self, box: Box, engine: FakeEngine, engines: Engines) -> None:
        self.box, self.engine, self.config, self.database = box, engine, box.config, box.database
        self.first = first_limits(self.config, self.config.slots)
        self.planner = planner(first=lambda: self.first, limits=lambda: store.limits(self.database, self.first))
        self.holding = False
        self.heartbeat = Heartbeat(self.config, self.planner, self.database, box.queue, engines)
        self.pipeline = Pipeline(
            self.config,
            self.database,
            box.queue,
            engines,
            self.heartbeat,
            "worker",
            self.planner,
            holding=lambda: self.holding,
        )

    def submit(self, source: Path | None = None, model: str = "demo", language: str | None = None) -> str:
        data = source.read_bytes() if source else models.SAMPLE.read_bytes()
        with self.box.receive("talk.flac", len(data)) as receiving:
            receiving.write(data)
            return receiving.queue(Params(model, language)).id

    def run(self, job_id: str) -> Job | None:
        self.pipeline.run(job_id)
        return store.get(self.database, job_id)

    def beat(self) -> None:
        self.heartbeat.beat()

    def row(self, job_id: str) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()

    def steal(self, job_id: str) -> None:
        """What a rescuer does to a job whose worker was silent for too long, and another worker's claim."""
        with self.database.write() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(token="other", worker="other"))

    def files(self, job_id: str) -> set[str]:
        """Of the job, without the waveform that a decoder leaves."""
        folder = media.folder(self.config, job_id)
        return {path.name for path in folder.iterdir()} - {"peaks.json"} if folder.exists() else set()

    def waiting(self) -> int:
        return int(self.box.queue.huey.pending_count())


@pytest.fixture
def small_disk(config: Config) -> Iterator[Path]:
    """A data folder on a file system of its own. Named before what uses it."""
    config.data.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2g,mode=700", "stenobox-test", str(config.data)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield config.data
    subprocess.run(["umount", "-l", str(config.data)], check=True)


@pytest.fixture
def media_disk(config: Config, database: Database) -> Iterator[Path]:
    """A disk for recordings alone. One with a database that is open can't be made read-only by a person."""
    mount = ["mount", "-t", "tmpfs", "-o", "mode=700", "stenobox-test", str(config.media)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield config.media
    subprocess.run(["umount", "-l", str(config.media)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def bench(box: Box, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Bench:
    engines = Engines(box.config)
    monkeypatch.setattr(engines, "use", engine.use)
    monkeypatch.setattr(engines, "warm", engine.warmed.append)
    return Bench(box, engine, engines)


def finished(bench: Bench, job_id: str, state: State) -> Job:
    """Run it; it must end in that state and leave nothing but the recording and, if completed, one transcript."""
    job = bench.run(job_id)
    assert job is not None
    assert job.state == state, job.error
    row = bench.row(job_id)
    assert (row.token, row.worker, row.lease_until, row.stage) == (None, None, None, None)
    expected = {"source"} | ({row.result} if state == State.COMPLETED else set())
    assert bench.files(job_id) == expected
    return job


def failure(bench: Bench, job_id: str, code: str) -> str:
    """Run it; it must fail with that code. The sentence."""
    job = finished(bench, job_id, State.FAILED)
    assert job.error is not None
    assert job.error.code == code
    assert (job.attempts, job.crashes) == (1, 0)
    return job.error.message


class TestCompleted:
    def test_everything_about_it(self, bench: Bench) -> None:
        job_id = bench.submit(language="de")
        stages: list[tuple[Stage | None, float]] = []

        def behave(call: Call) -> Answer:
            assert call.sound.stat().st_size == len(SPEECH) * 4
            call.on_start(lambda: None)
            for stage, share in ((Stage.TRANSCRIBE, 0.0), (Stage.TRANSCRIBE, 1.0), (Stage.ALIGN, 0.5)):
                call.on_progress(stage, share)
                bench.beat()
                job = store.get(bench.database, job_id)
                assert job is not None
                stages.append((job.stage, round(job.progress, 3)))
            return TRANSCRIPT, None

        bench.engine.behave = behave
        before = time.time()
        job = finished(bench, job_id, State.COMPLETED)
        assert stages == [(Stage.TRANSCRIBE, 0.1), (Stage.TRANSCRIBE, 0.8), (Stage.ALIGN, 0.895)]
        assert json.loads((media.folder(bench.config, job_id) / str(job.result)).read_bytes()) == TRANSCRIPT
        assert bench.box.transcript(job) == TRANSCRIPT
        assert (job.progress, job.note, job.attempts, job.crashes) == (1.0, None, 1, 0)
        assert job.media is not None
        assert (job.media["container"], job.media["channels"], len(job.media["tracks"])) == ("flac", 1, 1)
        assert media.extra(bench.config, job_id, "peaks.json").stat().st_size > 100
        assert job.source.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.01)
        assert job.started_at is not None
        assert job.finished_at is not None
        assert before <= job.started_at <= job.finished_at <= time.time()
        assert bench.engine.calls[0].language == "de"
        assert bench.engine.warmed == bench.engine.specs == [engine_spec(bench.config, bench.planner, "demo", 1)]

    def test_what_it_cost_is_kept_for_the_next_estimate(self, bench: Bench, tmp_path: Path) -> None:
        job = finished(bench, bench.submit(), State.COMPLETED)
        (record,) = store.records(bench.database, "demo")
        kind = Kind("demo", "int8", windows=1, aligned=False)  # 4 s, and no word of TRANSCRIPT has times
        assert record == Record(kind, USAGE.base, USAGE.load, USAGE.job)
        assert job.work_seconds is not None
        assert USAGE.seconds < job.work_seconds < 30  # and the decoding
        assert job.realtime_factor == pytest.approx(job.work_seconds / (len(SPEECH) / SAMPLE_RATE), rel=0.01)
        words = [{"word": "five", "start": 0.2, "end": 0.9, "confidence": 0.9}]
        aligned = {**TRANSCRIPT, "segments": [{**TRANSCRIPT["segments"][0], "words": words}]}  # type: ignore[index, dict-item]
        bench.engine.behave = lambda call: (aligned, None)
        finished(bench, bench.submit(media_files.long_silent_flac(tmp_path / "a.flac", 70)), State.COMPLETED)
        assert store.records(bench.database, "demo")[0].kind == Kind("demo", "int8", windows=3, aligned=True)

    def test_the_decoder_may_have_needed_more_than_the_engine(self, bench: Bench) -> None:
        bench.engine.usage = replace(USAGE, job=1)
        finished(bench, bench.submit(), State.COMPLETED)
        (record,) = store.records(bench.database, "demo")
        assert 10 * MIB < record.job < 1000 * MIB

    def test_no_speech_says_nothing_about_costs(self, bench: Bench) -> None:
        bench.engine.behave = lambda call: ({**TRANSCRIPT, "segments": []}, "No speech found.")
        assert finished(bench, bench.submit(), State.COMPLETED).work_seconds is not None
        assert store.records(bench.database, "demo") == []

    def test_decoding_is_the_first_tenth(self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[Stage, float]] = []
        at = pipeline.Running.at
        monkeypatch.setattr(pipeline.Running, "at", lambda running, *step: (seen.append(step), at(running, *step))[1])
        finished(bench, bench.submit(media_files.long_silent_flac(tmp_path / "a.flac", 300)), State.COMPLETED)
        decoding = [progress for stage, progress in seen if stage == Stage.DECODE]
        assert decoding[0] == 0.0
        assert len(decoding) > 5
        assert decoding == sorted(decoding)
        assert decoding[-1] == pytest.approx(0.1)
        assert seen[-1] == (Stage.SAVE, 0.99)

    def test_no_speech_and_damage_are_notes(self, bench: Bench, tmp_path: Path) -> None:
        bench.engine.behave = lambda call: ({**TRANSCRIPT, "segments": []}, "No speech found.")
        assert finished(bench, bench.submit(), State.COMPLETED).note == "No speech found."
        whole = media_files.make(tmp_path / "whole.mp3", SPEECH)
        cut = media_files.truncated(whole, tmp_path / "cut.mp3", 0.7)
        assert finished(bench, bench.submit(cut), State.COMPLETED).note == f"No speech found. {DAMAGED}"
        bench.engine.behave = lambda call: (TRANSCRIPT, None)
        assert finished(bench, bench.submit(cut), State.COMPLETED).note == DAMAGED

    def test_whoever_woke_us_the_first_in_line_runs(self, bench: Bench) -> None:
        first, second = bench.submit(), bench.submit()
        bench.run(second)
        assert [bench.row(job_id).state for job_id in (first, second)] == ["completed", "queued"]

    def test_a_free_slot_wakes_the_next(self, bench: Bench) -> None:
        job_id = bench.submit()
        before = bench.waiting()
        finished(bench, job_id, State.COMPLETED)
        assert bench.waiting() == before + 1

    def test_nothing_to_do(self, bench: Bench) -> None:
        bench.pipeline.run("0" * 32)
        assert bench.waiting() == 0
        assert bench.engine.calls == []

    def test_no_slot_free(self, bench: Bench) -> None:
        first, second = bench.submit(), bench.submit()
        assert store.claim_next(bench.database, bench.first, "other", 30)
        bench.pipeline.run(second)
        assert [bench.row(job_id).state for job_id in (first, second)] == ["running", "queued"]


class TestResuming:
    """What the engine has kept beside the recording, until the job ends."""

    @staticmethod
    def keep(call: Call) -> None:
        """Half of the speech is recognized."""
        with journal.resume(call.journal, journal.Key("demo", "", "int8", "cpu", None, "", "")) as kept:
            if not kept.windows:
                kept.found_speech([(0.0, 1.0), (1.0, 2.0)])
                kept.found_words("five", -0.1)

    def test_progress_begins_where_it_was_and_the_journal_goes_with_the_job(self, bench: Bench) -> None:
        job_id = bench.submit()
        told: list[tuple[float, float]] = []

        def leave(call: Call) -> Answer:
            self.keep(call)
            bench.heartbeat._running[bench.row(job_id).token].stop(Reason.PRESSURE)
            raise Canceled

        def behave(call: Call) -> Answer:
            call.on_progress(Stage.TRANSCRIBE, 0.0)
            bench.beat()
            told.append((bench.row(job_id).progress, bench.row(job_id).resumed))
            call.on_progress(Stage.TRANSCRIBE, 1.0)
            bench.beat()
            told.append((bench.row(job_id).progress, bench.row(job_id).resumed))
            return TRANSCRIPT, None

        bench.engine.behave = leave
        bench.run(job_id)
        assert bench.files(job_id) == {"source", "journal"}
        bench.engine.behave = behave
        finished(bench, job_id, State.COMPLETED)
        half = 0.1 + 0.7 * 0.6  # decoded; of recognizing speech: a fifth for finding it and half of the rest
        assert told == [(pytest.approx(half), pytest.approx(half)), (pytest.approx(0.8), pytest.approx(half))]

    @pytest.mark.parametrize("ending", ["failed", "canceled", "canceled in line", "deleted"])
    def test_however_the_job_ends_nothing_is_left(self, bench: Bench, ending: str) -> None:
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            self.keep(call)
            match ending:
                case "failed":
                    raise StenoboxError("timed_out", "Broken.")
                case "canceled":
                    bench.box.cancel(job_id)
                    bench.beat()
                case "deleted":
                    bench.box.delete(job_id)
                    bench.beat()
                case "canceled in line":
                    raise ChildDied("engine", "was killed (SIGKILL)")
            raise Canceled

        bench.engine.behave = behave
        bench.run(job_id)
        if ending == "canceled in line":
            assert bench.files(job_id) == {"source", "journal"}
            bench.box.cancel(job_id)
        assert bench.files(job_id) == (set() if ending == "deleted" else {"source"})

    def test_who_lost_the_job_leaves_the_journal_to_who_has_it(self, bench: Bench) -> None:
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            self.keep(call)
            bench.steal(job_id)
            return TRANSCRIPT, None

        bench.engine.behave = behave
        bench.run(job_id)
        assert "journal" in bench.files(job_id)


class TestFailed:
    @pytest.mark.parametrize(
        ("make", "code"),
        [
            (lambda folder: media_files.hostile(folder)["playlist.mp3"], "undecodable"),
            (lambda folder: media_files.video_only(folder / "a.mp4"), "no_audio"),
            (lambda folder: media_files.long_silent_flac(folder / "a.flac", 130), "too_long"),
        ],
    )
    def test_the_file_s_fault(self, make: Callable[[Path], Path], code: str, bench: Bench, tmp_path: Path) -> None:
        change_limit(bench.database, "max_seconds", 120.0)
        failure(bench, bench.submit(make(tmp_path)), code)
        assert bench.engine.calls == []

    def test_the_limit_is_the_one_in_force_now(self, bench: Bench, tmp_path: Path) -> None:
        job_id = bench.submit()
        change_limit(bench.database, "max_seconds", 3.0)
        failure(bench, job_id, "too_long")

    @pytest.mark.parametrize("code", ["model_missing", "timed_out"])
    def test_what_the_engine_says(self, code: str, bench: Bench) -> None:
        def behave(call: Call) -> Answer:
            raise StenoboxError(code, "So it is.")

        bench.engine.behave = behave
        assert failure(bench, bench.submit(), code) == "So it is."

    @pytest.mark.parametrize(("code", "tries"), [("internal", 3), ("device_failed", 2)])
    def test_what_may_be_the_engine_s_fault_is_tried_again_and_then_final(
        self, code: str, tries: int, bench: Bench
    ) -> None:
        def behave(call: Call) -> Answer:
            raise StenoboxError(code, "So it is.")

        bench.engine.behave = behave
        job_id = bench.submit()
        for _ in range(tries - 1):
            assert finished(bench, job_id, State.QUEUED).crashes == 0
        assert failure(bench, job_id, code) == "So it is."
        records = store.list_attempts(bench.database, job_id)
        assert [(r.cause, r.sentence, r.charged) for r in records] == [(code, "So it is.", False)] * tries

    def test_one_broken_engine_costs_no_job(self, bench: Bench) -> None:
        """Six in line, and an engine whose device is gone until it is another one."""
        change_limit(bench.database, "queue_limit", 10)
        failures = 0

        def behave(call: Call) -> Answer:
            nonlocal failures
            if failures < MOST_FAILURES:
                failures += 1
                raise StenoboxError("internal", "It does not say why.")
            return TRANSCRIPT, None

        bench.engine.behave = behave
        ids = [bench.submit() for _ in range(6)]
        for _ in range(8):
            bench.pipeline.run(ids[0])
        assert {store.get(bench.database, one).state for one in ids} == {State.COMPLETED}  # type: ignore[union-attr]

    def test_the_recording_is_gone(self, bench: Bench) -> None:
        job_id = bench.submit()
        media.source(bench.config, job_id).unlink()
        job = bench.run(job_id)
        assert job is not None
        assert job.error is not None
        assert job.error.code == "media_missing"
        assert bench.files(job_id) == set()

    def test_the_model_is_gone(self, bench: Bench) -> None:
        failure(bench, bench.submit(model="was-here-yesterday"), "unknown_model")

    def test_disk_full_while_decoding(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        job_id = bench.submit()
        sound = media.sound

        def full(config: Config, job_id: str, token: str) -> Path:
            path = sound(config, job_id, token)
            if not path.is_symlink():
                path.symlink_to("/dev/full")
            return path

        monkeypatch.setattr(media, "sound", full)
        failure(bench, job_id, "disk_full")

    def test_a_disk_that_fills_up_fails_that_job_and_leaves_the_database_whole(
        self, small_disk: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All on one disk: the sound takes its last block, and the row that says so is written nevertheless."""
        monkeypatch.setattr("tasks.decode.WORK_SPARE_BYTES", -(2**40))  # or it would not be begun
        monkeypatch.setattr(disk, "takes_work", lambda folder, spare: disk.room(folder, 0) >= 0)
        job_id = bench.submit(media_files.long_silent_flac(tmp_path / "long.flac", 300))  # 19 MB once decoded
        resize(small_disk, 8 * 2**20)
        sentence = failure(bench, job_id, "disk_full")
        assert sentence == "The disk filled up while this file was read. Free some space and try again."
        (record,) = store.list_attempts(bench.database, job_id)
        assert (record.cause, record.stage, record.charged) == ("disk_full", Stage.DECODE, False)
        with bench.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"

    def test_what_has_no_room_is_not_begun(self, small_disk: Path, bench: Bench, tmp_path: Path) -> None:
        job_id = bench.submit(media_files.long_silent_flac(tmp_path / "long.flac", 300))
        resize(small_disk, WORK_SPARE_BYTES + 10 * 2**20)
        sentence = failure(bench, job_id, "disk_full")
        assert re.match(r"There is no room for this recording: 19 MB once it is read, and \d+ MB of the disk", sentence)

    def test_disk_full_while_saving(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        job_id = bench.submit()
        monkeypatch.setattr(media.os, "fsync", full)
        failure(bench, job_id, "disk_full")

    def test_a_bug_of_ours_is_a_sentence_too(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        def behave(call: Call) -> Answer:
            raise ZeroDivisionError("secret detail")

        bench.engine.behave = behave
        sentence = failure(bench, bench.submit(), "internal")
        assert "ZeroDivisionError" in sentence
        assert "secret detail" not in sentence
        assert "secret detail" in caplog.text


class TestTheDiskRefuses:
    """Read-only, broken, another's: not the recording's fault, and nothing that is charged."""

    def ends(self, bench: Bench, job_id: str, state: State) -> None:
        job = finished(bench, job_id, state)
        assert (job.attempts, job.crashes) == ((0, 0) if state == State.QUEUED else (1, 0))

    @pytest.mark.parametrize("kind", [JobKind.TRANSCRIPTION, JobKind.EXTRACTION])
    def test_a_read_only_disk_is_waited_for(
        self, kind: JobKind, media_disk: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with bench.box.receive("talk.flac") as receiving:
            receiving.write(models.SAMPLE.read_bytes())
            light = kind == JobKind.EXTRACTION
            job_id = receiving.queue(Params(kind=kind, format="wav") if light else Params("demo", None)).id
        subprocess.run(["mount", "-o", "remount,ro", str(media_disk)], check=True)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "takes_work", lambda *_: True)  # it happens just after the claim
            self.ends(bench, job_id, State.QUEUED)
        for _ in range(MOST_REFUSALS + 1):
            self.ends(bench, job_id, State.QUEUED)
        [tried] = store.list_attempts(bench.database, job_id)  # and it is claimed no more
        assert (tried.cause, tried.charged, tried.outcome) == ("storage_failing", False, "queued")
        assert "Read-only file system" in (tried.sentence or "")
        subprocess.run(["mount", "-o", "remount,rw", str(media_disk)], check=True)
        self.ends(bench, job_id, State.COMPLETED)

    def test_one_that_others_have_filled_is_waited_for(
        self, media_disk: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = bench.submit()
        resize(media_disk, WORK_SPARE_BYTES - 2**20)
        self.ends(bench, job_id, State.QUEUED)
        assert store.list_attempts(bench.database, job_id) == []
        with monkeypatch.context() as patch:
            looks = iter((True, False))  # it happens just after the claim
            patch.setattr(disk, "takes_work", lambda *_: next(looks))
            self.ends(bench, job_id, State.QUEUED)
        [tried] = store.list_attempts(bench.database, job_id)
        assert (tried.cause, tried.charged, tried.outcome) == ("disk_full", False, "queued")
        resize(media_disk, 2**30)
        self.ends(bench, job_id, State.COMPLETED)

    def test_one_that_uploads_have_filled_to_their_mark_is_worked_on(self, media_disk: Path, bench: Bench) -> None:
        job_id = bench.submit()
        resize(media_disk, SPARE_BYTES - 2**20)
        self.ends(bench, job_id, State.COMPLETED)

    def test_what_it_takes_itself_is_not_others(
        self, media_disk: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or it would be begun again and again."""
        monkeypatch.setattr("tasks.decode.WORK_SPARE_BYTES", -(2**40))  # or it would not be begun
        monkeypatch.setattr("tasks.pipeline.WORK_SPARE_BYTES", 0)
        bench.pipeline._outcomes._spare = 0
        job_id = bench.submit(media_files.long_silent_flac(tmp_path / "long.flac", 300))  # 19 MB once decoded
        resize(media_disk, 8 * 2**20)
        assert failure(bench, job_id, "disk_full").startswith("The disk filled up while")

    def test_one_that_refuses_only_what_this_job_needs_has_three_tries(self, bench: Bench) -> None:
        def behave(call: Call) -> Answer:
            raise StenoboxError("storage_failing", "The disk of this box reports errors (Input/output error).")

        bench.engine.behave = behave
        job_id = bench.submit()
        for _ in range(MOST_REFUSALS - 1):
            self.ends(bench, job_id, State.QUEUED)
        assert "Input/output error" in failure(bench, job_id, "storage_failing")
        assert bench.pipeline._outcomes._refused == {}
        bench.box.retry(job_id)
        bench.engine.behave = lambda call: (TRANSCRIPT, None)
        finished(bench, job_id, State.COMPLETED)

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EIO])
    def test_whatever_of_ours_meets_it(self, number: int, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: Path) -> float:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(pipeline.journal, "progress", broken)
        job_id = bench.submit()
        self.ends(bench, job_id, State.QUEUED)
        [tried] = store.list_attempts(bench.database, job_id)
        assert tried.cause == "storage_failing"

    def test_a_transcript_that_could_not_be_saved_is_made_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        job_id = bench.submit()
        with monkeypatch.context() as patch:
            patch.setattr(media.os, "fsync", broken)
            self.ends(bench, job_id, State.QUEUED)
        self.ends(bench, job_id, State.COMPLETED)

    def test_files_that_can_not_be_removed_stop_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        unlink = Path.unlink

        def refuse(path: Path, missing_ok: bool = False) -> None:
            if path.name.startswith(".writable"):
                return unlink(path, missing_ok)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        job_id = bench.submit()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            job = bench.run(job_id)
        assert job is not None
        assert job.state == State.COMPLETED


class TestCrashed:
    def test_charged_and_the_third_fails(self, bench: Bench) -> None:
        def behave(call: Call) -> Answer:
            call.on_progress(Stage.ALIGN, 0.5)
            raise ChildDied("engine", *deaths[len(bench.engine.calls) - 1])

        deaths = [("crashed (SIGSEGV)",), ("was killed (SIGKILL)", "killed"), ("crashed (SIGSEGV)",)]
        bench.engine.behave = behave
        job_id = bench.submit()
        for crashes in (1, 2):
            job = finished(bench, job_id, State.QUEUED)
            assert (job.attempts, job.crashes, job.error) == (crashes, crashes, None)
        job = finished(bench, job_id, State.FAILED)
        assert (job.attempts, job.crashes) == (3, 3)
        assert job.error is not None
        assert job.error.code == "engine_crashed"
        assert job.error.message.startswith(
            "Tried 3 times: the process that ran it crashed twice and was killed once. "
            "At last: The engine crashed (SIGSEGV) while timing the words. "
        )
        assert [record.sentence for record in store.list_attempts(bench.database, job_id)] == [
            "The engine crashed (SIGSEGV) while timing the words.",
            "The engine was killed (SIGKILL) from outside while timing the words.",
            "The engine crashed (SIGSEGV) while timing the words.",
        ]

    def test_once_is_forgiven(self, bench: Bench) -> None:
        def behave(call: Call) -> Answer:
            if len(bench.engine.calls) == 1:
                raise ChildDied("engine", "crashed (SIGSEGV)")
            return TRANSCRIPT, None

        bench.engine.behave = behave
        job_id = bench.submit()
        finished(bench, job_id, State.QUEUED)
        job = finished(bench, job_id, State.COMPLETED)
        assert (job.attempts, job.crashes) == (2, 1)

    def test_our_own_killing_is_not_charged(self, bench: Bench) -> None:
        def behave(call: Call) -> Answer:
            raise ChildDied("engine", "was killed (SIGKILL)", deliberate=True)

        bench.engine.behave = behave
        job = finished(bench, bench.submit(), State.QUEUED)
        assert (job.attempts, job.crashes) == (0, 0)
        (record,) = store.list_attempts(bench.database, job.id)
        assert (record.outcome, record.cause, record.charged) == (State.QUEUED, "engine_ended", False)

    def test_a_killed_decoder_is_charged(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        spawn = children.spawn

        def doomed(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
            process = spawn(*arguments, **options)
            os.kill(process.pid, signal.SIGKILL)
            return process

        monkeypatch.setattr(children, "spawn", doomed)
        assert finished(bench, bench.submit(), State.QUEUED).crashes == 1


class TestOutOfMemory:
    def behave(self, bench: Bench, deaths: int) -> None:
        """The engine runs out of memory so many times, then it works."""

        def behave(call: Call) -> Answer:
            call.on_memory(700 * MIB)
            call.on_memory(5000 * MIB)
            call.on_memory(800 * MIB)
            if len(bench.engine.calls) <= deaths:
                raise ChildDied("engine", "was killed (SIGKILL)", "out_of_memory")
            return TRANSCRIPT, None

        bench.engine.behave = behave

    def submit(self, bench: Bench, tmp_path: Path, seconds: int = 200) -> str:
        return bench.submit(media_files.long_silent_flac(tmp_path / f"{seconds}.flac", seconds))

    def test_the_next_try_has_half_the_batch_and_says_so(self, bench: Bench, tmp_path: Path) -> None:
        self.behave(bench, 2)
        job_id = self.submit(bench, tmp_path)
        finished(bench, job_id, State.QUEUED)
        finished(bench, job_id, State.QUEUED)
        job = finished(bench, job_id, State.COMPLETED)
        assert [spec.batch for spec in bench.engine.specs] == [4, 2, 1]
        assert bench.engine.warmed == bench.engine.specs
        assert job.note == (
            "Memory ran out at first, so less of it was recognized at a time: 1 × 30 s instead of 4 × 30 s."
        )
        told = [(r.batch, r.cause, r.charged, r.peak_bytes) for r in store.list_attempts(bench.database, job_id)]
        peak = 5000 * MIB
        assert told == [(4, "out_of_memory", True, peak), (2, "out_of_memory", True, peak), (1, None, False, peak)]
        first = store.list_attempts(bench.database, job_id)[0]
        assert first.sentence == "The engine ran out of memory while transcribing, and the system ended it."

    def test_what_it_cost_then_is_no_measure_for_others(self, bench: Bench, tmp_path: Path) -> None:
        self.behave(bench, 1)
        job_id = self.submit(bench, tmp_path)
        finished(bench, job_id, State.QUEUED)
        finished(bench, job_id, State.COMPLETED)
        assert store.records(bench.database, "demo") == []
        finished(bench, self.submit(bench, tmp_path), State.COMPLETED)
        assert bench.engine.specs[-1].batch == 4  # its neighbours are as they were
        assert len(store.records(bench.database, "demo")) == 1

    def test_a_short_recording_never_filled_the_batch(self, bench: Bench) -> None:
        """One window is the least there is: nothing is smaller, and there is nothing to say."""
        self.behave(bench, 1)
        job_id = bench.submit()
        finished(bench, job_id, State.QUEUED)
        job = finished(bench, job_id, State.COMPLETED)
        assert [record.batch for record in store.list_attempts(bench.database, job_id)] == [1, 1]
        assert job.note is None

    def test_a_person_s_new_try_is_as_the_first(self, bench: Bench, tmp_path: Path) -> None:
        self.behave(bench, MAX_CRASHES)
        job_id = self.submit(bench, tmp_path)
        for state in (State.QUEUED, State.QUEUED, State.FAILED):
            job = finished(bench, job_id, state)
        assert job.error is not None
        assert job.error.code == "out_of_memory"
        assert job.error.message.startswith("Tried 3 times: the process that ran it ran out of memory 3 times. ")
        assert job.error.message.endswith("or give the box more memory.")
        bench.box.retry(job_id)
        finished(bench, job_id, State.COMPLETED)
        assert [spec.batch for spec in bench.engine.specs] == [4, 2, 1, 4]

    def test_a_gpu_s_memory_counts_too(self, bench: Bench, tmp_path: Path) -> None:
        def behave(call: Call) -> Answer:
            raise StenoboxError("out_of_memory", "The memory of cuda ran out.")

        bench.engine.behave = behave
        job_id = self.submit(bench, tmp_path)
        assert finished(bench, job_id, State.QUEUED).crashes == 1
        (record,) = store.list_attempts(bench.database, job_id)
        assert (record.cause, record.sentence) == ("out_of_memory", "The memory of cuda ran out while transcribing.")


class TestDeadlines:
    def test_what_a_job_gets_fits_its_length_and_this_box(self, bench: Bench) -> None:
        finished(bench, bench.submit(), State.COMPLETED)
        factor = store.factor(bench.database, "demo", "int8")
        assert factor is not None
        finished(bench, bench.submit(), State.COMPLETED)
        first, second = (call.allowed for call in bench.engine.calls)
        assert first == allow(len(SPEECH) / SAMPLE_RATE, 4, None)
        assert second == allow(len(SPEECH) / SAMPLE_RATE, 4, factor)

    def test_one_that_never_ends_is_given_up(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipeline, "allow", lambda *_: Allowed(step=10.0, job=0.0))

        def behave(call: Call) -> Answer:
            call.on_progress(Stage.TRANSCRIBE, 0.5)
            raise AssertionError("it goes on")

        bench.engine.behave = behave
        assert "longer than a recording of its length may take" in failure(bench, bench.submit(), "timed_out")


class TestStopped:
    def stop_by(self, bench: Bench, stop: Callable[[], None]) -> list[str]:
        """The engine works until it is stopped by the heartbeat, like the real one; returns what happened, last."""
        happened: list[str] = []

        def behave(call: Call) -> Answer:
            happened.clear()
            call.on_start(lambda: happened.append("told the engine"))
            stop()
            bench.beat()
            assert happened == ["told the engine"]
            raise Canceled

        bench.engine.behave = behave
        return happened

    def test_canceled(self, bench: Bench) -> None:
        job_id = bench.submit()
        self.stop_by(bench, lambda: bench.box.cancel(job_id) and None)
        job = finished(bench, job_id, State.CANCELED)
        assert job.finished_at is not None
        assert job.error is None

    def test_canceled_while_it_decodes(self, bench: Bench, tmp_path: Path) -> None:
        job_id = bench.submit(media_files.long_silent_flac(tmp_path / "long.flac", 7200))
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(finished, bench, job_id, State.CANCELED)
            wait_until(lambda: list(media.folder(bench.config, job_id).glob("*.f32")))
            bench.box.cancel(job_id)
            bench.beat()
            run.result(60)
        assert bench.engine.calls == []

    def test_canceled_while_it_waits_for_the_engine(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Engines.use` asks whether to go on; being woken is a hook of the attempt."""
        woken = threading.Event()
        monkeypatch.setattr(bench.pipeline._engines, "wake", woken.set)

        @contextmanager
        def use(spec: Spec, stopped: Callable[[], bool]) -> Iterator[FakeEngine]:
            assert not stopped()
            bench.box.cancel(job_id)
            bench.beat()
            assert woken.is_set()
            assert stopped()
            raise Canceled
            yield bench.engine

        monkeypatch.setattr(bench.pipeline._engines, "use", use)
        job_id = bench.submit()
        finished(bench, job_id, State.CANCELED)

    def test_a_cancel_that_comes_too_late_changes_nothing(self, bench: Bench) -> None:
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            bench.box.cancel(job_id)  # and no heartbeat before the end
            return TRANSCRIPT, None

        bench.engine.behave = behave
        finished(bench, job_id, State.COMPLETED)

    def test_a_cancel_wins_over_the_crash_it_may_have_caused(self, bench: Bench) -> None:
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            bench.box.cancel(job_id)
            bench.beat()
            raise ChildDied("engine", "was killed (SIGKILL)")

        bench.engine.behave = behave
        assert finished(bench, job_id, State.CANCELED).crashes == 0

    def test_draining(self, bench: Bench) -> None:
        job_id = bench.submit()
        self.stop_by(bench, bench.heartbeat.drain)
        before = bench.waiting()
        job = finished(bench, job_id, State.QUEUED)
        assert (job.attempts, job.crashes) == (0, 0)
        assert bench.waiting() == before  # nobody is woken for it here
        bench.engine.behave = lambda call: (TRANSCRIPT, None)
        assert finished(bench, job_id, State.QUEUED).attempts == 0  # and nothing is claimed any more

    def test_claimed_in_the_moment_of_draining(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        claim = store.claim_next

        def claim_then_drain(*arguments: Any, **options: Any) -> Any:
            attempt = claim(*arguments, **options)
            bench.heartbeat.drain()
            return attempt

        monkeypatch.setattr(store, "claim_next", claim_then_drain)
        job = finished(bench, bench.submit(), State.QUEUED)
        assert job.attempts == 0
        assert bench.engine.calls == []

    def test_memory_that_runs_out_is_not_charged_unless_again_and_again(self, bench: Bench) -> None:
        job_id = bench.submit()
        self.stop_by(bench, lambda: bench.heartbeat.stop_newest(Reason.PRESSURE) and None)
        for _ in range(MAX_CRASHES):
            job = finished(bench, job_id, State.QUEUED)
            assert (job.attempts, job.crashes) == (0, 0)
        for crashes in range(1, MAX_CRASHES):
            job = finished(bench, job_id, State.QUEUED)
            assert (job.attempts, job.crashes) == (crashes, crashes)
        job = finished(bench, job_id, State.FAILED)
        assert job.error is not None
        assert (job.error.code, job.error.message) == ("out_of_memory", PRESSED_SENTENCE)

    def test_memory_that_ran_out_is_forgotten_once_it_completed(self, bench: Bench) -> None:
        job_id = bench.submit()
        self.stop_by(bench, lambda: bench.heartbeat.stop_newest(Reason.PRESSURE) and None)
        finished(bench, job_id, State.QUEUED)
        assert bench.pipeline._outcomes._pressed == {job_id: 1}
        bench.engine.behave = lambda call: (TRANSCRIPT, None)
        finished(bench, job_id, State.COMPLETED)
        assert bench.pipeline._outcomes._pressed == {}

    def test_nothing_starts_or_is_warmed_while_memory_is_short(self, bench: Bench) -> None:
        job_id = bench.submit()
        bench.holding = True
        assert finished(bench, job_id, State.QUEUED).attempts == 0
        bench.pipeline.warm(job_id)
        assert bench.engine.warmed == []
        bench.holding = False
        finished(bench, job_id, State.COMPLETED)

    def test_lost_to_another_worker(self, bench: Bench) -> None:
        job_id = bench.submit()
        self.stop_by(bench, lambda: bench.steal(job_id))
        job = bench.run(job_id)
        assert job is not None
        assert job.state == State.RUNNING
        assert bench.row(job_id).token == "other"
        assert bench.files(job_id) == {"source"}

    def test_lost_without_noticing(self, bench: Bench) -> None:
        """The token fences: a finish that comes late changes nothing, and its transcript goes."""
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            bench.steal(job_id)
            (media.folder(bench.config, job_id) / "other.f32").touch()
            return TRANSCRIPT, None

        bench.engine.behave = behave
        job = bench.run(job_id)
        assert job is not None
        assert job.state == State.RUNNING
        assert bench.files(job_id) == {"source", "other.f32"}

    @pytest.mark.parametrize("noticed", [True, False])
    def test_deleted_while_it_runs(self, bench: Bench, noticed: bool) -> None:
        job_id = bench.submit()

        def behave(call: Call) -> Answer:
            bench.box.delete(job_id)
            if noticed:
                bench.beat()
                raise Canceled
            return TRANSCRIPT, None

        bench.engine.behave = behave
        assert bench.run(job_id) is None
        assert not media.folder(bench.config, job_id).exists()

    def test_deleted_while_it_decodes(self, bench: Bench, tmp_path: Path) -> None:
        job_id = bench.submit(media_files.long_silent_flac(tmp_path / "long.flac", 7200))
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(bench.run, job_id)
            wait_until(lambda: list(media.folder(bench.config, job_id).glob("*.f32")))
            bench.box.delete(job_id)
            bench.beat()
            assert run.result(60) is None
        assert not media.folder(bench.config, job_id).exists()


class TestTheDatabaseIsBusyAtTheEnd:
    def busy(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int) -> list[float]:
        """The next so many tries to finish a job find the database locked; the list of waits between them."""
        finish, waits = store.finish_if_owned, []
        left = iter(range(times))

        def finish_late(*arguments: Any) -> Any:
            if next(left, None) is not None:
                raise StenoboxError("database_busy", "The database is busy.")
            return finish(*arguments)

        monkeypatch.setattr(store, "finish_if_owned", finish_late)
        monkeypatch.setattr(
            pipeline, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic, time=time.time)
        )
        return waits

    def test_it_asks_again(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        waits = self.busy(bench, monkeypatch, 3)
        finished(bench, bench.submit(), State.COMPLETED)
        assert waits == [1, 1, 1]

    def test_leaving_it_leaves_the_job_to_the_next_worker(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy(bench, monkeypatch, 10**9)
        clock = SimpleNamespace(sleep=lambda _: bench.heartbeat.drain(), monotonic=time.monotonic, time=time.time)
        monkeypatch.setattr(pipeline, "time", clock)
        job_id = bench.submit()
        job = bench.run(job_id)
        assert job is not None
        assert job.state == State.RUNNING
        recovery.rescue(bench.config, bench.database)
        job = store.get(bench.database, job_id)
        assert job is not None
        assert job.state == State.QUEUED
        assert bench.files(job_id) == {"source"}


def test_a_worker_that_died_leaves_nothing_behind(bench: Bench) -> None:
    """At any moment: with sound, with half a transcript, with a whole one that no row names."""
    kept = bench.submit()
    finished(bench, kept, State.COMPLETED)
    transcript = bench.files(kept)
    job_id = bench.submit()
    attempt = store.claim_next(bench.database, bench.first, "dead", 30)
    assert attempt is not None
    folder = media.folder(bench.config, job_id)
    for name in (f"{attempt.token}.f32", f"{attempt.token}.json.part", f"{attempt.token}.json"):
        (folder / name).touch()
    recovery.rescue(bench.config, bench.database)
    assert bench.files(job_id) == {"source"}
    assert bench.files(kept) == transcript
    finished(bench, job_id, State.COMPLETED)


class TestFetchingModels:
    """`models.fetch` itself has its own tests; here it is replaced."""

    @pytest.fixture
    def fetched(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        fetched: list[str] = []

        def fetch(config: Config, what: Any, on_progress: Any, on_start: Any) -> Path:
            fetched.append(what.key)
            on_progress(0, 0)
            on_progress(50, 100)
            return Path("/models") / what.key

        monkeypatch.setattr(models, "fetch", fetch)
        return fetched

    def test_a_model_that_is_not_here_is_fetched_first(
        self, bench: Bench, fetched: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[Stage, float]] = []
        at = pipeline.Running.at
        monkeypatch.setattr(pipeline.Running, "at", lambda running, *step: (seen.append(step), at(running, *step))[1])
        finished(bench, bench.submit(model="tiny"), State.COMPLETED)
        assert fetched == ["tiny"]
        assert seen[:4] == [
            (Stage.DOWNLOAD, 0.0),
            (Stage.DOWNLOAD, 0.0),
            (Stage.DOWNLOAD, 0.5),
            (Stage.DECODE, 0.0),
        ]
        assert bench.engine.specs[0].folder == str(bench.config.models / "tiny")

    def test_no_network(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(*_: Any, **__: Any) -> Path:
            raise StenoboxError("model_missing", "Put the files there.")

        monkeypatch.setattr(models, "fetch", fetch)
        assert failure(bench, bench.submit(model="tiny"), "model_missing") == "Put the files there."
        assert bench.engine.warmed == []

    @pytest.mark.parametrize(("how", "state"), [("cancel", State.CANCELED), ("drain", State.QUEUED)])
    def test_stopped_meanwhile(self, how: str, state: State, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        downloads: list[subprocess.Popen[bytes]] = []

        def fetch(config: Config, what: Any, on_progress: Any, on_start: Any) -> Path:
            download = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
            downloads.append(download)
            on_start(download)
            if how == "cancel":
                bench.box.cancel(job_id)
                bench.beat()
            else:
                bench.heartbeat.drain()
            assert download.wait(60) == -signal.SIGKILL
            raise StenoboxError("model_missing", "The download was interrupted.")

        monkeypatch.setattr(models, "fetch", fetch)
        job_id = bench.submit(model="tiny")
        job = finished(bench, job_id, state)
        assert job.error is None
        assert len(downloads) == 1

    def ask(self, bench: Bench, language: str, model: str = "demo") -> tuple[Job, tuple[str | None, str | None]]:
        answers: list[tuple[str | None, str | None]] = []

        def behave(call: Call) -> Answer:
            answers.append(call.find_aligner(language))
            return TRANSCRIPT, answers[-1][1]

        bench.engine.behave = behave
        job = finished(bench, bench.submit(model=model), State.COMPLETED)
        return job, answers[0]

    def test_the_aligner_that_is_here(self, bench: Bench) -> None:
        job, answer = self.ask(bench, "en")
        assert answer == (str(models.DEMO_FOLDER / "aligner"), None)
        assert job.note is None

    def test_the_aligner_that_is_not_here_yet(self, bench: Bench, fetched: list[str]) -> None:
        job, answer = self.ask(bench, "fr", "tiny")
        assert fetched == ["tiny", "aligner:fr"]
        assert answer == ("/models/aligner:fr", None)
        assert job.note is None

    @pytest.mark.parametrize(("language", "name"), [("la", "Latin"), ("xx", "xx")])
    def test_no_aligner_for_the_language(self, language: str, name: str, bench: Bench, fetched: list[str]) -> None:
        job, _ = self.ask(bench, language, "tiny")
        assert job.note == f"Words have no times of their own: there is no aligner for {name}."
        assert fetched == ["tiny"]

    def test_an_aligner_that_cannot_be_fetched_costs_only_the_word_times(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetch(config: Config, what: Any, **_: Any) -> Path:
            if what.key == "tiny":
                return Path("/models/tiny")
            raise StenoboxError("model_missing", "No network.")

        monkeypatch.setattr(models, "fetch", fetch)
        job, _ = self.ask(bench, "fr", "tiny")
        assert job.note == "Words have no times of their own. No network."

    def test_canceled_while_the_aligner_comes(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(config: Config, what: Any, **_: Any) -> Path:
            if what.key == "tiny":
                return Path("/models/tiny")
            bench.box.cancel(job_id)
            bench.beat()
            raise StenoboxError("model_missing", "The download was interrupted.")

        monkeypatch.setattr(models, "fetch", fetch)
        bench.engine.behave = lambda call: (TRANSCRIPT, call.find_aligner("fr")[1])
        job_id = bench.submit(model="tiny")
        finished(bench, job_id, State.CANCELED)


class TestWarming:
    def test_the_job_s_model_else_the_usual_one(self, bench: Bench) -> None:
        own = bench.config.models / "own"
        own.mkdir()
        for name in ("model.bin", "config.json"):
            (own / name).touch()
        bench.pipeline.warm(bench.submit(model="own"))
        bench.pipeline.warm("0" * 32)  # no such job
        with bench.box.receive("arriving.wav") as receiving:
            bench.pipeline.warm(receiving.job_id)  # its form's fields come after the file
        assert [spec.model for spec in bench.engine.warmed] == ["own", "demo", "demo"]

    def test_a_model_that_is_not_here_is_not_warmed(self, bench: Bench) -> None:
        bench.pipeline.warm(bench.submit(model="tiny"))
        assert bench.engine.warmed == []


class TestSpec:
    def test_threads_are_shared_by_the_slots(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "cpus", lambda stated: SimpleNamespace(count=stated))
        spec = engine_spec(Config(data=config.data, cpus=8), planner(), "demo", 3)
        assert (spec.threads, spec.slots, spec.batch, spec.device, spec.compute_type) == (2, 3, 4, "cpu", "int8")
        assert engine_spec(Config(data=config.data, cpus=2), planner(), "demo", 4).threads == 1

    def test_slots_are_those_in_force_unless_given(self, config: Config) -> None:
        in_force = planner(limits=lambda: first_limits(config, 3))
        assert engine_spec(config, in_force, "demo").slots == 3
        assert engine_spec(config, in_force, "demo", 2).slots == 2

    def test_on_a_gpu(self, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        nvml_support.install(monkeypatch)
        monkeypatch.setattr(probe, "ask", lambda config, device: {"compute_types": ["float16", "float32"]})
        spec = engine_spec(Config(data=config.data, device="cuda"), planner(batch=16), "demo", 1)
        assert (spec.device, spec.compute_type, spec.batch) == ("cuda", "float16", 16)
        assert spec.align_device == "cuda"

    def test_on_a_mac(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "_has_mps", lambda: True)
        spec = engine_spec(config, planner(), "demo", 1)
        assert (spec.device, spec.align_device, spec.compute_type) == ("cpu", "mps", "int8")


def test_queue_messages_reach_the_pipeline(bench: Bench) -> None:
    """What the worker connects: a message in, a job done."""
    queue: Queue = bench.box.queue
    queue.answer(run_job=bench.pipeline.run, warm_engine=bench.pipeline.warm)
    job_id = bench.submit()
    while (task := queue.huey.dequeue()) is not None:
        queue.huey.execute(task)
    job = store.get(bench.database, job_id)
    assert job is not None
    assert job.state == State.COMPLETED
    assert len(bench.engine.warmed) == 2  # when the upload began, and when the job did


@pytest.mark.parametrize("function", ["add_record", "note_media_if_owned"])
def test_a_busy_database_at_what_only_estimates_need_costs_neither_job_nor_transcript(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise StenoboxError("database_busy", "The database is busy.")

    monkeypatch.setattr(store, function, busy)
    job_id = bench.submit()
    job = finished(bench, job_id, State.COMPLETED)
    assert bench.box.transcript(job)["text"] == TRANSCRIPT["text"]


def test_time_left_is_told_by_the_stages_and_what_they_took_is_kept(bench: Bench) -> None:
    told: list[tuple[float, float]] = []

    def look(call: Call) -> None:
        bench.beat()
        row = bench.row(job_id)
        told.append((row.progress, row.left_seconds))

    def behave(call: Call) -> Answer:
        call.on_progress(Stage.TRANSCRIBE, 0.0)
        look(call)
        call.on_progress(Stage.TRANSCRIBE, 1.0)
        call.find_aligner("en")
        call.on_progress(Stage.ALIGN, 0.0)
        look(call)
        return TRANSCRIPT, None

    bench.engine.behave, bench.engine.usage = behave, replace(USAGE, seconds=100.0)
    for _ in range(2):
        job_id = bench.submit()
        job = finished(bench, job_id, State.COMPLETED)
        assert job.left_seconds is None
    (first_bar, first), _, (bar, left), (later_bar, later) = told
    assert first < 60 < left  # the second knows how slow this box is with the model
    assert later < left
    assert later_bar >= bar > first_bar / 10
    with bench.database.read() as connection:
        kept = connection.execute(sa.select(measurements)).all()
    assert [row.language for row in kept] == [TRANSCRIPT["language"]] * 2
    for row in kept:
        assert row.decode_seconds > 0
        assert row.recognize_seconds + row.align_seconds == pytest.approx(100.0)


class TestLightJobs:
    """Jobs that need no model: no engine is asked, and their result is a file."""

    def submit(self, bench: Bench, params: Params, source: Path) -> str:
        with bench.box.receive("film.mp4", warm=False) as receiving:
            receiving.write(source.read_bytes())
            return receiving.queue(params).id

    def test_sound_is_extracted(self, bench: Bench, tmp_path: Path) -> None:
        source = media_files.make(tmp_path / "a.mp4", SPEECH, picture=True)
        job_id = self.submit(bench, Params(kind=JobKind.EXTRACTION, format="mp3"), source)
        job = finished(bench, job_id, State.COMPLETED)
        assert job.result is not None
        assert job.result.endswith(".mp3")
        assert media.result(bench.config, job_id, job.result).stat().st_size > 10_000
        assert job.source.seconds == pytest.approx(len(SPEECH) / SAMPLE_RATE, abs=0.1)
        assert job.media is not None
        assert job.media["codec"] == "aac"
        assert bench.engine.calls == bench.engine.specs == bench.engine.warmed == []

    def test_it_runs_beside_a_transcription_that_holds_the_only_slot(self, bench: Bench, tmp_path: Path) -> None:
        source = media_files.make(tmp_path / "a.wav", SPEECH)
        ids = []

        def behave(call: Call) -> Answer:
            ids.append(self.submit(bench, Params(kind=JobKind.EXTRACTION, format="flac"), source))
            bench.pipeline.run(ids[0])
            return TRANSCRIPT, None

        bench.engine.behave = behave
        bench.run(bench.submit())
        assert bench.box.get(ids[0]).state == State.COMPLETED

    def test_what_has_no_sound_fails_and_leaves_nothing(self, bench: Bench, tmp_path: Path) -> None:
        source = media_files.video_only(tmp_path / "a.mp4")
        job = finished(bench, self.submit(bench, Params(kind=JobKind.EXTRACTION, format="wav"), source), State.FAILED)
        assert job.error is not None
        assert job.error.code == "no_audio"

    def test_a_download_is_done_once_it_is_here(self, bench: Bench, tmp_path: Path) -> None:
        source = media_files.video_only(tmp_path / "a.mp4")
        job = finished(bench, self.submit(bench, Params(kind=JobKind.DOWNLOAD), source), State.COMPLETED)
        assert job.result == "source"

    @pytest.mark.parametrize("kind", [JobKind.EXTRACTION, JobKind.DOWNLOAD])
    def test_without_its_media(self, kind: JobKind, bench: Bench, tmp_path: Path) -> None:
        job_id = self.submit(bench, Params(kind=kind, format="mp3"), media_files.make(tmp_path / "a.wav", SPEECH))
        media.source(bench.config, job_id).unlink()
        job = bench.run(job_id)
        assert job is not None
        assert job.error is not None
        assert job.error.code == "media_missing"
