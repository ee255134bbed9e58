"""Claims and what becomes of them: only the owner of a token, or a rescuer, moves a running job on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.capacity import Limits
from tasks.db import Database, jobs
from tasks.jobs import FORGIVEN_LOSSES, MAX_CRASHES, Job, Stage, State
from tasks.store import history, rows
from tasks.store.admission import read_limits
from tasks.store.history import LOST, NOTHING_SEEN, Cause, Seen
from tasks.store.undos import UNDONE

LIGHT_SLOTS = 2
"""Jobs at once that need no model: each reads one file with one process, for seconds."""

_RELEASED: dict[str, Any] = dict(token=None, worker=None, lease_until=None, left_seconds=None)
"""What every row carries once nobody owns it."""

CANCELED = Cause("canceled", "A person stopped it.")
INTERRUPTED = Cause("interrupted", "Stenobox was being stopped.")
WORKER_GONE = Cause(LOST, "Stenobox itself was ended in the middle of it: killed, or restarted with its machine.")
WORKER_CRASHED = Cause(LOST, "Stenobox itself crashed in the middle of it; the log says where.")
_TOO_OFTEN = (
    "Stenobox was ended in the middle of this recording again and again, until it was given up. If nobody did that by "
    "hand, the machine runs out of memory: try a smaller model, or give the box more of it."
)
WORKER_SILENT = Cause(LOST, "The worker that ran it fell silent for longer than its lease.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim: this worker runs the job until the token goes stale. batch: the most windows it may recognize together,
    since more of them ran out of memory; None for as many as usual."""

    job: Job
    token: str
    batch: int | None = None


