"""The JSON way to submit: where the recording comes from, and what is to be done with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from tasks import batches, ingest, resumable
from tasks.actions import Box
from tasks.chaining import submit_from_job
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind
from tasks.typed import Reader
from tasks.wishes import FIELDS
from webapp.bodies import read_json
from webapp.endpoints import check_names
from webapp.submitters import asker_of, submitter_of
from webapp.threads import write
from webapp.uploads import key_of

BODY_BYTES = 1024 * 1024
EXAMPLE = '{"upload": "ID", "model": "small"}'


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a body may say. Exactly one of the names in SOURCES; the rest as in the form. null is the same as absent."""

    upload: str | None = None
    url: str | None = None
    source_job: str | None = None
    model: str | None = None
    language: str | None = None
    track: int | str | None = None
    format: str | None = None
    bitrate: int | str | None = None
    batch: str | None = None
    kind: JobKind = JobKind.TRANSCRIPTION

    @property
    def asked(self) -> dict[str, Any]:
        """What is asked of a job of this kind."""
        return {name: getattr(self, name) for name in FIELDS[self.kind]}


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose submission it is (see `submitters`), who is told when to come back, and the Idempotency-Key."""

    submitter: str
    asker: str
    key: str = ""


Take = Callable[[Box, Submission, Sender], Job]
"""Makes a job of a submission, or raises the refusal. Called in a thread."""


def _take_upload(box: Box, found: Submission, sender: Sender) -> Job:
    """A complete resumable upload, by its id or address. What is not said here is as the upload was begun with."""
    upload = resumable.find(box, (found.upload or "").rpartition("/")[2], sender.submitter)
    assert upload.job is not None
    begun = upload.job.params
    asked = found.asked
    if found.batch and resumable.receiving(upload):
        batches.enter_job(box, upload.id, found.batch)
    if not found.kind.light:
        kept = {"model": begun.model, "language": begun.language, "track": begun.track}
        asked = {name: kept[name] if value is None else value for name, value in asked.items()}
    return resumable.submit(box, upload, box.wanted(found.kind, asked))


def _take_url(box: Box, found: Submission, sender: Sender) -> Job:
    who = (sender.submitter, sender.asker)
    wanted = box.wanted(found.kind, found.asked)
    return ingest.submit(box, found.url or "", None, None, *who, key=sender.key, wanted=wanted, batch=found.batch or "")


def _take_job(box: Box, found: Submission, sender: Sender) -> Job:
    """What another job was given, or has made."""
    who = (sender.submitter, sender.asker, sender.key)
    return submit_from_job(box, found.source_job or "", box.wanted(found.kind, found.asked), *who, found.batch or "")


SOURCES: dict[str, Take | None] = {"upload": _take_upload, "url": _take_url, "source_job": _take_job}
"""Where a recording can come from, by the field that says so. None: this box can't do that."""


async def submit(request: Request, box: Box, kind: JobKind = JobKind.TRANSCRIPTION) -> Job:
    """The job of this kind that the body of this request asks for. Raises StenoboxError."""
    return await make(request, box, read(await read_json(request, BODY_BYTES, EXAMPLE), kind))


async def make(request: Request, box: Box, found: Submission) -> Job:
    """The job that was asked for, of whoever sent the request. Raises StenoboxError."""
    sender = Sender(submitter_of(request), asker_of(request), key_of(request))
    return await write(_source(found), box, found, sender)


_submission = Reader(Submission)


def fields_of(kind: JobKind) -> tuple[str, ...]:
    """What the body of a submission of this kind may say."""
    return (*SOURCES, *FIELDS[kind], "batch")


def read(body: dict[str, Any], kind: JobKind = JobKind.TRANSCRIPTION) -> Submission:
    """Check the fields and their types. Raises StenoboxError unknown_field or invalid_value, with the field's name."""
    check_names(body, fields_of(kind))
    try:
        return _submission.convert(body | {"kind": kind})
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        name = (re.findall(r"\w+", where) or [""])[0]
        reason = what.replace("`", "").replace("Expected", "expected")
        raise StenoboxError("invalid_value", f"{name} can't be read: {reason}.", param=name or None) from None


def _source(found: Submission) -> Take:
    names = [name for name in SOURCES if getattr(found, name) is not None]
    if len(names) != 1:
        known = ", ".join(SOURCES)
        said = f"{' and '.join(names)} were sent" if names else "none was sent"
        raise StenoboxError("invalid_request", f"Say where the recording is with exactly one of {known}; {said}.")
    take = SOURCES[names[0]]
    if take is None:
        raise StenoboxError(
            "invalid_value",
            f"This box takes no {names[0]} yet. Send the recording itself, as `curl -F file=@talk.mp3` does.",
            param=names[0],
        )
    return take
