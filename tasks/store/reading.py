"""What is there, and what a person does to one job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.db import Database, jobs
from tasks.errors import StenoboxError
from tasks.jobs import Job, JobKind, State
from tasks.store import history, rows, undos
from tasks.store.pace import Pace, read_pace


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
        return None if row is None else told(connection, [row])[0]


def told(connection: Connection, found: Sequence[Any]) -> list[Job]:
    """The jobs of these rows, those that wait with their places, those that run with the time left."""
    if all(row.finished_at is not None or row.state == State.RECEIVING for row in found):
        return [rows.job(row) for row in found]
    pace = read_pace(connection)
    places = _places(connection, pace, [row for row in found if _in_line(row)])
    return [rows.job(row, places.get(row.id), _left(pace, row)) for row in found]


def _left(pace: Pace, row: Any) -> float | None:
    if pace.job_seconds is None or row.finished_at is not None or row.kind != JobKind.TRANSCRIPTION:
        return None
    if row.state == State.RUNNING and not row.needs_download:
        return pace.left(row)
    if row.state != State.QUEUED:
        return None
    length = row.guessed_seconds if row.source_seconds is None else row.source_seconds
    return pace.work(row.model, length)


def _places(connection: Connection, pace: Pace, waiting: Sequence[Any]) -> dict[str, rows.Place]:
    """Places in line of some of those that wait; those that need no model have a line of their own. SQL counts up to
    the last of them, whatever else is in line."""
    if not waiting:
        return {}
    last = max(waiting, key=_order)
    until = rows.queued & (sa.tuple_(*_LINE) <= sa.tuple_(*map(sa.literal, _order(last))))
    if len(waiting) == 1:  # no need to number all
        lane = rows.light(jobs) if _light(last) else rows.heavy(jobs)
        own = sa.select(sa.func.count(), sa.func.sum(pace.work_sql(jobs))).where(until, lane)
        position, work = connection.execute(own).one()
        length = last.guessed_seconds if last.source_seconds is None else last.source_seconds
        return {last.id: _place(pace, last, position, (work or 0.0) - pace.work(last.model, length))}
    heavy, light = (sa.case((lane(jobs), 1), else_=0) for lane in (rows.heavy, rows.light))
    work = pace.work_sql(jobs)

    def so_far(what: Any) -> Any:
        return sa.func.sum(what).over(order_by=_LINE, rows=(None, 0))

    numbered = (
        sa.select(
            jobs.c.id,
            so_far(heavy).label("heavy"),
            so_far(light).label("light"),
            (so_far(heavy * work) - heavy * work).label("ahead"),
        )
        .where(until)
        .subquery()
    )
    wanted = {row.id: row for row in waiting}
    found = connection.execute(sa.select(numbered).where(numbered.c.id.in_(wanted))).all()
    return {
        row.id: _place(pace, wanted[row.id], row.light if _light(wanted[row.id]) else row.heavy, row.ahead)
        for row in found
    }


def _place(pace: Pace, row: Any, position: int, ahead: float) -> rows.Place:
    return rows.Place(position, None if pace.job_seconds is None or _light(row) else max(0.0, ahead))


def _in_line(row: Any) -> bool:
    return row.state == State.QUEUED and rows.known(JobKind, row.kind) is not None


def _light(row: Any) -> bool:
    return bool(row.kind != JobKind.TRANSCRIPTION)


def _order(row: Any) -> tuple[Any, ...]:
    return (row.turn, row.queued_at, row.id)


_LINE = (jobs.c.turn, jobs.c.queued_at, jobs.c.id)


def _of(owner: str | None, query: sa.Select[Any]) -> sa.Select[Any]:
    return query if owner is None else query.where(jobs.c.submitter == owner)


def first_in_line(database: Database) -> str | None:
    """The id of the job that is first in line, of any kind; None when none waits."""
    with database.read() as connection:
        found: str | None = connection.scalar(sa.select(jobs.c.id).where(rows.queued).order_by(*_LINE).limit(1))
    return found


def first_ids(database: Database, limit: int) -> list[str]:
    """Ids of the first in line."""
    with database.read() as connection:
        return list(connection.scalars(sa.select(jobs.c.id).where(rows.queued).order_by(*_LINE).limit(limit)))


def active_ids(database: Database) -> set[str]:
    """Ids of all jobs that hold a place."""
    with database.read() as connection:
        return set(connection.scalars(sa.select(jobs.c.id).where(jobs.c.finished_at.is_(None))))


def list_active(
    database: Database, owner: str | None = None, limit: int | None = None, *, apart: bool = False
) -> list[Job]:
    """Jobs that hold a place, of one owner or of all: running first, then the queue in order, then uploads. limit: of
    those that wait and of those that arrive; apart: of these only such as are in no batch."""

    def some(which: Any, *order: Any) -> sa.Select[Any]:
        query = _of(owner, sa.select(jobs).where(which)).order_by(*order)
        if apart and which is not rows.running:
            query = query.where(jobs.c.batch.is_(None))
        return query if which is rows.running else query.limit(limit)

    with database.read() as connection:
        found = [
            *connection.execute(some(rows.running, jobs.c.started_at, jobs.c.id)).all(),
            *connection.execute(some(rows.queued, *_LINE)).all(),
            *connection.execute(some(rows.receiving, jobs.c.created_at, jobs.c.id)).all(),
        ]
        return told(connection, found)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many jobs wait in line, arrive, and do either in a batch."""

    queued: int
    receiving: int
    in_batches: int


def count_waiting(database: Database, owner: str | None = None) -> Waiting:
    """Of one owner or of all."""

    def counted(which: Any) -> sa.Select[Any]:
        query: Any = sa.select(sa.func.count(), sa.func.count(jobs.c.batch)).where(which)
        return _of(owner, query)

    with database.read() as connection:
        queued, queued_in = connection.execute(counted(rows.queued)).one()
        receiving, receiving_in = connection.execute(counted(rows.receiving)).one()
    return Waiting(queued, receiving, queued_in + receiving_in)


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
        return told(connection, connection.execute(query).all())


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
        found = connection.execute(query.order_by(*order).limit(limit)).all()
    page = [rows.job(row) for row in found]
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
