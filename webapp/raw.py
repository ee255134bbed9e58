"""A recording as the whole body of a request, as `curl -T talk.mp3 URL` sends it: straight to its final place."""

from __future__ import annotations

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tasks import batches
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind
from tasks.names import sent_name
from tasks.repeats import Repeat
from tasks.wishes import FIELDS
from webapp import admission, bodies
from webapp.bodies import media_type
from webapp.streams import pour, told_when_stopped
from webapp.submitters import asker_of, submitter_of
from webapp.threads import write
from webapp.uploads import is_known, key_of, settle


def is_recording(request: Request) -> bool:
    """Whether the body calls itself one: programs that post something else would be told so after a gigabyte."""
    return bodies.is_recording(media_type(request))


async def receive(
    request: Request, box: Box, name: str = "", kind: JobKind = JobKind.TRANSCRIPTION
) -> tuple[Job, bool]:
    """The job of the recording that is this request's body, and whether an earlier request with the same key began it;
    what is asked of it and its name are in the query.

    name: of the file, by the address; kind: what is to be done with it. What is known before the body is refused
    before it. Raises StenoboxError.
    """
    query = _query(request, kind)
    bodies.check_encoding(request)
    if "content-range" in request.headers:
        raise StenoboxError(
            "invalid_request",
            "A recording comes whole in one request, and Content-Range says that this is a part. Send all of it; to "
            "go on where an upload broke off, begin it at /api/v1/uploads.",
        )
    size = _length(request)
    submitter, asker = submitter_of(request), asker_of(request)
    key = key_of(request)
    if not (key != "" and await run_in_threadpool(is_known, box, submitter, key)):
        await admission.check(box.lookout, size, submitter, asker)
    params = await run_in_threadpool(box.wanted, kind, query)
    name = sent_name(query.get("name") or name or "recording")
    place = box.receive(name, size, submitter=submitter, asker=asker, key=key, warm=not kind.light)
    receiving = await write(place.__enter__)
    try:
        with told_when_stopped(box.lookout):
            await pour(request, receiving.write)
            await settle(receiving)

        def queue() -> Job:
            batches.enter(box, receiving, query.get("batch"))
            return receiving.queue(params)

        return await write(queue), isinstance(receiving, Repeat)
    except ClientDisconnect:
        raise StenoboxError("invalid_request", "The upload broke off before its end. Send it again.") from None
    finally:
        with anyio.CancelScope(shield=True):  # also when the server is being stopped
            await write(place.__exit__, None, None, None)


def _query(request: Request, kind: JobKind) -> dict[str, str]:
    known = (*FIELDS[kind], "batch", "name")
    for name in request.query_params:
        if name not in known:
            raise StenoboxError(
                "unknown_field",
                f"There is no field {name[:40]!r} here. There are: {', '.join(known)}.",
                param=name[:40],
            )
    return dict(request.query_params)


def _length(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else None
