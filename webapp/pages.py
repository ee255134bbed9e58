"""The pages people use. Each live region is one partial: part of the page, and the answer when htmx asks for it."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tasks import __version__, batches, choosing, readiness, store
from tasks.actions import Box
from tasks.capacity import Limits
from tasks.chaining import is_here, submit_from_job
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, State
from tasks.languages import NAMES
from tasks.principals import Scope
from tasks.readiness import Reason
from tasks.store import Batch, Undo
from tasks.wishes import FIELDS
from webapp.api import box_of, transcript_response
from webapp.auth import principal_of
from webapp.bodies import read_fields
from webapp.errors import headers
from webapp.stories import in_short, tell, tell_batches, tell_times
from webapp.submitters import asker_of, name_of, submitter_of
from webapp.templating import templates, when
from webapp.threads import write
from webapp.uploads import read_form

MOST_FINISHED = 50
MOST_WAITING = 50
"""Jobs in line, and uploads, that the front page lists one by one."""
FEW_BATCHES = 5
"""Those that the front page shows when fewer are under way."""
_LANGUAGES = sorted(NAMES.items(), key=lambda item: item[1])


def index(request: Request) -> Response:
    """GET /: the drop zone and the three groups of jobs; for htmx just the groups."""
    moving, still = _groups(request)
    return page_or_partial(
        request, "jobs/index.html", "jobs/_list.html", moving, lambda: _form_context(request), still=still
    )


def _groups(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """What moves while something runs, and what stands still until something finishes: by far the larger part."""
    box = box_of(request)
    active, waiting = box.list_active(MOST_WAITING, apart=True), box.count_waiting()
    limits = box.limits()
    found = _batches(box)
    why = reasons(box, limits)
    moving = {
        "batches": tell_batches(box, found, limits),
        "batches_total": store.count_batches(box.database, box.principal.owner),
        "batch_names": {batch.id: batch.name for batch in found},
        "running": [job for job in active if job.state == State.RUNNING],
        "queued": [job for job in active if job.state == State.QUEUED],
        "receiving": [job for job in active if job.state == State.RECEIVING],
        "lines": waiting,
        "times": tell_times(box, active, limits),
        "limits": limits,
        "reasons": why,
        "room": readiness.takes(why),
        "undos": undos(box),
    }
    still = {
        "finished": box.list_finished(MOST_FINISHED),
        "finished_total": box.count_finished(),
        "submitters": box.submitters(),
        "is_used": bool(active or found),
        "has_batches": bool(found),
        "has_sample": True,
    }
    return moving, still


def reasons(box: Box, limits: Limits) -> list[Reason]:
    """The state of the box (see `readiness.state`)."""
    return readiness.state(box.config, limits, box.load(), leaving=box.lookout.leaving)


def undos(box: Box, *of: str) -> list[Undo]:
    """What can be taken back; of: only these jobs or batches."""
    found = store.list_undos(box.database, box.principal.owner)
    return [one for one in found if not of or one.id in of]


def _batches(box: Box) -> list[Batch]:
    """Those under way, and the newest others as far as they leave room."""
    owner = box.principal.owner
    found = store.list_unfinished_batches(box.database, owner)
    others = [one for one in batches.listed(box, FEW_BATCHES) if not one.active and one.total]
    return found + others[: max(0, FEW_BATCHES - len(found))]


def _form_context(request: Request) -> dict[str, Any]:
    box = box_of(request)
    default = box.limits().model
    return models_context(box) | {
        "default_model": default,
        "asks_model": default == choosing.DEMO,
        "may_set": principal_of(request).may(Scope.ADMIN),
        "refusal": None,
        "typed": {},
        "takes_links": box.limits().download_slots > 0,
    }


def models_context(box: Box) -> dict[str, Any]:
    """What a form needs that asks for a model and a language."""
    choices = choosing.choices(box.config, box.planner, box.database)
    recommended = next((one for one in choices if one.recommended), None)
    return {"choices": choices, "recommended": recommended, "languages": _LANGUAGES}


def ask_model(box: Box, model: str | None) -> None:
    """A form that left the choice open is asked for it while the box has only its demo model to fall back on.

    model: None for a form without the field. Never waits for the database.
    """
    if model == "" and box.lookout.limits.model == choosing.DEMO:
        raise StenoboxError("invalid_value", choosing.QUESTION, param="model")


def keep_choice(request: Request, model: str) -> None:
    """The first model that somebody takes who may change the box becomes its usual one, instead of the demo model."""
    box = box_of(request)
    if box.limits().model == choosing.DEMO != model and principal_of(request).may(Scope.ADMIN):
        box.change_settings({"model": model}, name_of(request, "page"))


async def submit(request: Request) -> Response:
    """POST /jobs: the form of the page without JavaScript. All files are taken, or none."""
    box = box_of(request)
    typed: dict[str, str] = {}

    def check(fields: dict[str, str]) -> None:
        typed.update(fields)
        _no_link(fields)
        ask_model(box, fields.get("model"))

    try:
        allowed = (*FIELDS[JobKind.TRANSCRIPTION], "url", "batch")
        async with read_form(request, box, allowed=allowed, several=True, check=check) as form:

            def queue() -> list[Job]:
                params = box.wanted(JobKind.TRANSCRIPTION, form.fields)
                batch = form.fields.get("batch", "") or (when(time.time()) if len(form.uploads) > 1 else "")
                jobs: list[Job] = []
                try:
                    for upload in form.uploads:
                        batches.enter(box, upload.receiving, batch)
                        jobs.append(upload.receiving.queue(params, upload.name))
                except StenoboxError:
                    for job in jobs:
                        box.delete(job.id)
                    raise
                keep_choice(request, form.fields.get("model") or choosing.DEMO)
                return jobs

            jobs = await write(queue)
    except StenoboxError as error:
        return await run_in_threadpool(refused, request, error, typed)
    return see(f"/jobs/{jobs[0].id}" if len(jobs) == 1 else f"/batches/{jobs[0].batch}")


def _no_link(fields: dict[str, str]) -> None:
    """A link beside files would be left without a word."""
    if fields.get("url"):
        sentence = "There is a link in the form besides files. Press Fetch for the link, or empty it to send the files."
        raise StenoboxError("invalid_request", sentence, param="url")


def to_index(request: Request) -> Response:
    """GET /jobs: the address left in the bar when a form was refused."""
    return see("/")


def submit_sample(request: Request) -> Response:
    """POST /jobs/sample: transcribe the recording that comes with Stenobox."""
    try:
        job = box_of(request).submit_sample()
    except StenoboxError as error:
        return refused(request, error)
    return see(f"/jobs/{job.id}")


def refused(request: Request, error: StenoboxError, typed: dict[str, str] | None = None) -> Response:
    """The front page with the refusal above it. typed: the form's fields, as far as they had come."""
    moving, still = _groups(request)
    context = moving | still | _form_context(request) | {"refusal": error, "typed": typed or {}}
    context |= {"version": __version__, "ptag": f"{tag(moving)}.{tag(still)}", "same": False}
    return templates.TemplateResponse(request, "jobs/index.html", context, error.kind.status, headers(error))


