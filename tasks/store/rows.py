"""From rows to jobs, and the conditions that every query about states shares."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from tasks.db import Database, jobs
from tasks.errors import KINDS
from tasks.jobs import Failure, Job, JobKind, Params, Source, Stage, State

# States in queries are literals: a bound one can't use the partial indexes.
receiving = sa.text("jobs.state = 'receiving' AND jobs.finished_at IS NULL")
queued = sa.text("jobs.state = 'queued' AND jobs.finished_at IS NULL")
running = sa.text("jobs.state = 'running' AND jobs.finished_at IS NULL")
to_download = queued & jobs.c.needs_download
"""Their link is fetched first, in a slot of its own kind; only then they are in line for the engine."""
# Jobs beside the one that a query is about. Made once: each has a copy of every column, 40 KB of garbage in cycles.
own, other, line = jobs.alias("own"), jobs.alias("other"), jobs.alias("line")


def light(table: Any) -> Any:
    """Whether a job needs no model (JobKind.light)."""
    return table.c.kind != sa.literal_column("'transcription'")


def back_in_line(attempts: Any) -> dict[str, Any]:
    """Values of a row that waits again at its old place in line."""
    return dict(
        state=State.QUEUED,
        stage=None,
        progress=0.0,
        resumed=0.0,
        elapsed=0.0,
        started_at=None,
        token=None,
        worker=None,
        lease_until=None,
        attempts=attempts,
    )


def change_one(database: Database, update: sa.Update) -> Job | None:
    """Run a guarded UPDATE of at most one job; None when its guard did not hold."""
    with database.write() as connection:
        row = connection.execute(update.returning(jobs)).first()
    return None if row is None else job(row)


def job(row: Row[Any], queue_position: int | None = None) -> Job:
    """The job that a row of the jobs table holds."""
    error = None
    # A queued job keeps the sentence about its last crash for the record; only a failed one shows it as its error.
    if row.error_code is not None and row.state == State.FAILED:
        error = Failure(row.error_code, row.error_message, KINDS[row.error_code].retryable)
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=State(row.state),
        source=Source(
            row.source_type,
            row.source_name,
            row.source_bytes,
            row.source_seconds,
            row.source_sha256,
            row.source_url,
        ),
        params=_params(row.params),
        created_at=row.created_at,
        stage=Stage(row.stage) if row.stage else None,
        progress=row.progress,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempts=row.attempts,
        crashes=row.crashes,
        cancel_requested=row.cancel_requested,
        error=error,
        note=row.note,
        result=row.result,
        media=row.media,
        submitter=row.submitter,
        work_seconds=row.work_seconds,
        media_removed_at=row.media_removed_at,
        needs_download=row.needs_download,
        about=row.about,
        batch=row.batch,
        queue_position=queue_position,
    )


def _params(stored: dict[str, Any]) -> Params:
    return Params(**stored | {"kind": JobKind(stored["kind"])} if "kind" in stored else stored)
