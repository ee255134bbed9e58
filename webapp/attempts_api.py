"""The tries at a job, as JSON. Times are RFC 3339 in UTC, durations seconds, sizes bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks import store
from tasks.jobs import State
from tasks.store import AttemptRecord
from webapp.api import box_of
from webapp.resources import rfc3339, stamp

if TYPE_CHECKING:
    from webapp import shapes


def list_attempts(request: Request) -> Response:
    """GET /api/v1/jobs/{id}/attempts: every try at the job, the first one first."""
    box = box_of(request)
    job = box.get(request.path_params["id"])
    found: shapes.Attempts = {"attempts": [attempt_json(one) for one in store.list_attempts(box.database, job.id)]}
    return JSONResponse(found)


def attempt_json(one: AttemptRecord) -> shapes.Attempt:
    """One try. `outcome`: completed, failed, canceled, requeued, or null while it runs; `cause`: why it ended, null
    when it completed; `charged`: whether it counts as a crash of the job, which is failed at the third."""
    return {
        "number": one.number,
        "started_at": stamp(one.started_at),
        "ended_at": rfc3339(one.ended_at),
        "seconds": None if one.ended_at is None else round(max(0.0, one.ended_at - one.started_at), 3),
        "stage": one.stage,
        "outcome": cast("shapes.Outcome | None", "requeued" if one.outcome == State.QUEUED else one.outcome),
        "cause": {"code": one.cause, "message": one.sentence} if one.cause else None,
        "charged": one.charged,
        "peak_bytes": one.peak_bytes,
        "batch": one.batch,
        "worker": one.worker,
        "crash": one.crash,
    }
