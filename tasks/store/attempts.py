"""Claims and what becomes of them: only the owner of a token, or a rescuer, moves a running job on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.capacity import Limits
from tasks.db import Database, jobs
from tasks.jobs import MAX_CRASHES, Job, Stage, State
from tasks.store import rows
from tasks.store.admission import read_limits

_RELEASED: dict[str, Any] = dict(token=None, worker=None, lease_until=None)
"""What every row carries once nobody owns it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim: this worker runs the job until the token goes stale."""

    job: Job
    token: str


def claim_next(database: Database, first: Limits, worker: str, lease: float) -> Attempt | None:
    """queued → running for the first in line, if a slot is free. lease: seconds.

    A job with a crash on record runs alone, so that a second death convicts only the guilty.
    """
    token, now = uuid.uuid4().hex, time.time()
    other = jobs.alias("other")
    running = other.c.finished_at.is_(None) & (other.c.state == sa.literal_column("'running'"))
    head = (
        sa.select(jobs.c.id)
        .where(rows.queued)
        .order_by(jobs.c.turn, jobs.c.queued_at, jobs.c.id)
        .limit(1)
        .scalar_subquery()
    )
    with database.write() as connection:
        limits = read_limits(connection, first)
        if limits.intake == "paused":
            return None
        row = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.id == head,
                rows.queued,
                sa.select(sa.func.count()).select_from(other).where(running).scalar_subquery() < limits.slots,
                ~sa.exists().where(running, other.c.crashes > 0),
                (jobs.c.crashes == 0) | ~sa.exists().where(running),
            )
            .values(
                state=State.RUNNING,
                stage=Stage.DECODE,
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
    return None if row is None else Attempt(rows.job(row), token)


def renew_if_owned(database: Database, beats: Iterable[tuple[str, Stage, float]], lease: float) -> dict[str, bool]:
    """Renew leases and write progress: (token, stage, progress) for each attempt.

    Returns, for each token still owned, whether its job is to be canceled; an absent token is lost.
    """
    until, owned = time.time() + lease, {}
    with database.write() as connection:
        for token, stage, progress in beats:
            wanted = connection.execute(
                sa.update(jobs)
                .where(_owned(token))
                .values(lease_until=until, stage=stage, progress=progress)
                .returning(jobs.c.cancel_requested)
            ).first()
            if wanted is not None:
                owned[token] = bool(wanted[0])
    return owned


def finish_if_owned(
    database: Database, token: str, result: str, seconds: float, note: str | None, work: float | None = None
) -> Job | None:
    """running → completed. result: name of the transcript file; seconds: duration of the recording; work: seconds it
    took, without loading the model."""
    return _leave(
        database,
        token,
        state=State.COMPLETED,
        finished_at=time.time(),
        stage=None,
        progress=1.0,
        result=result,
        source_seconds=seconds,
        note=note,
        work_seconds=work,
    )


def note_length_if_owned(database: Database, token: str, seconds: float) -> None:
    """The recording's duration, known once it is decoded: estimates for those who wait rest on it."""
    with database.write() as connection:
        connection.execute(sa.update(jobs).where(_owned(token)).values(source_seconds=seconds))


def fail_if_owned(database: Database, token: str, code: str, message: str) -> Job | None:
    """running → failed."""
    return _leave(
        database, token, state=State.FAILED, finished_at=time.time(), stage=None, error_code=code, error_message=message
    )


def cancel_if_owned(database: Database, token: str) -> Job | None:
    """running → canceled, because a person asked."""
    return _leave(database, token, state=State.CANCELED, finished_at=time.time(), stage=None)


def requeue_if_owned(database: Database, token: str) -> Job | None:
    """running → queued at its old place in line, without charge: the interruption was not the job's fault."""
    with database.write() as connection:
        changed = _interrupt(connection, _owned(token), rows.back_in_line(jobs.c.attempts - 1))
    return changed[0] if changed else None


def requeue_crashed_if_owned(database: Database, token: str, code: str, message: str) -> Job | None:
    """running → queued with one more crash on record, or → failed at the last one allowed."""
    with database.write() as connection:
        last = connection.scalar(sa.select(jobs.c.crashes).where(_owned(token)))
        if last is None:
            return None
        if last + 1 >= MAX_CRASHES:
            values = _RELEASED | dict(state=State.FAILED, finished_at=time.time(), stage=None, crashes=last + 1)
        else:
            values = rows.back_in_line(jobs.c.attempts) | dict(crashes=last + 1)
        return _interrupt(connection, _owned(token), values | dict(error_code=code, error_message=message))[0]


def requeue_all_running(database: Database) -> list[Job]:
    """running → queued for every running job: for the only worker of this box, at its start."""
    return _rescue(database, rows.running)


def requeue_expired(database: Database) -> list[Job]:
    """running → queued for every job whose lease is over."""
    return _rescue(database, rows.running & (jobs.c.lease_until < time.time()))


def _rescue(database: Database, which: Any) -> list[Job]:
    with database.write() as connection:
        changed = _interrupt(connection, which, rows.back_in_line(jobs.c.attempts))
    return [job for job in changed if job.state == State.QUEUED]


def _interrupt(connection: Connection, which: Any, values: dict[str, Any]) -> list[Job]:
    """Give running jobs these values; those that a person canceled become canceled instead.

    A person's cancel outlives the worker, or the attempt, that should have carried it out.
    """
    canceled = _RELEASED | dict(state=State.CANCELED, finished_at=time.time(), stage=None)
    return [
        rows.job(row)
        for condition, change in ((which & jobs.c.cancel_requested, canceled), (which, values))
        for row in connection.execute(sa.update(jobs).where(condition).values(**change).returning(jobs))
    ]


def _owned(token: str) -> Any:
    return (jobs.c.token == token) & rows.running


def _leave(database: Database, token: str, **values: Any) -> Job | None:
    return rows.change_one(
        database,
        sa.update(jobs).where(_owned(token)).values(**_RELEASED | values),
    )
