"""What is there, and what a person does to one job."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from tasks.db import Database, jobs
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, State
from tasks.store import history, rows, undos


def cancel(database: Database, job_id: str, *, undoable: bool = False, batch: str | None = None) -> Job | None:
    """queued → canceled; for a running job, ask its worker. None unless the job is queued or running.

    undoable: see `undos`; batch: that all of is canceled."""
    with database.write() as connection:
        row = (
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, rows.queued)
                .values(state=State.CANCELED, finished_at=time.time())
                .returning(jobs)
            ).first()
            or connection.execute(
                sa.update(jobs).where(jobs.c.id == job_id, rows.running).values(cancel_requested=True).returning(jobs)
            ).first()
        )
        if row is not None and undoable:
            undos.note_canceled(connection, row, batch)
    return None if row is None else rows.job(row)


def delete(database: Database, job_id: str, *, undoable: bool = False, batch: str | None = None) -> bool:
    """Remove the row, whatever its state; a worker that runs it learns at its next heartbeat. False if unknown.

    undoable: see `undos`; batch: that is deleted with all its jobs."""
    with database.write() as connection:
        if not (undoable and undos.keep_deleted(connection, job_id, batch)):
            undos.forget(connection, [job_id])
            history.forget(connection, [job_id])
        return connection.execute(sa.delete(jobs).where(jobs.c.id == job_id)).rowcount == 1


def delete_finished_before(database: Database, before: float, limit: int) -> list[str]:
    """Remove rows of jobs that finished before a time (seconds since 1970), oldest first. Returns their ids."""
    old = sa.select(jobs.c.id).where(jobs.c.finished_at.is_not(None), jobs.c.finished_at < before)
    old = old.order_by(jobs.c.finished_at).limit(limit)
    with database.write() as connection:
        gone = list(connection.scalars(sa.delete(jobs).where(jobs.c.id.in_(old)).returning(jobs.c.id)))
        history.forget(connection, gone)
    return gone


def get(database: Database, job_id: str, owner: str | None = None) -> Job | None:
    """One job, with its place in the queue. owner: whose it must be, None for anyone's; another's isn't there."""
    with database.read() as connection:
        row = connection.execute(_of(owner, sa.select(jobs).where(jobs.c.id == job_id))).first()
        if row is None:
            return None
        ahead = None
        if row.state == State.QUEUED:
            line = sa.tuple_(jobs.c.turn, jobs.c.queued_at, jobs.c.id)
            before = line <= sa.tuple_(*map(sa.literal, (row.turn, row.queued_at, row.id)))
            before &= rows.light(jobs) if JobKind(row.kind).light else ~rows.light(jobs)
            ahead = connection.scalar(sa.select(sa.func.count()).select_from(jobs).where(rows.queued, before))
        return rows.job(row, ahead)


def _of(owner: str | None, query: sa.Select[Any]) -> sa.Select[Any]:
    return query if owner is None else query.where(jobs.c.submitter == owner)


def list_active(database: Database, owner: str | None = None) -> list[Job]:
    """Jobs that hold a place, of one owner or of all: running first, then the queue in order, then uploads."""
    with database.read() as connection:
        running = connection.execute(sa.select(jobs).where(rows.running).order_by(jobs.c.started_at, jobs.c.id))
        queued = connection.execute(
            sa.select(jobs).where(rows.queued).order_by(jobs.c.turn, jobs.c.queued_at, jobs.c.id)
        )
        receiving = connection.execute(sa.select(jobs).where(rows.receiving).order_by(jobs.c.created_at, jobs.c.id))
        found = [
            *map(rows.job, running),
            *(rows.job(row, place) for row, place in _places(queued)),  # its place among all
            *map(rows.job, receiving),
        ]
    return [job for job in found if owner is None or job.submitter == owner]


def list_jobs(
    database: Database,
    state: State | None,
    limit: int,
    after: str | None = None,
    owner: str | None = None,
    batch: str | None = None,
) -> list[Job]:
    """Jobs, newest first, of one state or of all, of one owner or of all, of one batch or of any; those that come after
    the one with this id.

    Raises StenoboxError invalid_value when that one is gone: an empty page would look like the end.
    """
    query = _of(owner, sa.select(jobs)).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if batch is not None:
        query = query.where(jobs.c.batch == batch)
    with database.read() as connection:
        if after is not None:
            last = connection.scalar(_of(owner, sa.select(jobs.c.created_at).where(jobs.c.id == after)))
            if last is None:
                raise StenoboxError(
                    "invalid_value", "The job to go on after was deleted. Start again at the first page.", param="after"
                )
            query = query.where(sa.tuple_(jobs.c.created_at, jobs.c.id) < sa.tuple_(*map(sa.literal, (last, after))))
        line = sa.select(jobs.c.id, jobs.c.kind).where(rows.queued)
        line = line.order_by(jobs.c.turn, jobs.c.queued_at, jobs.c.id)
        places = {row.id: place for row, place in _places(connection.execute(line))}
        return [rows.job(row, places.get(row.id)) for row in connection.execute(query)]


def _places(line: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Rows in line with their places: those that need no model have a line of their own."""
    last = {True: 0, False: 0}
    for row in line:
        light = JobKind(row.kind).light
        last[light] += 1
        yield row, last[light]


def list_finished(
    database: Database,
    limit: int,
    cursor: tuple[float, str] | None = None,
    owner: str | None = None,
    *,
    newer: bool = False,
) -> list[Job]:
    """Finished jobs that are in no batch, newest first, of one owner or of all. cursor: (finished_at, id) of the last
    job of the page before; newer: those just above it instead, where it is the first of the page after."""
    query = _of(owner, sa.select(jobs).where(jobs.c.finished_at.is_not(None), jobs.c.batch.is_(None)))
    place = sa.tuple_(jobs.c.finished_at, jobs.c.id)
    if cursor is not None:
        given = sa.tuple_(*map(sa.literal, cursor))
        query = query.where(place > given if newer else place < given)
    order = (jobs.c.finished_at, jobs.c.id) if newer else (jobs.c.finished_at.desc(), jobs.c.id.desc())
    with database.read() as connection:
        page = [rows.job(row) for row in connection.execute(query.order_by(*order).limit(limit))]
    return page[::-1] if newer else page


def count_finished(database: Database, owner: str | None = None) -> int:
    """How many jobs that are in no batch have finished, of one owner or of all."""
    query = sa.select(sa.func.count()).select_from(jobs)
    query = _of(owner, query.where(jobs.c.finished_at.is_not(None), jobs.c.batch.is_(None)))
    with database.read() as connection:
        return connection.scalar(query) or 0


def oldest_wait(database: Database) -> float:
    """Seconds for which the job that has waited longest has been in line; 0.0 when none waits."""
    with database.read() as connection:
        since = connection.scalar(sa.select(sa.func.min(jobs.c.queued_at)).where(rows.queued))
    return max(0.0, time.time() - since) if since else 0.0


def ids(database: Database) -> set[str]:
    """Ids of all jobs, also of deleted ones that may come back."""
    with database.read() as connection:
        return {*connection.scalars(sa.select(jobs.c.id)), *undos.kept_ids(connection)}
