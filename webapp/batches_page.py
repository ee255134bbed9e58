"""The pages of batches: all of them, and one with its jobs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tasks import batches, store
from tasks.chaining import Again, run_batch_again
from tasks.errors import StenoboxError
from tasks.transcripts import FORMATS
from webapp.api import box_of
from webapp.batches_api import asked_state, zip_response
from webapp.bodies import read_fields
from webapp.pages import models_context, page_or_partial, reasons, see, undos
from webapp.stories import tell_batches, tell_times
from webapp.submitters import asker_of, submitter_of
from webapp.threads import write

MOST_BATCHES = 100
MOST_ROWS = 200
"""Jobs of one batch that its page shows; all of them count."""


def index(request: Request) -> Response:
    """GET /batches: all of them, newest first."""
    box = box_of(request)
    found = batches.listed(box, MOST_BATCHES)
    context = {
        "rows": tell_batches(box, found, box.limits()),
        "submitters": box.submitters(),
        "undos": undos(box),
        "reasons": reasons(box, box.limits()),
        "total": store.count_batches(box.database, box.principal.owner),
    }
    return page_or_partial(request, "batches/index.html", "batches/_list.html", context, lambda: {})


def show(request: Request) -> Response:
    """GET /batches/{id}: one batch and its jobs."""
    box = box_of(request)
    batch = batches.get(box, request.path_params["id"])
    jobs, limits = batches.jobs_of(box, batch, MOST_ROWS), box.limits()
    context = {
        "jobs": jobs,
        "times": tell_times(box, jobs, limits),
        "formats": tuple(FORMATS),
        "submitter": box.submitters().get(batch.submitter),
        "submitters": {},  # all its jobs are that one's
        "undos": undos(box),
        "reasons": reasons(box, box.limits()),
    } | tell_batches(box, [batch], limits)[0]
    return page_or_partial(
        request, "batches/show.html", "batches/_batch.html", context, lambda: models_context(box) | {"typed": {}}
    )


def download(request: Request) -> Response:
    """GET /batches/{id}/zip?format=: all its transcripts."""
    return zip_response(box_of(request), request.path_params["id"], request.query_params.get("format", "txt"))


def cancel(request: Request) -> Response:
    """POST /batches/{id}/cancel"""
    batches.cancel(box_of(request), request.path_params["id"], undoable=True)
    return see(f"/batches/{request.path_params['id']}")


async def retry(request: Request) -> Response:
    """POST /batches/{id}/retry with `state`: for as many as there is room; the page shows what is left."""
    box, batch_id = box_of(request), request.path_params["id"]
    state = asked_state((await read_fields(request)).get("state", "failed"))
    tried = await write(batches.retry, box, batch_id, state)
    if tried.refusal:
        words = f"{tried.taken} are in line again; for {tried.left} there is no room yet. {tried.refusal.message}"
        raise StenoboxError(tried.refusal.code, words, retry_after=tried.refusal.retry_after)
    return see(f"/batches/{batch_id}")


async def run_again(request: Request) -> Response:
    """POST /batches/{id}/again with `model` and `language`: its recordings once more, as a batch of their own."""
    box, batch_id, fields = box_of(request), request.path_params["id"], await read_fields(request)

    def again() -> Again:
        params = box.params(fields.get("model"), fields.get("language"))
        return run_batch_again(box, batch_id, params, submitter_of(request), asker_of(request))

    found = await write(again)
    if found.refusal:
        words = f"{found.taken} of them run again in a batch of their own; for {found.left} there is no room yet: "
        words += f"once there is, ask for the same again, and it goes on with those. {found.refusal.message}"
        raise StenoboxError(found.refusal.code, words, retry_after=found.refusal.retry_after)
    return see(f"/batches/{found.batch}")


def delete(request: Request) -> Response:
    """POST /batches/{id}/delete: with all its jobs."""
    batches.delete(box_of(request), request.path_params["id"], undoable=True)
    return see("/")


def undo(request: Request) -> Response:
    """POST /batches/{id}/undo: take back what was canceled or deleted with it."""
    found = box_of(request).undo(request.path_params["id"])
    return see(f"/batches/{next((job.batch for job in found if job.batch), request.path_params['id'])}")
