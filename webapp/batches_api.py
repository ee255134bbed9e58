"""Batches at /api/v1/batches: what many jobs under one name add up to, and what is done to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tasks import batches
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import State, is_id
from tasks.store import Batch
from webapp.api import MOST_JOBS, attachment, box_of
from webapp.bodies import read_json
from webapp.endpoints import check_names, limit_of
from webapp.resources import rfc3339, stamp
from webapp.threads import write

if TYPE_CHECKING:
    from webapp import shapes

EXAMPLE = '{"name": "Interviews"}'
RETRIABLE = (State.FAILED, State.CANCELED)


def batch_json(batch: Batch, left: float | None) -> shapes.Batch:
    """One batch. left: see `batches.seconds_left`."""
    path = f"/api/v1/batches/{batch.id}"
    return {
        "id": batch.id,
        "name": batch.name,
        "created_at": stamp(batch.created_at),
        "finished_at": rfc3339(batch.finished_at),
        "total": batch.total,
        "done": batch.done,
        "jobs": cast("shapes.BatchJobs", {state.value: batch.count(state) for state in State}),
        "progress": round(batch.progress, 3),
        "eta_seconds": None if left is None else round(left, 1),
        "links": {"self": path, "jobs": f"/api/v1/jobs?batch={batch.id}", "zip": f"{path}/zip"},
    }


def _json(box: Box, found: list[Batch]) -> list[shapes.Batch]:
    left = batches.seconds_left(box, found, box.limits(), box.load())
    return [batch_json(batch, left.get(batch.id)) for batch in found]


async def create_batch(request: Request) -> Response:
    """POST /api/v1/batches with `name` → 201 with the batch; 200 with the one of this name when there is one."""
    box, body = box_of(request), await read_json(request, example=EXAMPLE)
    check_names(body, ("name",))
    if not isinstance(body.get("name"), str):
        raise StenoboxError("invalid_value", f"Send {EXAMPLE}.", param="name")

    def begin() -> Response:
        batch, new = batches.begin(box, body["name"])
        headers = {"Location": f"/api/v1/batches/{batch.id}"}
        return JSONResponse(_json(box, [batch])[0], 201 if new else 200, headers=headers)

    return await write(begin)


def list_batches(request: Request) -> Response:
    """GET /api/v1/batches?limit=&after=: newest first; `next` is the path of the next page, or null."""
    box = box_of(request)
    limit, after = limit_of(request, MOST_JOBS), request.query_params.get("after")
    if after is not None and not is_id(after):
        raise StenoboxError("invalid_value", "after must be the id of a batch that is still here.", param="after")
    page = batches.listed(box, limit + 1, after)
    found, more = page[:limit], len(page) > limit
    following = f"/api/v1/batches?limit={limit}&after={found[-1].id}" if more else None
    listed: shapes.BatchPage = {"batches": _json(box, found), "next": following}
    return JSONResponse(listed)


def show_batch(request: Request) -> Response:
    """GET /api/v1/batches/{id}"""
    box = box_of(request)
    return JSONResponse(_json(box, [batches.get(box, request.path_params["id"])])[0])


def delete_batch(request: Request) -> Response:
    """DELETE /api/v1/batches/{id}: with all its jobs, in any state; 204."""
    batches.delete(box_of(request), request.path_params["id"])
    return Response(status_code=204)


def cancel_batch(request: Request) -> Response:
    """POST /api/v1/batches/{id}/cancel: 200 when nothing of it is active any more, 202 when it will stop in seconds."""
    box = box_of(request)
    batch = batches.cancel(box, request.path_params["id"])
    return JSONResponse(_json(box, [batch])[0], 202 if batch.active else 200)


def retry_batch(request: Request) -> Response:
    """POST /api/v1/batches/{id}/retry?state=failed|canceled: 202 with the batch, `retried`, and `left` for which there
    was no room, then with Retry-After."""
    box, batch_id = box_of(request), request.path_params["id"]
    tried = batches.retry(box, batch_id, asked_state(request.query_params.get("state", "failed")))
    batch = _json(box, [batches.get(box, batch_id)])[0]
    body: shapes.RetriedBatch = {**batch, "retried": tried.taken, "left": tried.left}
    wait = tried.refusal and tried.refusal.retry_after
    return JSONResponse(body, 202, headers={"Retry-After": str(wait)} if wait else {})


def asked_state(text: str) -> State:
    """Which jobs are to be tried again. Raises StenoboxError invalid_value."""
    if text not in RETRIABLE:
        raise StenoboxError("invalid_value", f"state must be one of {', '.join(RETRIABLE)}.", param="state")
    return State(text)


def show_zip(request: Request) -> Response:
    """GET /api/v1/batches/{id}/zip?format=txt|srt|vtt|csv|json: all its transcripts, made while it is sent."""
    return zip_response(box_of(request), request.path_params["id"], request.query_params.get("format", "txt"))


def zip_response(box: Box, batch_id: str, form: str) -> Response:
    """The transcripts of a batch in one file, under the batch's name."""
    pieces, name = batches.zipped(box, batch_id, form), batches.get(box, batch_id).name
    headers = {"Content-Disposition": attachment(f"{name}.zip"), "Cache-Control": "private, no-cache"}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)
