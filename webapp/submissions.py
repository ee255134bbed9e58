"""The JSON way to submit: where the recording comes from, and what is to be done with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tasks import ingest, resumable
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job
from webapp.bodies import read_json
from webapp.submitters import asker_of, submitter_of
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
    track: int | None = None


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
    language = begun.language if found.language is None else found.language
    track = begun.track if found.track is None else found.track
    params = box.params(found.model or begun.model, language, track)
    return resumable.submit(box, upload, params)


def _take_url(box: Box, found: Submission, sender: Sender) -> Job:
    if found.track is not None:
        raise StenoboxError("invalid_value", "The track of a link can't be chosen. Leave track out.", param="track")
    who = (sender.submitter, sender.asker)
    return ingest.submit(box, found.url or "", found.model, found.language, *who, key=sender.key)


SOURCES: dict[str, Take | None] = {"upload": _take_upload, "url": _take_url, "source_job": None}
"""Where a recording can come from, by the field that says so. None: this box can't do that."""


async def submit(request: Request, box: Box) -> Job:
    """The job that the body of this request asks for. Raises StenoboxError."""
    found = read(await read_json(request, BODY_BYTES, EXAMPLE))
    take, sender = _source(found), Sender(submitter_of(request), asker_of(request), key_of(request))
    return await run_in_threadpool(take, box, found, sender)


def read(body: dict[str, Any]) -> Submission:
    """Check the fields and their types. Raises StenoboxError unknown_field or invalid_value, with the field's name."""
    for name in body:
        if name not in Submission.__struct_fields__:
            known = ", ".join(Submission.__struct_fields__)
            raise StenoboxError(
                "unknown_field", f"There is no field {name[:40]!r} here. There are: {known}.", param=name[:40]
            )
    try:
        return msgspec.convert(body, Submission)
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
