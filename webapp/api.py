"""REST at /api/v1. Routes only translate: the rules are in `tasks.actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks import __version__, batches
from tasks.actions import Box
from tasks.chaining import stem
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, State
from tasks.repeats import Repeat
from tasks.transcripts import find_format
from tasks.wishes import FIELDS
from webapp import raw, submissions
from webapp.auth import principal_of
from webapp.bodies import media_type
from webapp.endpoints import check_query, limit_of
from webapp.resources import job_json
from webapp.threads import write
from webapp.uploads import read_form

if TYPE_CHECKING:
    from webapp import shapes

MOST_JOBS = 200


def box_of(request: Request) -> Box:
    """The box this application serves, as who asks may see it: another's job is as good as none."""
    box: Box = request.app.state.box
    return box.seen_by(principal_of(request))


def _json(box: Box, job: Job) -> shapes.Job:
    return job_json(job, box.limits(), box.load(), box.submitters())


async def create_transcription(request: Request) -> Response:
    """POST /api/v1/transcriptions: a form with `file`, `model`, `language`, `track`, or JSON (see `submissions`), or
    the recording itself (see `raw`) → 202 with the job."""
    return await create(request, JobKind.TRANSCRIPTION)


async def create(request: Request, kind: JobKind) -> Response:
    """202 with the job of this kind that a request brings, in whichever way. Raises StenoboxError."""
    box = box_of(request)
    if raw.is_recording(request):
        return await _receive_raw(request, kind=kind)
    check_query(request, (), "in this query: say it in the body")
    if media_type(request) == "application/json":
        job = await submissions.submit(request, box, kind)
        return await run_in_threadpool(accepted, box, job)
    async with read_form(request, box, allowed=(*FIELDS[kind], "batch"), several=False, warm=not kind.light) as form:

        def queue() -> Job:
            params = box.wanted(kind, form.fields)
            batches.enter(box, form.uploads[0].receiving, form.fields.get("batch"))
            return form.uploads[0].receiving.queue(params, form.uploads[0].name)

        job = await write(queue)
        repeated = isinstance(form.uploads[0].receiving, Repeat)
    return await run_in_threadpool(accepted, box, job, repeated)


async def put_transcription(request: Request) -> Response:
    """PUT /api/v1/transcriptions/{name}?model=&language=: the recording is the body, as `curl -T` sends it → 202."""
    return await _receive_raw(request, request.path_params.get("name", ""))


async def _receive_raw(request: Request, name: str = "", kind: JobKind = JobKind.TRANSCRIPTION) -> Response:
    box = box_of(request)
    job, repeated = await raw.receive(request, box, name, kind)
    return await run_in_threadpool(accepted, box, job, repeated)


def accepted(box: Box, job: Job, repeated: bool = False) -> Response:
    """202 with the job and where to ask for it. repeated: whether an earlier request with the same key began it."""
    headers = {"Location": f"/api/v1/jobs/{job.id}"} | ({"Idempotency-Replayed": "true"} if repeated else {})
    return JSONResponse(_json(box, box.get(job.id)), 202, headers=headers)


def list_jobs(request: Request) -> Response:
    """GET /api/v1/jobs?state=&batch=&limit=&after=: newest first; `next` is the path of the next page, or null."""
    box = box_of(request)
    state, after = request.query_params.get("state"), request.query_params.get("after")
    limit = limit_of(request, MOST_JOBS)
    if state is not None and state not in list(State):
        raise StenoboxError("invalid_value", f"state must be one of {', '.join(State)}.", param="state")
    if after is not None and not box.find(after):
        raise StenoboxError("invalid_value", "after must be the id of a job that is still here.", param="after")
    batch = request.query_params.get("batch")
    if batch is not None:
        batches.get(box, batch)
    page = box.list_jobs(State(state) if state else None, limit + 1, after, batch)
    jobs, more = page[:limit], len(page) > limit
    following = None
    if more:
        following = f"/api/v1/jobs?limit={limit}&after={jobs[-1].id}" + (f"&state={state}" if state else "")
        following += f"&batch={batch}" if batch else ""
    now = box.limits(), box.load(), box.submitters()
    found: shapes.JobPage = {"jobs": [job_json(job, *now) for job in jobs], "next": following}
    return JSONResponse(found)


def show_job(request: Request) -> Response:
    """GET /api/v1/jobs/{id}"""
    box = box_of(request)
    return JSONResponse(_json(box, box.get(request.path_params["id"])))


def delete_job(request: Request) -> Response:
    """DELETE /api/v1/jobs/{id}: in any state; 204."""
    box_of(request).delete(request.path_params["id"])
    return Response(status_code=204)


def cancel_job(request: Request) -> Response:
    """POST /api/v1/jobs/{id}/cancel: 200 when it waited, 202 when it runs and will stop within seconds."""
    box = box_of(request)
    job = box.cancel(request.path_params["id"])
    return JSONResponse(_json(box, job), 200 if job.state == State.CANCELED else 202)


def retry_job(request: Request) -> Response:
    """POST /api/v1/jobs/{id}/retry: back into the queue; 202."""
    box = box_of(request)
    job = box.retry(request.path_params["id"])
    return JSONResponse(_json(box, box.get(job.id)), 202)


def show_transcript(request: Request) -> Response:
    """GET /api/v1/jobs/{id}/transcript?format=json|txt|srt|vtt|csv"""
    job = box_of(request).get(request.path_params["id"])
    return transcript_response(box_of(request), job, request.query_params.get("format", "json"), download=False)


def transcript_response(box: Box, job: Job, name: str, *, download: bool) -> Response:
    """The transcript as a file of that format; with download, under the recording's name."""
    form = find_format(name)
    body = form.write(box.transcript(job))
    headers = {"Cache-Control": "private, no-cache"}
    if download:
        headers["Content-Disposition"] = attachment(f"{stem(job.source.name)}.{name}")
    return Response(body, media_type=form.media_type, headers=headers)


def attachment(name: str) -> str:
    """The header with which browsers save an answer under this name."""
    return f"attachment; filename*=UTF-8''{quote(name if name.strip('. ') else 'recording', safe='')}"


async def healthz(request: Request) -> Response:
    """GET /healthz: the web process is alive, also when the box is full and every thread is busy."""
    alive: shapes.Health = {"status": "ok", "version": __version__}
    return JSONResponse(alive)
