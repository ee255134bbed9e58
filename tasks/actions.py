"""What people and programs can do. The page, the API and the command line all call these; no rule lives in a route."""

from __future__ import annotations

import copy
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks import media, metrics, models, store, survey, transcripts
from tasks.access import Access
from tasks.capacity import Limits, Load, Request, changed, leaving, never_fits
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, Params, Source, State, is_id
from tasks.logins import Logins
from tasks.lookout import Lookout
from tasks.names import clean_name
from tasks.planner import Planner
from tasks.principals import OPERATOR, Principal
from tasks.queue import Queue
from tasks.receiving import Receiving, digest_for
from tasks.repeats import Repeat
from tasks.survey import Survey
from tasks.undo import Undos
from tasks.wishes import check_extraction, check_transcription

logger = logging.getLogger(__name__)

GIVE_BACK_SECONDS = 5.0  # until the place of a broken upload is given back, when that could not be written at once


@dataclass
class Box:
    """Everything the faces need: the configuration, the database and the queue."""

    config: Config
    database: Database
    queue: Queue
    principal: Principal = OPERATOR
    access: Access = field(init=False)
    logins: Logins = field(init=False)
    planner: Planner = field(init=False)
    lookout: Lookout = field(init=False)
    undos: Undos = field(init=False)
    receiver: str = field(init=False, default_factory=lambda: uuid.uuid4().hex)
    digests: dict[str, tuple[int, Any]] = field(init=False, default_factory=dict)
    """Of resumable uploads: how many bytes of each were hashed by this process, and the hash."""
    silences: dict[str, tuple[float, float]] = field(init=False, default_factory=dict)
    """Of resumable uploads: what their rows said when they were last looked at, and since when (monotonic)."""
    _broken: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.planner = Planner(self.config, self.database)
        self.undos = Undos(self.config, self.database)
        self.access = Access(self.config, self.database)
        self.logins = Logins(self.config, self.database, self.access)
        self.lookout = Lookout(self.config, self.database, self.planner, self.access)
        self.lookout.slots_fixed = self.planner.slots_are_fixed()

    def seen_by(self, principal: Principal) -> Box:
        """The same box as this principal sees it: only its jobs are there, and what it submits is its own."""
        box = copy.copy(self)
        box.principal = principal
        return box

    def submitters(self) -> dict[str, str]:
        """Names of keys, revoked ones too, by the mark on their jobs, for who sees several people's; else empty."""
        return self.access.names() if self.principal.owner is None else {}

    def leave(self) -> None:
        """This process was told to stop: it takes nothing new, and says so. Safe in a signal handler."""
        self.lookout.leaving = True

    def limits(self) -> Limits:
        """The limits in force."""
        return self.planner.limits()

    def load(self) -> Load:
        """What the box holds now."""
        return store.load(self.database)

    def survey(self) -> Survey:
        """What this box can hold and why, with what it holds now."""
        try:
            found = survey.take(self.config, self.planner, self.database, leaving=self.lookout.leaving)
        except StenoboxError:  # the database is busy
            return self.remembered_survey()
        self.lookout.slots_fixed = found.fixed
        return found

    def remembered_survey(self) -> Survey:
        """The same from memory, without the load: never waits for the database."""
        return survey.remember(self.config, self.planner, self.lookout.limits, self.lookout.slots_fixed)

    def request(self, size: int | None, model: str) -> Request:
        """A request as admission sees it. model: "" if not known yet."""
        fits = None  # also while the model is not known yet: see `params`
        if model and not self.planner.plan(model).maximum and not self.planner.slots_are_fixed():
            fits = self.planner.largest_that_fits()
        return Request(size, model, self.lookout.disk_free(), self.lookout.arrived, fits)

    def params(self, model: str | None, language: str | None, track: str | int | None = None) -> Params:
        """Check what was asked for, see `wishes`. Raises also never_fits, unless a person fixed the slots."""
        params = check_transcription(self.config, model or self.limits().model, language, track)
        request = self.request(None, params.model)
        if request.fits is not None:
            raise never_fits(request)
        return params

    def wanted(self, kind: JobKind, asked: Mapping[str, Any]) -> Params:
        """Parameters of a job of this kind from the fields that were sent (see `wishes.FIELDS`). Raises as `params` and
        `check_extraction`."""
        match kind:
            case JobKind.TRANSCRIPTION:
                return self.params(asked.get("model"), asked.get("language"), asked.get("track"))
            case JobKind.EXTRACTION:
                return check_extraction(asked)
            case JobKind.DOWNLOAD:
                return Params(kind=kind)

    @contextmanager
    def receive(
        self,
        name: str,
        size: int | None = None,
        kind: str = "upload",
        submitter: str | None = None,
        asker: str = "",
        key: str = "",
        *,
        warm: bool = True,
    ) -> Iterator[Receiving | Repeat]:
        """Take a place and a folder for a recording. Both are given back unless it was queued inside the block.

        name: the uploader's own; size: bytes as announced, None if unknown; submitter: whose it is, None: the
        principal's; asker: who is told when to come back; key: the submitter's own name for this submission (see
        `repeats`), whose second use takes no place and leads to the same job; warm: whether a model will be needed.
        Raises the refusal.
        """
        submitter = self.principal.submitter if submitter is None else submitter
        source, limits = Source(kind, clean_name(name), size), self.limits()
        try:
            job_id = self.admit(source, submitter, asker, key)
        except store.KeyTaken:
            repeat = Repeat(self.database, submitter, key)
            repeat.begin(size)
            yield repeat
            return
        receiving = None
        try:
            with media.Part(self.config, job_id) as part:
                if warm:
                    self.queue.warm(job_id)
                receiving = Receiving(self, job_id, source, part, limits, digest_for(submitter, key))
                yield receiving
        finally:
            if receiving is None or receiving.job is None:
                self._broken.add(job_id)
                self._give_back()

    def admit(self, source: Source, submitter: str, asker: str, key: str = "", plan: store.Plan | None = None) -> str:
        """Take a place; plan: of a resumable upload. Returns the job's id. Raises the refusal, or store.KeyTaken."""
        self._give_back()
        if self.lookout.leaving:
            raise leaving()
        first, request = self.planner.first(), self.request(source.bytes, "")
        receiver = self.receiver if plan is None else None
        try:
            job_id = store.admit(self.database, first, request, source, receiver, submitter, key, plan)
        except StenoboxError as refusal:
            if refusal.code == "queue_full":
                self.lookout.check_again(source.bytes, submitter, asker)
            metrics.refused(refusal.code)
            raise
        metrics.accepted()
        self.lookout.forgive(asker)
        return job_id

    def _give_back(self) -> None:
        """Remove uploads that broke: files first, or a disk that they have filled could take no end of a row. A
        database that is busy is asked again soon; the place is held until then."""
        for job_id in list(self._broken):
            try:
                job = store.get(self.database, job_id)
                if job is None or job.state == State.RECEIVING:  # else it was queued, though its sender wasn't told
                    media.remove(self.config, job_id)
                    store.drop_if_receiving(self.database, job_id)
            except StenoboxError as error:
                logger.warning("job %s: its place is not given back yet: %s", job_id, error.message)
                again = threading.Timer(GIVE_BACK_SECONDS, self._give_back)
                again.daemon = True
                again.start()
                return
            self._broken.discard(job_id)
            self.lookout.forget()

    def submit_sample(self, model: str | None = None) -> Job:
        """Submit the recording that comes with Stenobox: by the demo model, at once, if none is named."""
        params = self.params(model or "demo", None)
        data = models.SAMPLE.read_bytes()
        with self.receive("Sample recording.flac", len(data), "sample") as receiving:
            receiving.write(data)
            return receiving.queue(params)

    def change_settings(self, changes: dict[str, Any], by: str, *, text: bool = True) -> Limits:
        """Change fields of Limits, obeyed from the next decision on, all or none. A None takes a change back.

        slots: also "auto", for 0; by: who, for the record of changes; text: see `capacity.changed`. Returns the limits
        in force.
        Raises StenoboxError unknown_field, invalid_value or unknown_model.
        """
        values = {name: self.check_setting(name, value, text=text) for name, value in changes.items()}
        limits = store.change_limits(self.database, self.planner.first(), values, by)
        if "model" in values or "slots" in values:
            limits = self.limits()  # what is recommended goes with the model
        self.lookout.forget(limits)
        self._wake(limits)
        return limits

    def check_setting(self, name: str, value: Any, *, text: bool = True) -> Any:
        """The value as it would be kept; None stays None. Raises as `change_settings`."""
        if value is None and name in Limits.__struct_fields__:
            return None
        value = 0 if (name, value) == ("slots", "auto") else value
        checked = changed(self.lookout.limits, {name: value}, text=text)
        if name == "model":
            models.find(self.config, checked[name])
        return checked[name]

    def _wake(self, limits: Limits) -> None:
        """Start at once what now may run: a message for each free slot."""
        if limits.intake == "paused":
            return
        free = limits.slots - store.counts(self.database).running
        for job_id in store.first_ids(self.database, max(0, free)):
            self.queue.wake(job_id)

    def get(self, job_id: str) -> Job:
        """Raises StenoboxError not_found, also for what can't be an id and for a job that is another's."""
        job = self.find(job_id)
        if job is None:
            raise StenoboxError("not_found", "There is no such job. It may have been deleted.")
        return job

    def find(self, job_id: str) -> Job | None:
        """As `get`; None instead of the refusal."""
        return store.get(self.database, job_id, self.principal.owner) if is_id(job_id) else None

    def list_jobs(
        self, state: State | None, limit: int, after: str | None = None, batch: str | None = None
    ) -> list[Job]:
        """See `store.list_jobs`; this and the following see only the principal's own."""
        return store.list_jobs(self.database, state, limit, after, self.principal.owner, batch)

    def list_active(self, limit: int | None = None, *, apart: bool = False) -> list[Job]:
        return store.list_active(self.database, self.principal.owner, limit, apart=apart)

    def count_waiting(self) -> store.Waiting:
        return store.count_waiting(self.database, self.principal.owner)

    def list_finished(self, limit: int, cursor: tuple[float, str] | None = None, *, newer: bool = False) -> list[Job]:
        return store.list_finished(self.database, limit, cursor, self.principal.owner, newer=newer)

    def count_finished(self) -> int:
        return store.count_finished(self.database, self.principal.owner)

    def cancel(self, job_id: str, *, undoable: bool = False, batch: str | None = None) -> Job:
        """Stop a job that waits or runs. A running one becomes canceled within seconds. undoable: it may be taken back
        for a while (see `undo`); batch: that all of is canceled. Raises StenoboxError not_found or wrong_state."""
        job = store.cancel(self.database, self.get(job_id).id, undoable=undoable, batch=batch)
        if job is None:
            raise _wrong_state(self.get(job_id), "canceled")
        if undoable:
            self.undos.note()
        elif job.finished:  # else whoever runs it does
            media.drop(media.journal(self.config, job.id))
        if job.finished:
            metrics.finished(job)
        logger.info("job %s: a person canceled it", job.id)
        self.lookout.forget()
        return job

    def retry(self, job_id: str) -> Job:
        """Try a failed or canceled job again, with the parameters it had. Raises not_found, wrong_state, queue_full."""
        job = store.retry(self.database, self.planner.first(), self.get(job_id).id, self.principal.owner or "")
        if job is None:
            job = self.get(job_id)
            raise media_missing() if job.media_removed_at else _wrong_state(job, "tried again")
        logger.info("job %s: a person had it tried again", job.id)
        self.queue.wake(job.id)
        return job

    def delete(self, job_id: str, *, undoable: bool = False, batch: str | None = None) -> None:
        """Remove a job, its recording and its transcript, whatever it is doing. undoable, batch: as in `cancel`; one
        that is still arriving does not come back. Raises not_found."""
        job = self.get(job_id)
        undoable = undoable and job.state != State.RECEIVING
        if not store.delete(self.database, job.id, undoable=undoable, batch=batch):
            raise StenoboxError("not_found", "There is no such job. It may have been deleted.")
        self.undos.note() if undoable else media.remove(self.config, job_id)
        logger.info("job %s: a person deleted it", job_id)
        self.lookout.forget()

    def undo(self, what: str) -> list[Job]:
        """Take back what was canceled or deleted: a job, or a batch. Raises StenoboxError wrong_state."""
        jobs = self.undos.take_back(what, self.principal.owner, self.queue)
        self.lookout.forget()
        return jobs

    def transcript(self, job: Job) -> dict[str, Any]:
        """The transcript of a completed job (design section 10). Raises StenoboxError not_finished, or not_found for a
        job of another kind."""
        if job.kind != JobKind.TRANSCRIPTION:
            raise StenoboxError("not_found", f"This job is {_A[job.kind]}: it has no transcript, but media.")
        if job.state != State.COMPLETED or job.result is None:
            sentence = {
                State.FAILED: "This job failed, so it has no transcript. Its error says why.",
                State.CANCELED: "This job was canceled, so it has no transcript. Try it again to get one.",
            }.get(job.state, "This job has not finished yet. Ask again when its state is completed.")
            raise StenoboxError("not_finished", sentence)
        try:
            return transcripts.read(media.transcript(self.config, job.id, job.result).read_bytes())
        except FileNotFoundError:
            raise StenoboxError("not_found", "The transcript was deleted.") from None
        except (OSError, ValueError) as error:
            logger.error("job %s: its transcript can't be read: %s", job.id, error)
            raise StenoboxError(
                "transcript_damaged",
                "The transcript's file is damaged on the disk of this box. Send the recording again, or ask the "
                "operator for a backup.",
            ) from None


def media_missing() -> StenoboxError:
    return StenoboxError("media_missing", "The recording is no longer on this box. Send it again.")


_A = {JobKind.EXTRACTION: "an extraction", JobKind.DOWNLOAD: "a download"}


def _wrong_state(job: Job, done: str) -> StenoboxError:
    return StenoboxError("wrong_state", f"This job is {job.state} and can't be {done}.")
