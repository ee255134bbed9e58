"""The same recording again: what was made of it before, and a job that is completed by that."""

from __future__ import annotations

import time
from dataclasses import asdict

import sqlalchemy as sa

from tasks.db import Database, jobs
from tasks.jobs import Job, Params, Source, State
from tasks.store import keys, rows

MOST_TWINS = 20


def twins(database: Database, job_id: str, sha256: str, params: Params) -> list[Job]:
    """Completed jobs of the same submitter and kind as this one, with the same bytes and parameters, newest first; none
    for a submitter without a key."""
    own = rows.own
    query = (
        sa.select(jobs)
        .join(own, (own.c.submitter == jobs.c.submitter) & (own.c.kind == jobs.c.kind))
        .where(own.c.id == job_id, own.c.submitter != "")  # without a key nobody knows whose a recording is
        .where(jobs.c.source_sha256 == sha256, jobs.c.result.is_not(None))
        .where(jobs.c.state == State.COMPLETED)
        .order_by(jobs.c.finished_at.desc())
        .limit(MOST_TWINS)
    )
    with database.read() as connection:
        found = [rows.job(row) for row in connection.execute(query)]
    return [job for job in found if job.params == params]


def complete_if_receiving(
    database: Database, job_id: str, source: Source, params: Params, result: str, note: str
) -> Job | None:
    """receiving → completed: all bytes are on disk, and so is a transcript of them. None when the job was deleted
    meanwhile. It was never started: nothing is learnt from its times."""
    update = (
        sa.update(jobs)
        .where(jobs.c.id == job_id, rows.receiving)
        .values(
            state=State.COMPLETED,
            finished_at=time.time(),
            progress=1.0,
            receiver=None,
            source_name=source.name,
            source_bytes=source.bytes,
            source_seconds=source.seconds,
            source_sha256=source.sha256,
            params=asdict(params),
            result=result,
            note=note,
        )
    )
    with database.write() as connection:
        row = connection.execute(update.returning(jobs)).first()
        if row is not None:
            keys.accept(connection, job_id)
    return None if row is None else rows.job(row)
