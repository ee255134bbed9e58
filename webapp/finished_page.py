"""The page of finished jobs that the front page has no room for: it stands still while new ones finish."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tasks.actions import Box
from webapp.api import box_of
from webapp.pages import MOST_FINISHED, page_or_partial, see, undos

PATH = "/jobs/finished"


def show(request: Request) -> Response:
    """GET /jobs/finished?after=ID or ?before=ID: those that finished before the job with this id, or since; the newest
    without either. A job that is gone, or is tried again, leads to the newest."""
    box = box_of(request)
    after, before = (request.query_params.get(name) for name in ("after", "before"))
    cursor = None
    if (job_id := after or before) is not None and (cursor := _finished(box, job_id)) is None:
        return see(PATH)
    newer = cursor is not None and not after
    found = box.list_finished(MOST_FINISHED + 1, cursor, newer=newer)
    more = len(found) > MOST_FINISHED
    jobs = found[-MOST_FINISHED:] if newer else found[:MOST_FINISHED]
    context = {
        "jobs": jobs,
        "here": PATH + (f"?{'before' if newer else 'after'}={job_id}" if cursor else ""),
        "older": jobs[-1].id if jobs and (more or newer) else None,
        "newer": jobs[0].id if jobs and cursor is not None and (more or not newer) else None,
        "submitters": box.submitters(),
        "undos": undos(box),
    }
    return page_or_partial(request, "jobs/finished.html", "jobs/_finished.html", context, lambda: {})


def _finished(box: Box, job_id: str) -> tuple[float, str] | None:
    job = box.find(job_id)
    return None if job is None or job.finished_at is None else (job.finished_at, job.id)
