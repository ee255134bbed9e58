"""One attempt at one job, from claim to end: decode, transcribe, align, save.

Whatever happens ends in exactly one guarded change of the job's row; if this process dies instead, the next worker
puts the job back in line.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from tasks import (
    causes,
    children,
    choosing,
    devices,
    disk,
    journal,
    logs,
    machine,
    media,
    metrics,
    models,
    steps,
    store,
)
from tasks.capacity import WORK_SPARE_BYTES
from tasks.config import Config
from tasks.costs import Kind, Record, windows
from tasks.db import Database
from tasks.decode import Sound, decode
from tasks.engine import probe
from tasks.engine.engines import Engines
from tasks.engine.patience import Deadline, allow
from tasks.engine.process import Recognized
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError
from tasks.heartbeat import Heartbeat
from tasks.jobs import Job, Stage, State
from tasks.languages import NAMES
from tasks.outcomes import Outcomes
from tasks.planner import Planner
from tasks.queue import Queue
from tasks.running import Running
from tasks.stages import Course
from tasks.transcripts import as_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Words:
    """What an attempt found. seconds: duration of the recording; note: a sentence for the person, or None; work:
    seconds it took, without loading the model; stages: what each stage took of them; beside: jobs that ran at the
    same time; record: what it cost, None where that was not measured."""

    transcript: dict[str, Any]
    seconds: float
    note: str | None
    work: float
    stages: store.StageTimes
    beside: int
    record: Record | None


def engine_spec(config: Config, planner: Planner, model: str, slots: int | None = None) -> Spec:
    """What to run a model with here: batch and threads from its plan. slots: as in force, unless given.

    The model's files need not be there yet.
    """
    probe.ensure(config)  # before a model is first loaded on a GPU
    found, plan = devices.find(config), planner.plan(model)
    if slots is None:
        slots = planner.limits().slots
    return Spec(
        model=model,
        folder=str(models.place(config, models.find(config, model))),
        device=found.recognition,
        compute_type=found.compute_type,
        slots=slots,
        threads=max(1, machine.cpus(stated=config.cpus).count // slots),
        batch=plan.batch,
        align_device=found.alignment,
    )


class Pipeline:
    """Runs jobs in this worker; called from the queue's threads."""

    def __init__(
        self,
        config: Config,
        database: Database,
        queue: Queue,
        engines: Engines,
        heartbeat: Heartbeat,
        worker: str,
        planner: Planner,
        holding: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._database = database
        self._queue = queue
        self._engines = engines
        self._heartbeat = heartbeat
        self._worker = worker
        self._planner = planner
        self._holding = holding
        self._outcomes = Outcomes(config, database, WORK_SPARE_BYTES)

    def run(self, job_id: str) -> None:
        """Run the first job in line, if there is a slot and room for files. job_id: whose submission woke us."""
        if self._heartbeat.leaving or self._holding() or not disk.takes_work(self._config.media, WORK_SPARE_BYTES):
            return
        claim = (self._database, self._planner.first(), self._worker, self._config.lease)
        attempt = store.claim_next(*claim, light=True) or store.claim_next(*claim)
        if attempt is None:
            return
        if attempt.job.attempts == 1:
            metrics.waited(time.time() - attempt.job.created_at)
        with logs.about(attempt.job.id), self._heartbeat.watch(attempt) as running:
            logger.info("job %s: attempt %d", attempt.job.id, attempt.job.attempts)
            self._settle(running, self._attempt(running))
        if not self._heartbeat.leaving:
            self._queue.wake(job_id)  # a slot is free

    def warm(self, job_id: str) -> None:
        """A recording is arriving: load the model it will most likely need."""
        if self._holding():
            return
        job = store.get(self._database, job_id)
        name = job.params.model if job and job.params.model else self._planner.limits().model
        if models.ready(self._config, models.find(self._config, name)):
            self._engines.warm(engine_spec(self._config, self._planner, name))

    def _attempt(self, running: Running) -> Callable[[], Job | None]:
        """Do the work; return the change of the row that its outcome calls for."""
        token = running.token
        try:
            if running.job.kind.light:
                return self._light(running)
            words = self._words(running)
            running.at(Stage.SAVE, 0.99)
            result = f"{token}.json"
            media.write_durably(
                media.transcript(self._config, running.job.id, result), as_json(words.transcript).encode()
            )
            return partial(self._finish, running, result, words)
        except Exception as outcome:
            failed = outcome
        finally:
            media.drop(media.sound(self._config, running.job.id, token))
        return self._outcomes.of(failed, running)  # the room that it took itself isn't missing any more

    def _light(self, running: Running) -> Callable[[], Job | None]:
        def note(sound: Sound) -> None:
            with _estimates_can_wait(running.job.id):
                store.note_media_if_owned(self._database, running.token, sound.seconds, asdict(sound.facts))

        running.at(Stage.DECODE, 0.0)
        made = steps.make(self._config, running, self._planner.limits().max_seconds, note)
        return partial(
            store.finish_if_owned,
            self._database,
            running.token,
            made.result,
            made.seconds,
            " ".join(made.notes) or None,
            made.work,
            running.seen,
        )

    def _finish(self, running: Running, result: str, words: Words) -> Job | None:
        job = store.finish_if_owned(
            self._database, running.token, result, words.seconds, words.note, words.work, running.seen
        )
        if job and words.record:
            with _estimates_can_wait(job.id):
                store.add_record(
                    self._database,
                    words.record,
                    audio_seconds=words.seconds,
                    work_seconds=words.work,
                    beside=words.beside,
                    stages=words.stages,
                )
        return job

    def _settle(self, running: Running, change: Callable[[], Job | None]) -> None:
        """Write the outcome. A database that is busy for long is asked again; the lease is renewed meanwhile."""
        job = None
        while True:
            try:
                job = change()
                break
            except StenoboxError as error:
                logger.warning("job %s: its outcome waits: %s", running.job.id, error.message)
                if self._heartbeat.leaving:
                    return  # the next worker puts it back in line
                time.sleep(1)
        logger.info("job %s: %s", running.job.id, job.state if job else "no longer ours")
        if job is None or job.finished:
            self._outcomes.forget(running.job.id)
        if job is not None and job.finished:
            metrics.finished(job)
            if job.state != State.CANCELED or not store.can_be_undone(self._database, job.id):
                media.drop(media.journal(self._config, job.id))
        if job is None or job.state != State.COMPLETED:
            media.drop_made(self._config, running.job.id, running.token)
        if job is None and not store.existing(self._database, [running.job.id]):
            media.remove(self._config, running.job.id)  # deleted while it ran

    def _words(self, running: Running) -> Words:
        job, config = running.job, self._config
        source, sound_path = media.source(config, job.id), media.sound(config, job.id, running.token)
        if not source.is_file():
            raise StenoboxError("media_missing", "The recording is no longer on this box. Send it again.")
        model = models.find(config, job.params.model)
        if not models.ready(config, model):
            self._fetch(running, model)
        usual = spec = engine_spec(config, self._planner, model.name)
        if running.most_windows:
            spec = replace(usual, batch=min(usual.batch, running.most_windows))
        self._engines.warm(spec)  # it loads while this decodes

        kept = media.journal(config, job.id)
        course = self._course(running, spec)
        done = course.bar(Stage.TRANSCRIBE, share) if (share := journal.progress(kept)) else 0.0

        def at(stage: Stage, progress: float) -> None:
            running.at(stage, course.reach(stage, progress))

        at(Stage.DECODE, 0.0)
        began = time.monotonic()
        with media.work(config, job.id, running.token) as work:
            sound = decode(
                source,
                sound_path,
                self._planner.limits().max_seconds,
                track=job.params.track,
                language=job.params.language,
                extras=work,
                on_progress=lambda progress: at(Stage.DECODE, progress),
                on_start=lambda process: running.on_stop(lambda: children.kill(process)),
            )
            media.keep_extras(work)
        decoding = time.monotonic() - began
        course.decoded(sound.seconds)
        with _estimates_can_wait(job.id):
            store.note_media_if_owned(self._database, running.token, sound.seconds, asdict(sound.facts), done)
        running.holds(sound.peak)
        running.batch = windows(spec.batch, sound.seconds)
        allowed = allow(sound.seconds, spec.batch, store.factor(self._database, model.name, spec.numbers))
        running.at(
            Stage.TRANSCRIBE, course.bar(Stage.TRANSCRIBE, 0.0)
        )  # from here on it waits for the model, if that is still being loaded
        running.on_stop(self._engines.wake)
        with self._engines.use(spec, lambda: running.reason is not None) as engine:
            deadline = Deadline(allowed)

            def on_progress(stage: Stage, progress: float) -> None:
                deadline.check()
                at(stage, progress)

            def find_aligner(language: str) -> tuple[str | None, str | None]:
                folder, note = self._find_aligner(running, model, language)
                course.aligning(language, folder is not None)
                return folder, note

            found = engine.transcribe(
                sound_path,
                job.params.language,
                on_progress=on_progress,
                find_aligner=find_aligner,
                on_start=running.on_stop,
                on_memory=running.holds,
                allowed=allowed,
                journal=kept,
                batch=spec.batch,
            )
        fewer = running.batch < windows(usual.batch, sound.seconds)
        notes = [
            found.note,
            *sound.notes,
            causes.smaller(running.batch, windows(usual.batch, sound.seconds)) if fewer else None,
        ]
        return Words(
            found.transcript,
            sound.seconds,
            " ".join(filter(None, notes)) or None,
            decoding + found.usage.seconds,
            course.times(found.usage.seconds, found.transcript["language"]),
            found.usage.beside,
            None if fewer else _record(spec, found, sound),  # memory was short: what it held then says little
        )

    def _course(self, running: Running, spec: Spec) -> Course:
        """From now on its time left is told from the stages of other jobs, and from its own pace."""
        costs, job = store.stage_costs(self._database, spec.model, spec.numbers), running.job
        first = store.Line(0.0, choosing.expected_factor(spec.model, spec.device, spec.threads), math.inf)
        course = Course(costs, first, job.params.language, job.source.seconds)
        running.time_left = lambda: course.left
        return course

    def _find_aligner(self, running: Running, model: models.Model, language: str) -> tuple[str | None, str | None]:
        name = NAMES.get(language, language)
        aligner = models.aligner(self._config, model, language)
        if aligner is None:
            return None, f"Words have no times of their own: there is no aligner for {name}."
        try:
            folder = models.folder(self._config, aligner) or self._fetch(running, aligner)
        except StenoboxError as error:
            running.check()
            return None, f"Words have no times of their own. {error.message}"
        return str(folder), None

    def _fetch(self, running: Running, what: Any) -> Any:
        running.at(Stage.DOWNLOAD, 0.0)
        return models.fetch(
            self._config,
            what,
            on_progress=lambda done, total: running.at(Stage.DOWNLOAD, done / total if total else 0.0),
            on_start=lambda process: running.on_stop(lambda: children.kill(process)),
        )


@contextmanager
def _estimates_can_wait(job_id: str) -> Iterator[None]:
    """What only estimates rest on is not worth a job: when the database is busy it is left out."""
    try:
        yield
    except StenoboxError as error:
        logger.warning("job %s: not kept for estimates: %s", job_id, error.message)


def _record(spec: Spec, found: Recognized, sound: Sound) -> Record | None:
    """What the job cost, for the next estimate; nothing where there was no speech, and so little work."""
    segments = found.transcript["segments"]
    if not segments:
        return None
    aligned = any(word["start"] is not None for segment in segments for word in segment["words"])
    kind = Kind(spec.model, spec.numbers, windows(spec.batch, sound.seconds), aligned)
    used = found.usage
    return Record(kind, used.base, used.load, max(used.job, sound.peak), used.gpu_load, used.gpu_job)