def show(request: Request) -> Response:
    """GET /jobs/{id}: one job and its transcript."""
    context = _job_context(request, {})
    return page_or_partial(request, "jobs/show.html", "jobs/_job.html", context, lambda: {"refusal": None})


def _job_context(request: Request, typed: dict[str, str]) -> dict[str, Any]:
    """typed: what a refused form held."""
    box = box_of(request)
    job = box.get(request.path_params["id"])
    transcript, lost = None, ""
    if job.state == State.COMPLETED and not job.kind.light:
        try:
            transcript = box.transcript(job)
        except StenoboxError as error:  # its file is gone or damaged: the page says so instead of failing
            lost = error.message if error.code == "transcript_damaged" else ""
    batch = None if job.batch is None else store.get_batch(box.database, job.batch)
    tries = store.list_attempts(box.database, job.id)
    context = {
        "batch": batch and {"id": batch.id, "name": batch.name},
        "job": job,
        "submitter": box.submitters().get(job.submitter),
        "transcript": transcript,
        "lost": lost,
        "undos": undos(box, job.id),
        "reasons": [] if job.finished or job.state == State.RUNNING else reasons(box, box.limits()),
        "times": tell_times(box, [job], box.limits()),
        "tries": tell(job, tries),
        "in_short": in_short(job, tries),
        "typed": typed,
        "here": job.finished and is_here(box, job),
    }
    return context | models_context(box) if context["here"] and not job.kind.light else context


