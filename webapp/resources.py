"""How jobs look in JSON (design section 10). Times are RFC 3339 in UTC, durations seconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from tasks import capacity
from tasks.capacity import Limits, Load
from tasks.choosing import DEMO_NOTE
from tasks.jobs import Failure, Job, JobKind, State
from tasks.wishes import FIELDS

if TYPE_CHECKING:
    from webapp import shapes


def job_json(job: Job, limits: Limits, load: Load, submitters: Mapping[str, str]) -> shapes.Job:
    """One job. limits, load: as they are now; submitters: see `Box.submitters`. `eta_seconds` is an estimate from this
    box's own jobs, null while nothing is known; `submitter` the name of its key, for who sees several's."""
    links: shapes.JobLinks = {"self": f"/api/v1/jobs/{job.id}"}
    if job.state == State.COMPLETED and job.kind == JobKind.TRANSCRIPTION:
        links["transcript"] = f"/api/v1/jobs/{job.id}/transcript"
    if job.state == State.COMPLETED or (job.state != State.RECEIVING and job.kind == JobKind.TRANSCRIPTION):
        links["media"] = f"/api/v1/jobs/{job.id}/media"
    if job.media is not None and job.kind == JobKind.TRANSCRIPTION:
        links["peaks"] = f"/api/v1/jobs/{job.id}/peaks"
        if job.media.get("cover"):
            links["cover"] = f"/api/v1/jobs/{job.id}/cover"
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "stage": job.stage,
        "progress": round(job.progress, 3),
        "created_at": stamp(job.created_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "attempts": job.attempts,
        "crashes": job.crashes,
        "source": {
            "type": cast("shapes.SourceType", job.source.type),
            "name": job.source.name,
            "url": job.source.url,
            "bytes": job.source.bytes,
            "seconds": job.source.seconds,
        },
        "params": cast("shapes.JobParams", {name: getattr(job.params, name) or None for name in FIELDS[job.kind]}),
        "media": cast("shapes.Media | None", job.media),
        "queue_position": job.queue_position,
        "eta_seconds": _eta(job, limits, load),
        "realtime_factor": None if job.realtime_factor is None else round(job.realtime_factor, 3),
        "error": _failed(job.error),
        "note": " ".join(filter(None, (job.note, DEMO_NOTE if job.by_demo else None))) or None,
        "about": cast("shapes.About", job.about),
        "batch": job.batch,
        "submitter": submitters.get(job.submitter),
        "links": links,
    }


def stamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339(seconds: float | None) -> str | None:
    """`stamp` of a time that may not have come."""
    return None if seconds is None else stamp(seconds)


def _failed(error: Failure | None) -> shapes.Failed | None:
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def _eta(job: Job, limits: Limits, load: Load) -> float | None:
    _, seconds = capacity.times(limits, load, job)
    return None if seconds is None else round(seconds, 1)
