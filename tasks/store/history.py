"""One record per try at a job, begun by its claim and ended in the transaction of whatever ends it, so that the story
that people read can't contradict the job's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.db import Database, attempts, jobs
from tasks.jobs import Stage, State
from tasks.store import rows


@dataclass(frozen=True, slots=True)
class Seen:
    """What the worker knows of an attempt at its end. stage: where it was, None: where the last heartbeat found it;
    peak: the most bytes of memory its processes held; batch: windows recognized together; crash: what faulthandler
    wrote of the process that crashed."""

    stage: Stage | None = None
    peak: int | None = None
    batch: int | None = None
    crash: str = ""


NOTHING_SEEN = Seen()
LOST = "worker_lost"
MOST_CRASH = 4_000
"""Characters of a crash that are kept: the thread that crashed comes first, or nearly so."""
_other = attempts.alias("other")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an attempt ended before its end. code: of errors.KINDS; sentence: for a person; charged: whether it counts
    as a crash of its job."""

    code: str
    sentence: str
    charged: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try. Times are seconds since 1970, UTC; ended_at and outcome are None while it runs. outcome: what became of
    the job by it: completed, failed, canceled, or queued to be tried again; cause and sentence: why, None for one that
    completed; peak_bytes, batch: None where they were not measured or not reached; crash: where a process of it was as
    it crashed."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    stage: Stage | None
    outcome: State | None
    cause: str | None
    sentence: str | None
    peak_bytes: int | None
    batch: int | None
    charged: bool
    crash: str | None = None


def begin(connection: Connection, job_id: str, token: str, worker: str, now: float) -> None:
    """A claim begins a try. Numbers count up for as long as the job is there."""
    before = sa.select(sa.func.coalesce(sa.func.max(attempts.c.number), 0)).where(attempts.c.job == job_id)
    number = before.scalar_subquery() + 1
    connection.execute(
        sa.insert(attempts).values(job=job_id, number=number, token=token, worker=worker, started_at=now)
    )


def smaller_batch(connection: Connection, job_id: str) -> int | None:
    """Half the windows with which memory ran out at this job; None when it did not."""
    ran_out = (attempts.c.job == job_id) & (attempts.c.cause == "out_of_memory")
    least: int | None = connection.scalar(sa.select(sa.func.min(attempts.c.batch)).where(ran_out))
    return None if least is None else max(1, least // 2)


def losses(connection: Connection, which: Any) -> dict[str, int]:
    """How many of the last tries in a row lost their worker: for each job that `which` names, the running try not
    counted."""
    other = _other
    last = sa.select(sa.func.coalesce(sa.func.max(other.c.number), 0)).where(
        other.c.job == attempts.c.job, other.c.cause.is_distinct_from(LOST), other.c.ended_at.is_not(None)
    )
    query = sa.select(attempts.c.job, sa.func.count()).group_by(attempts.c.job)
    query = query.where(attempts.c.job.in_(sa.select(jobs.c.id).where(which)), attempts.c.cause == LOST)
    return {row[0]: row[1] for row in connection.execute(query.where(attempts.c.number > last.scalar_subquery()))}


def end(
    connection: Connection, which: Any, outcome: State, now: float, cause: Cause | None, seen: Seen = NOTHING_SEEN
) -> None:
    """End the tries of the running jobs that `which` names. Called before their rows change: then their tokens go."""
    last = sa.select(jobs.c.stage).where(jobs.c.token == attempts.c.token).scalar_subquery()
    connection.execute(
        sa.update(attempts)
        .where(attempts.c.token.in_(sa.select(jobs.c.token).where(which)))
        .values(
            ended_at=now,
            outcome=outcome,
            stage=seen.stage or last,
            cause=cause and cause.code,
            sentence=cause and cause.sentence,
            peak_bytes=seen.peak,
            batch=seen.batch,
            charged=cause is not None and cause.charged,
            crash=seen.crash[:MOST_CRASH] or None,
        )
    )


def forget(connection: Connection, job_ids: Iterable[str]) -> None:
    """The tries of deleted jobs go with them."""
    connection.execute(sa.delete(attempts).where(attempts.c.job.in_(list(job_ids))))


def list_attempts(database: Database, job_id: str) -> list[AttemptRecord]:
    """All tries at a job, the first one first."""
    a = attempts.c
    query = sa.select(
        a.number, a.worker, a.started_at, a.ended_at, a.stage, a.outcome, a.cause, a.sentence, a.peak_bytes, a.batch
    ).add_columns(a.charged, a.crash)
    with database.read() as connection:
        found = connection.execute(query.where(a.job == job_id).order_by(a.number)).all()
    return [_record(row) for row in found]


def _record(row: Any) -> AttemptRecord:
    values = row._asdict()
    values["stage"] = rows.known(Stage, row.stage)
    values["outcome"] = rows.known(State, row.outcome) or (State.FAILED if row.outcome else None)
    return AttemptRecord(**values)
