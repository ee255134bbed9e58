"""The concurrency guide's own addresses: the same jobs in its words (`model_size`, `provider`, `job_id`)."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, State
from tasks.wishes import FIELDS
from webapp import submissions
from webapp.api import box_of
from webapp.bodies import media_type, read_json
from webapp.threads import write
from webapp.uploads import read_form

if TYPE_CHECKING:
    from webapp import shapes

_STATUS: dict[State, shapes.GuideStatus] = {
    State.RECEIVING: "queued",
    State.QUEUED: "queued",
    State.RUNNING: "processing",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
}
OURS = {"model_size": "model", "output_format": "format"}
"""The guide's names for our fields."""


async def transcribe(request: Request) -> Response:
    """POST /transcribe: a form with `file`, or JSON with `url`, `upload` or `source_job`; and `model_size`, `language`,
    `provider` → 202 with job_id."""
    return await _take(request, JobKind.TRANSCRIPTION)


async def download(request: Request) -> Response:
    """POST /download: JSON with `url` → 202 with job_id."""
    return await _take(request, JobKind.DOWNLOAD)


async def extract_audio(request: Request) -> Response:
    """POST /extract-audio: as /transcribe, with `output_format` and `bitrate` → 202 with job_id."""
    return await _take(request, JobKind.EXTRACTION)


def status(request: Request) -> Response:
    """GET /transcribe/{job_id}/status: queued, processing, completed, failed or canceled; the transcript when done."""
    box = box_of(request)
    return JSONResponse(_answer(box, box.get(request.path_params["job_id"])))


async def _take(request: Request, kind: JobKind) -> Response:
    box = box_of(request)
    if media_type(request) == "application/json":
        body = await read_json(request, submissions.BODY_BYTES, '{"url": "https://…", "model_size": "small"}')
        _translate(body, kind)
        job = await submissions.make(request, box, submissions.read(body, kind))
    else:
        async with read_form(request, box, allowed=fields_of(kind), several=False, warm=not kind.light) as form:

            def queue() -> Job:
                fields: dict[str, Any] = dict(form.fields)
                _translate(fields, kind)
                return form.uploads[0].receiving.queue(box.wanted(kind, fields), form.uploads[0].name)

            job = await write(queue)
    answer = await run_in_threadpool(lambda: _answer(box, box.get(job.id)))
    return JSONResponse(answer, 202, headers={"Location": answer["status_url"]})


def aliases_of(kind: JobKind) -> dict[str, str]:
    """The guide's names for what may be asked of this kind, with ours."""
    return {theirs: ours for theirs, ours in OURS.items() if ours in FIELDS[kind]}


def fields_of(kind: JobKind) -> tuple[str, ...]:
    """What a form may say besides the file."""
    return (*FIELDS[kind], "provider", *aliases_of(kind))


def _translate(fields: MutableMapping[str, Any], kind: JobKind) -> None:
    """Into our names. Raises StenoboxError invalid_value for another provider, or a field that comes in both names."""
    provider = fields.pop("provider", None)
    if provider not in (None, "", "local"):
        raise StenoboxError(
            "invalid_value",
            f"This box transcribes on its own machine and sends nothing to {str(provider)[:40]!r}. "
            "Send provider=local, or leave it out.",
            param="provider",
        )
    for theirs, ours in aliases_of(kind).items():
        if theirs in fields:
            if ours in fields:
                raise StenoboxError("invalid_value", f"Send {theirs} or {ours}, not both.", param=theirs)
            fields[ours] = fields.pop(theirs)


def _answer(box: Box, job: Job) -> shapes.GuideJob:
    address = f"/api/v1/jobs/{job.id}"
    answer: shapes.GuideJob = {
        "job_id": job.id,
        "status": _STATUS[job.state],
        "progress": round(job.progress, 3),
        "status_url": f"/transcribe/{job.id}/status",
        "links": {"self": address},
    }
    if job.state == State.FAILED and job.error:
        answer["error"] = {"code": job.error.code, "message": job.error.message, "type": "job_error", "param": None}
    if job.state == State.COMPLETED:
        if job.kind == JobKind.TRANSCRIPTION:
            transcript = box.transcript(job)
            answer["transcript"] = text = transcript["text"]
            answer["result"] = {
                "text": text,
                "language": transcript["language"],
                "segments": transcript["segments"],
            }
            answer["links"]["transcript"] = f"{address}/transcript"
        else:
            answer["links"]["media"] = f"{address}/media"
    return answer
