"""Steps that compose: what one job has made, or was given, is the next one's source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tasks import batches, media, repeats, store
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, Params, State
from tasks.languages import NAMES
from tasks.names import clean_name
from tasks.receiving import Receiving


def media_of(box: Box, job: Job) -> tuple[Path, str]:
    """A job's media and the name to give it: sound that was extracted, else what came in.

    Raises StenoboxError not_finished, or media_missing when it is gone.
    """
    path, name = media.source(box.config, job.id), job.source.name
    if job.kind == JobKind.EXTRACTION:
        if job.state != State.COMPLETED or job.result is None:
            ended = "failed" if job.state == State.FAILED else "was canceled"
            sentence = (
                f"This job {ended}, so it has no sound to give."
                if job.finished
                else "This job has not finished yet. Ask again when its state is completed."
            )
            raise StenoboxError("not_finished", sentence)
        path = media.result(box.config, job.id, job.result)
        name = f"{stem(name)}.{job.params.format}"
    elif job.state == State.RECEIVING or (not path.is_file() and not job.finished):
        raise StenoboxError("not_finished", "Its media is not here yet. Ask again when it is.")
    if not path.is_file():
        raise StenoboxError("media_missing", "The media of this job is no longer on this box.")
    return path, name


def submit_from_job(
    box: Box, source_job: str, params: Params, submitter: str = "", asker: str = "", key: str = "", batch: str = ""
) -> Job:
    """A job whose source is another one's media: of any that has finished. They share the bytes, not their lives: each
    may be deleted without the other. submitter, asker, key: as for `Box.receive`;
    batch: as for `batches.enter`.

    Raises StenoboxError not_found, not_finished or media_missing, with param source_job, and the refusals of admission.
    """
    try:
        job = box.get(source_job.rpartition("/")[2])
        if not job.finished:
            sentence = "The source job has not finished yet. Send this again when it is completed."
            raise StenoboxError("not_finished", sentence)
        path, name = media_of(box, job)
    except StenoboxError as error:
        raise StenoboxError(error.code, error.message, param="source_job") from None
    known = (path.stat().st_size, clean_name(name), params)

    def is_same(other: Job) -> bool:
        return (other.source.bytes, other.source.name, other.params) == known

    if found := repeats.find(box.database, submitter, key, is_same):
        return found
    with box.receive(name, known[0], "job", submitter, asker, key, warm=not params.kind.light) as receiving:
        if not isinstance(receiving, Receiving):  # one with the same key came at the same time
            raise repeats.in_progress()
        receiving.adopt(path, None if job.kind == JobKind.EXTRACTION else job.source.sha256)
        batches.enter(box, receiving, batch)
        return receiving.queue(params)


@dataclass(frozen=True, slots=True)
class Again:
    """A batch whose recordings run again: how many of them are in the new batch (by its id) and how many had no room,
    with the refusal; gone: those whose recording is no longer here."""

    batch: str
    taken: int
    left: int = 0
    gone: int = 0
    refusal: StenoboxError | None = None


def run_batch_again(box: Box, batch_id: str, params: Params, submitter: str = "", asker: str = "") -> Again:
    """Transcribe what has finished in a batch once more, with these parameters, as a batch of its own: as many as there
    is room for. Asked again in the same way, it goes on with those that are left.

    Raises StenoboxError not_found, media_missing when no recording is here, and the refusal when none has room.
    """
    batch = batches.get(box, batch_id)
    jobs = [job for job in batches.jobs_of(box, batch) if job.finished and job.kind == JobKind.TRANSCRIPTION]
    here = [job for job in jobs if is_here(box, job)]
    if not here:
        raise StenoboxError("media_missing", "No recording of this batch is on this box any more. Send them again.")
    how = params.model + (f", {NAMES[params.language]}" if params.language else "")
    ending = f" – again with {how}"
    target, _ = batches.begin(box, batch.name[: batches.NAME_CHARACTERS - len(ending)].rstrip() + ending)
    before = Counter(_same(job) for job in batches.jobs_of(box, target) if job.params == params)
    taken, gone = 0, len(jobs) - len(here)
    for number, job in enumerate(here):
        if before[_same(job)]:
            before[_same(job)] -= 1
            taken += 1
            continue
        try:
            submit_from_job(box, job.id, params, submitter, asker, batch=target.id)
            taken += 1
        except StenoboxError as error:
            if error.param == "source_job":  # it went meanwhile
                gone += 1
            elif taken:
                return Again(target.id, taken, len(here) - number, gone, error)
            else:
                store.delete_batch_if_empty(box.database, target.id)
                raise
    return Again(target.id, taken, 0, gone)


def is_here(box: Box, job: Job) -> bool:
    """Whether a job's media can be another's source."""
    try:
        media_of(box, job)
    except StenoboxError:
        return False
    return True


def _same(job: Job) -> tuple[str, int | None]:
    return job.source.name, job.source.bytes


def stem(name: str) -> str:
    """A file's name without its ending."""
    return name.rpartition(".")[0] or name