async def next_step(request: Request) -> Response:
    """POST /jobs/{id}/next: make a job of this one's media; kind, and track where there are several."""
    box, fields = box_of(request), await read_fields(request)
    kind = fields.pop("kind", "")
    if kind not in (JobKind.TRANSCRIPTION, JobKind.EXTRACTION):
        raise StenoboxError("invalid_value", "kind must be transcription or extraction.", param="kind")

    def submit() -> Job:
        params = box.wanted(JobKind(kind), fields)
        source = request.path_params["id"]
        return submit_from_job(box, source, params, submitter_of(request), asker_of(request))

    def refuse(error: StenoboxError) -> Response:
        context = _job_context(request, fields) | {"refusal": error, "version": __version__, "ptag": "", "same": False}
        return templates.TemplateResponse(request, "jobs/show.html", context, error.kind.status, headers(error))

    try:
        return see(f"/jobs/{(await write(submit)).id}")
    except StenoboxError as error:
        if error.code == "not_found":
            raise
        return await run_in_threadpool(refuse, error)


def download(request: Request) -> Response:
    """GET /jobs/{id}/transcript.{format}: the transcript as a file."""
    job = box_of(request).get(request.path_params["id"])
    return transcript_response(box_of(request), job, request.path_params["format"], download=True)


def cancel(request: Request) -> Response:
    """POST /jobs/{id}/cancel. A job that has meanwhile finished is left as it is."""
    return _act(request, partial(box_of(request).cancel, undoable=True))


def retry(request: Request) -> Response:
    """POST /jobs/{id}/retry"""
    return _act(request, box_of(request).retry)


def delete(request: Request) -> Response:
    """POST /jobs/{id}/delete"""
    box_of(request).delete(request.path_params["id"], undoable=True)
    return see("/")


def undo(request: Request) -> Response:
    """POST /jobs/{id}/undo: take back what was canceled or deleted."""
    box_of(request).undo(request.path_params["id"])
    return see(f"/jobs/{request.path_params['id']}")


def _act(request: Request, action: Any) -> Response:
    job_id = request.path_params["id"]
    try:
        action(job_id)
    except StenoboxError as error:
        if error.code != "wrong_state":
            raise
    return see(f"/jobs/{job_id}")


def page_or_partial(
    request: Request,
    page: str,
    region: str,
    context: dict[str, Any],
    rest: Any,
    *,
    still: dict[str, Any] | None = None,
) -> Response:
    """The whole page, or only its live region when htmx asks; 304 when that has not changed since it last did.

    still: what belongs to the region, but is not sent again while it hasn't changed: `same` says so to the template.
    """
    seen, rarely = request.headers.get("hx-ptag", ""), tag(still or {})
    current = f"{tag(context)}.{rarely}" if still else tag(context)
    context |= (still or {}) | {"version": __version__, "ptag": current, "same": seen.endswith(f".{rarely}")}
    if "hx-request" not in request.headers:
        # Otherwise the back button may show the partial, or a list of an hour ago.
        return templates.TemplateResponse(
            request, page, context | rest(), headers={"Vary": "HX-Request", "Cache-Control": "no-store"}
        )
    if seen == current:
        return Response(status_code=304, headers={"HX-PTag": current})
    return templates.TemplateResponse(
        request, region, context, headers={"HX-PTag": current, "Vary": "HX-Request", "Cache-Control": "no-store"}
    )


def tag(context: dict[str, Any]) -> str:
    """Stands for what a live region shows: the same as long as that is."""
    return hashlib.sha256(repr(sorted(context.items())).encode()).hexdigest()[:20]


def see(path: str) -> Response:
    """Go there, by GET."""
    return RedirectResponse(path, 303)
