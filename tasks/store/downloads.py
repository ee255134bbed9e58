"""Jobs whose media has first to be fetched: the same states as all others, in slots of another kind.

    queued, needs_download ──> running, needs_download ──> queued, at its old place in line

Until then no transcription slot is held or waited for.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import sqlalchemy as sa

from tasks import lengths
from tasks.capacity import Limits, Request
from tasks.db import Database, attempts, jobs
from tasks.jobs import Job, Params, Source, Stage, State, new_id
from tasks.store import batches, history, keys, rows
from tasks.store.admission import decide_here, line_up, read_limits
from tasks.store.attempts import Attempt


def admit_link(
    database: Database,
    first: Limits,
    request: Request,
    source: Source,
    params: Params,
    submitter: str = "",
    key: str = "",
    batch: str = "",
) -> Job:
    """Take a place in line for a link; the decision and the row are one transaction. key: the submitter's own name for
    this submission; batch: the id or name of the batch it enters. Raises the refusal, and before it KeyTaken."""
    job_id, now = new_id(), time.time()
    with database.write() as connection:
        if key:
            keys.take(connection, submitter, key, job_id)
            keys.accept(connection, job_id)
        if refusal := decide_here(connection, first, submitter, request):
            raise refusal
        connection.execute(
            sa.insert(jobs).values(
                id=job_id,
                kind="transcription",
                state=State.RECEIVING,
                created_at=now,
                submitter=submitter,
                source_type=source.type,
                source_name=source.name,
                source_url=source.url,
                needs_download=True,
                params={},
            )
        )
        if batch:
            batches.enter(connection, job_id, batch)
        return rows.job(connection.execute(line_up(job_id, source, params).returning(jobs)).one())


def claim_download(database: Database, first: Limits, worker: str, lease: float) -> Attempt | None:
    """queued → running for the first in line whose link has to be fetched, if a slot for downloads is free."""
    token, now = uuid.uuid4().hex, time.time()
    other = rows.other
    fetching = (
        other.c.finished_at.is_(None) & (other.c.state == sa.literal_column("'running'")) & other.c.needs_download
    )
    own = sa.select(sa.func.count()).select_from(other).where(fetching, other.c.submitter == jobs.c.submitter)
    with database.write() as connection:
        limits = read_limits(connection, first)
        if limits.intake == "paused":
            return None
        # A key leaves the last slot to others, or its slow sites would keep all of them waiting; the operator takes it.
        most = max(1, limits.download_slots - 1)
        may = (jobs.c.submitter == "") | (own.correlate(jobs).scalar_subquery() < most)
        head = (
            sa.select(jobs.c.id)
            .where(rows.to_download, may)
            .order_by(jobs.c.turn, jobs.c.queued_at, jobs.c.id)
            .limit(1)
        )
        row = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.id == head.scalar_subquery(),
                rows.to_download,
                sa.select(sa.func.count()).select_from(other).where(fetching).scalar_subquery() < limits.download_slots,
            )
            .values(
                state=State.RUNNING,
                stage=Stage.DOWNLOAD,
                progress=0.0,
                attempts=jobs.c.attempts + 1,
                started_at=now,
                cancel_requested=False,
                token=token,
                worker=worker,
                lease_until=now + lease,
            )
            .returning(jobs)
        ).first()
        if row is None:
            return None
        history.begin(connection, row.id, token, worker, now)
    return Attempt(rows.job(row), token)


def fetched_if_owned(database: Database, token: str, name: str, size: int, about: dict[str, Any]) -> Job | None:
    """running → queued at its old place in line: its media is on disk. name: to show; size: bytes.

    It counts as no attempt and leaves no record of one, and what killed a downloader says nothing about the engine.
    """
    values = rows.back_in_line(jobs.c.attempts - 1)
    values |= dict(needs_download=False, source_name=name, source_bytes=size, about=about, crashes=0)
    values |= dict(error_code=None, error_message=None, guessed_seconds=_length(about) or lengths.guess(name, size))
    with database.write() as connection:
        row = connection.execute(sa.update(jobs).where(_owned(token)).values(**values).returning(jobs)).first()
        if row is not None:
            connection.execute(sa.delete(attempts).where(attempts.c.token == token))
    return None if row is None else rows.job(row)


def note_download_if_owned(database: Database, token: str, size: int, about: dict[str, Any]) -> None:
    """How far it is. size: bytes so far."""
    with database.write() as connection:
        connection.execute(sa.update(jobs).where(_owned(token)).values(source_bytes=size, about=about))


def _length(about: dict[str, Any]) -> float | None:
    """What its site says of its length."""
    said = about.get("duration")
    return float(said) if isinstance(said, (int, float)) and said > 0 else None


def _owned(token: str) -> Any:
    return (jobs.c.token == token) & rows.running