def claim_next(database: Database, first: Limits, worker: str, lease: float, *, light: bool = False) -> Attempt | None:
    """queued → running for the first in line whose media is here, if a slot is free. lease: seconds; light: of those
    that need no model, which have LIGHT_SLOTS of their own.

    A job with a crash on record runs alone, so that a second death convicts only the guilty.
    """
    lane = rows.light if light else rows.heavy
    token, now = uuid.uuid4().hex, time.time()
    other = rows.other
    running = other.c.finished_at.is_(None) & (other.c.state == sa.literal_column("'running'"))
    running &= ~other.c.needs_download & lane(other)
    head = (
        sa.select(jobs.c.id)
        .where(rows.queued, ~jobs.c.needs_download, lane(jobs))
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
                sa.select(sa.func.count()).select_from(other).where(running).scalar_subquery()
                < (LIGHT_SLOTS if light else limits.slots),
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
        if row is None:
            return None
        batch = history.smaller_batch(connection, row.id) if row.crashes else None
        history.begin(connection, row.id, token, worker, now)
    return Attempt(rows.job(row), token, batch)


def renew_if_owned(
    database: Database,
    beats: Iterable[tuple[str, Stage, float, float]],
    lease: float,
    left: Mapping[str, float | None] = MappingProxyType({}),
) -> dict[str, bool]:
    """Renew leases and write progress: (token, stage, progress, seconds since its claim) for each attempt. left:
    estimated seconds of work left, by token.

    Returns, for each token still owned, whether its job is to be canceled; an absent token is lost.
    """
    until, owned = time.time() + lease, {}
    with database.write() as connection:
        for token, stage, progress, elapsed in beats:
            wanted = connection.execute(
                sa.update(jobs)
                .where(_owned(token))
                .values(
                    lease_until=until, stage=stage, progress=progress, elapsed=elapsed, left_seconds=left.get(token)
                )
                .returning(jobs.c.cancel_requested)
            ).first()
            if wanted is not None:
                owned[token] = bool(wanted[0])
    return owned


def finish_if_owned(
    database: Database,
    token: str,
    result: str,
    seconds: float | None,
    note: str | None,
    work: float | None = None,
    seen: Seen = NOTHING_SEEN,
) -> Job | None:
    """running → completed. result: name of the transcript file; seconds: duration of the recording; work: seconds it
    took, without loading the model."""
    return _leave(
        database,
        token,
        None,
        seen,
        state=State.COMPLETED,
        progress=1.0,
        result=result,
        source_seconds=seconds,
        note=note,
        work_seconds=work,
    )


def note_media_if_owned(
    database: Database, token: str, seconds: float, media: dict[str, Any], resumed: float = 0.0
) -> None:
    """What is known once a recording is decoded: its duration and the progress that earlier attempts had made of it, on
    which estimates for those who wait rest, and what it says of itself (see `decode.Facts`)."""
    with database.write() as connection:
        progress = sa.case((jobs.c.progress < resumed, resumed), else_=jobs.c.progress)
        known = dict(source_seconds=seconds, resumed=resumed, progress=progress, media=media)
        connection.execute(sa.update(jobs).where(_owned(token)).values(**known))


def fail_if_owned(database: Database, token: str, code: str, message: str, seen: Seen = NOTHING_SEEN) -> Job | None:
    """running → failed."""
    cause = Cause(code, message)
    return _leave(database, token, cause, seen, state=State.FAILED, error_code=code, error_message=message)


def cancel_if_owned(database: Database, token: str, seen: Seen = NOTHING_SEEN) -> Job | None:
    """running → canceled, because a person asked; → queued at its old place if that was taken back meanwhile."""
    with database.write() as connection:
        changed = _interrupt(connection, _owned(token), rows.back_in_line(jobs.c.attempts - 1), UNDONE, seen)
    return changed[0] if changed else None


def requeue_if_owned(
    database: Database, token: str, cause: Cause = INTERRUPTED, seen: Seen = NOTHING_SEEN
) -> Job | None:
    """running → queued at its old place in line, without charge: the interruption was not the job's fault."""
    with database.write() as connection:
        changed = _interrupt(connection, _owned(token), rows.back_in_line(jobs.c.attempts - 1), cause, seen)
    return changed[0] if changed else None


def requeue_crashed_if_owned(
    database: Database, token: str, code: str, message: str, seen: Seen = NOTHING_SEEN, final: str | None = None
) -> Job | None:
    """running → queued with one more crash on record, or → failed at the last one allowed.

    final: what the failed job says instead of `message`, which tells of this try alone.
    """
    with database.write() as connection:
        changed = _charge(connection, _owned(token), Cause(code, message, charged=True), final or message, seen)
        return changed[0] if changed else None


def requeue_all_running(database: Database, crash: str = "") -> list[Job]:
    """running → queued for every running job: for the only worker of this box, at its start. crash: what the last one
    wrote as it crashed."""
    return _rescue(database, rows.running, WORKER_CRASHED if crash else WORKER_GONE, Seen(crash=crash))


def stamps(database: Database) -> dict[str, float]:
    """How long each running attempt says it has run, by token: a number that moves as long as its worker lives."""
    with database.read() as connection:
        return {
            row.token: row.elapsed
            for row in connection.execute(sa.select(jobs.c.token, jobs.c.elapsed).where(rows.running))
        }


def requeue_if_silent(database: Database, token: str, stamp: float) -> list[Job]:
    """running → queued for an attempt that still says what it said: its lease is over (see `leases`)."""
    return _rescue(database, _owned(token) & (jobs.c.elapsed == stamp), WORKER_SILENT)


def _rescue(database: Database, which: Any, cause: Cause, seen: Seen = NOTHING_SEEN) -> list[Job]:
    with database.write() as connection:
        changed: list[Job] = []
        for job_id, times in history.losses(connection, which).items():
            if times >= FORGIVEN_LOSSES:
                charged = Cause(cause.code, cause.sentence, charged=True)
                changed += _charge(connection, which & (jobs.c.id == job_id), charged, _TOO_OFTEN, seen)
        changed += _interrupt(connection, which, rows.back_in_line(jobs.c.attempts), cause, seen)
    return [job for job in changed if job.state == State.QUEUED]


def _charge(connection: Connection, which: Any, cause: Cause, final: str, seen: Seen = NOTHING_SEEN) -> list[Job]:
    """One more crash for the one job that is meant. final: what it says if that was the last one allowed."""
    last = connection.scalar(sa.select(jobs.c.crashes).where(which))
    if last is None:
        return []
    if last + 1 >= MAX_CRASHES:
        values = _RELEASED | dict(state=State.FAILED, finished_at=time.time(), stage=None, error_message=final)
    else:
        values = rows.back_in_line(jobs.c.attempts) | dict(error_message=cause.sentence)
    return _interrupt(connection, which, values | dict(crashes=last + 1, error_code=cause.code), cause, seen)


def _interrupt(
    connection: Connection, which: Any, values: dict[str, Any], cause: Cause, seen: Seen = NOTHING_SEEN
) -> list[Job]:
    """Give running jobs these values; those that a person canceled become canceled instead.

    A person's cancel outlives the worker, or the attempt, that should have carried it out.
    """
    now = time.time()
    canceled = _RELEASED | dict(state=State.CANCELED, finished_at=now, stage=None)
    changed: list[Job] = []
    for condition, change, why in (
        (which & jobs.c.cancel_requested, canceled, CANCELED),
        (which, values, cause),
    ):
        history.end(connection, condition, change["state"], now, why, seen)
        rescued = connection.execute(sa.update(jobs).where(condition).values(**change).returning(jobs))
        changed += [rows.job(row) for row in rescued]
    return changed


def _owned(token: str) -> Any:
    return (jobs.c.token == token) & rows.running


def _leave(
    database: Database, token: str, cause: Cause | None, seen: Seen, *, state: State, **values: Any
) -> Job | None:
    now = time.time()
    with database.write() as connection:
        history.end(connection, _owned(token), state, now, cause, seen)
        row = connection.execute(
            sa.update(jobs)
            .where(_owned(token))
            .values(**_RELEASED | dict(state=state, finished_at=now, stage=None) | values)
            .returning(jobs)
        ).first()
    return None if row is None else rows.job(row)
