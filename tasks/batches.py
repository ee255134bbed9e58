"""Many recordings as one: a named batch, whose jobs are canceled, tried again, deleted and fetched together.

A batch belongs to its submitter, as its jobs do. It has no state of its own: a job enters it while it is received, and
what is done to a batch is done to each of its jobs by the rules of `actions`.
"""

from __future__ import annotations

import logging
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from tasks import media, store
from tasks.actions import Box
from tasks.capacity import Limits, Load
from tasks.errors import StenoboxError
from tasks.jobs import Job, State, is_id
from tasks.links.about import clean
from tasks.receiving import Receiving
from tasks.repeats import Repeat
from tasks.store import Batch, Work
from tasks.transcripts import find_format

logger = logging.getLogger(__name__)

NAME_CHARACTERS = 120
FILE_CHARACTERS, FILE_BYTES = 120, 200
"""Of a name in a zip: many programs that unpack know no path over 260, and most file systems no name over 255 bytes."""
LEFT_OUT = "Not in here.txt"
"""In the zip: what has no transcript, and why."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check_name(text: str, param: str = "batch") -> str:
    """A batch's name, or its id, as it was sent; "" stays "". Raises StenoboxError invalid_value."""
    name = clean(text, len(text) + 1)
    if len(name) > NAME_CHARACTERS or (text.strip() and not name):
        sentence = f"The name of a batch has 1 to {NAME_CHARACTERS} characters."
        raise StenoboxError("invalid_value", sentence, param=param)
    return name


def enter(box: Box, receiving: Receiving | Repeat, batch: str | None) -> None:
    """Put a recording that is about to be queued into a batch, by id or name. "" or None: into none; a repeated
    submission stays where it is. Raises StenoboxError not_found or invalid_value."""
    if batch and isinstance(receiving, Receiving):
        enter_job(box, receiving.job_id, batch)


def enter_job(box: Box, job_id: str, batch: str) -> None:
    """As `enter`, by the id of the job that is being received."""
    if name := check_name(batch):
        store.enter_batch(box.database, job_id, name)


def begin(box: Box, name: str) -> tuple[Batch, bool]:
    """The principal's batch of this name, and whether it is new. Raises StenoboxError invalid_value."""
    checked = check_name(name, "name")
    if not checked or is_id(checked):
        raise StenoboxError("invalid_value", 'Name the batch, as in {"name": "Interviews"}.', param="name")
    batch_id, new = store.begin_batch(box.database, box.principal.submitter, checked)
    return get(box, batch_id), new


def get(box: Box, batch_id: str) -> Batch:
    """Raises StenoboxError not_found, also for what can't be an id and for a batch that is another's."""
    found = store.get_batch(box.database, batch_id, box.principal.owner) if is_id(batch_id) else None
    if found is None:
        raise StenoboxError("not_found", "There is no such batch. It may have been deleted.")
    return found


def listed(box: Box, limit: int, after: str | None = None) -> list[Batch]:
    """Newest first; after: the id of the last one of the page before."""
    return store.list_batches(box.database, limit, after, box.principal.owner)


def jobs_of(box: Box, batch: Batch, limit: int | None = None) -> list[Job]:
    """In the order they came; those that wait with their place in the queue."""
    return store.list_of_batch(box.database, batch.id, limit=limit)


def seconds_left(box: Box, found: Sequence[Batch], limits: Limits, load: Load) -> dict[str, float]:
    """Estimated seconds until the last job of each batch is done, by id; none for a batch of which nothing is under
    way, or too little is known. limits, load: as they are now."""
    works = store.work_of_batches(box.database, [batch.id for batch in found if batch.active])
    told = {batch_id: _left(box, work, limits, load) for batch_id, work in works.items()}
    return {batch_id: seconds for batch_id, seconds in told.items() if seconds is not None}


def _left(box: Box, work: Work, limits: Limits, load: Load) -> float | None:
    before, arrives = 0.0, 0.0
    if work.arriving:  # they will be last in line
        before = sum(load.remaining) + sum(load.waiting) + load.behind_seconds
        before += sum(one.work for one in work.arriving)
        arrives_in = _arrives_in(box, work)
        if arrives_in is None:
            return None
        arrives = arrives_in
    elif work.in_line:
        before = sum(load.remaining) + work.in_line
    # No slot is idle until the last one starts, so that one starts, and ends, no later than this.
    queued = before / limits.slots + work.longest * (1 - 1 / limits.slots) if before else 0.0
    # What arrives is worked on meanwhile, but the last to arrive still has all its work before it.
    return max(queued, arrives + (work.longest if work.arriving else 0.0), work.left) or None


def _arrives_in(box: Box, work: Work) -> float | None:
    """Seconds until all that a batch's uploads announced is here, at the pace so far; None while that says nothing."""
    missing, there = 0, 0
    for one in work.arriving:
        if one.bytes is None:
            return None
        here = media.arrived_if_any(box.config, one.id)
        missing, there = missing + max(0, one.bytes - here), there + here
    seconds = time.time() - min(one.since for one in work.arriving)
    return missing / there * max(0.0, seconds) if there else None


def cancel(box: Box, batch_id: str, *, undoable: bool = False) -> Batch:
    """Stop what waits, runs and arrives. Running ones stop within seconds. undoable: as in `Box.cancel`, but not for
    what is still arriving. Raises StenoboxError not_found."""
    batch = get(box, batch_id)
    if undoable:
        store.note_batch(box.database, batch.id, store.Action.CANCELED)
    # From the end, so that none of them starts because one before it was stopped.
    for job in reversed(_jobs(box, batch, State.RECEIVING, State.QUEUED, State.RUNNING)):
        try:
            if job.state == State.RECEIVING:
                store.drop_if_receiving(box.database, job.id)
                if store.get(box.database, job.id) is None:
                    media.remove(box.config, job.id)
                    box.digests.pop(job.id, None)
                    continue
            box.cancel(job.id, undoable=undoable, batch=batch.id)
        except StenoboxError as error:
            if error.code not in ("wrong_state", "not_found"):  # it has just ended by itself
                raise
    box.lookout.forget()
    return get(box, batch_id)


@dataclass(frozen=True, slots=True)
class Retried:
    """How many of a batch's jobs are in line again, and how many there was no room for, with the refusal."""

    taken: int
    left: int = 0
    refusal: StenoboxError | None = None


def retry(box: Box, batch_id: str, state: State = State.FAILED) -> Retried:
    """Try what failed (or was canceled) again, for as many as there is room. Raises StenoboxError not_found, and the
    refusal when there is room for none."""
    waiting, taken = _jobs(box, get(box, batch_id), state), 0
    for number, job in enumerate(waiting):
        try:
            box.retry(job.id)
            taken += 1
        except StenoboxError as error:
            if not error.kind.retryable:  # it can't be, whatever room there is; others can
                continue
            if not taken:
                raise
            return Retried(taken, len(waiting) - number, error)
    return Retried(taken)


def delete(box: Box, batch_id: str, *, undoable: bool = False) -> None:
    """Remove a batch and all its jobs, whatever they are doing. undoable: as in `Box.delete`. Raises StenoboxError
    not_found."""
    batch = get(box, batch_id)
    if undoable:
        store.note_batch(box.database, batch.id, store.Action.DELETED)
    while not store.delete_batch_if_empty(box.database, batch.id, undoable=undoable):
        for job in reversed(_jobs(box, batch, *State)):
            try:
                box.delete(job.id, undoable=undoable, batch=batch.id)
            except StenoboxError as error:
                if error.code != "not_found":
                    raise
        if store.get_batch(box.database, batch.id) is None:  # by another request
            return
    box.undos.note()
    logger.info("batch %s: a person deleted it", batch.id)


def _jobs(box: Box, batch: Batch, *states: State) -> list[Job]:
    return store.list_of_batch(box.database, batch.id, states)


def zipped(box: Box, batch_id: str, form: str) -> Iterator[bytes]:
    """All transcripts of a batch as a zip file, in pieces. form: see `transcripts.FORMATS`.

    Raises StenoboxError not_found, unknown_format, or not_finished when there is no transcript yet, before any piece.
    """
    find_format(form)
    batch = get(box, batch_id)
    if not batch.count(State.COMPLETED):
        raise StenoboxError("not_finished", "No recording of this batch has a transcript yet.")
    return _pieces(box, batch, form)


def _pieces(box: Box, batch: Batch, form: str) -> Iterator[bytes]:
    out, names, missing = _Pipe(), Names(), []
    # One transcript at a time is in memory, and no file is written: zip needs no way back (data descriptors).
    with zipfile.ZipFile(cast(IO[bytes], out), "w", zipfile.ZIP_DEFLATED) as file:
        for job in _jobs(box, batch, *State):
            try:
                words = find_format(form).write(box.transcript(job))
            except StenoboxError as error:
                reason = job.error.message if job.error else error.message
                missing.append(f"{job.source.name}: {reason}\n")
                continue
            file.writestr(names.free(job.source.name, form), words)
            yield out.take()
        if missing:
            file.writestr(names.free(LEFT_OUT, "txt"), "".join(missing))
    yield out.take()


class _Pipe:
    """Where a zip is written to, and taken from in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class Names:
    """File names for recordings: safe on any system, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def free(self, name: str, suffix: str) -> str:
        """A name like the recording's with this suffix: "talk.srt", then "talk (2).srt"."""
        stem, number = _safe(name.rpartition(".")[0] or name), 1
        while True:
            found = f"{stem}.{suffix}" if number == 1 else f"{stem} ({number}).{suffix}"
            if found.casefold() not in self._given:  # most file systems of people know no case
                self._given.add(found.casefold())
                return found
            number += 1


def _safe(stem: str) -> str:
    stem = re.sub(r'[\\/:*?"<>|\s\x00-\x1f\x7f]+', " ", stem).strip(" .")[:FILE_CHARACTERS]
    stem = stem.encode()[:FILE_BYTES].decode(errors="ignore").strip(" .")
    return f"_{stem}" if not stem or _RESERVED.fullmatch(stem) else stem
