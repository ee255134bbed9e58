"""Batches: many jobs of one submitter under one name. Their state is that of their jobs; nothing is kept twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from tasks.db import Database, batches, jobs
from tasks.errors import StenoboxError
from tasks.jobs import ACTIVE, Job, State, is_id, new_id
from tasks.store import rows, undos
from tasks.store.pace import read_pace
from tasks.store.reading import told


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as its jobs are now. created_at, finished_at: seconds since 1970, the latter None while a job is active
    or there is none; counts: jobs by state; progress: 0..1, each job counting the same."""

    id: str
    name: str
    submitter: str
    created_at: float
    counts: dict[State, int] = field(default_factory=dict)
    progress: float = 0.0
    finished_at: float | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def active(self) -> int:
        return sum(self.counts.get(state, 0) for state in ACTIVE)

    @property
    def done(self) -> int:
        return self.total - self.active

    def count(self, state: str) -> int:
        return self.counts.get(State(state), 0)


def enter(connection: Connection, job_id: str, batch: str) -> None:
    """Put a job that is being received into a batch of its submitter. batch: an id, or a name, which begins a batch
    when there is none of it. Raises StenoboxError not_found for an id that is not one of this submitter's."""
    submitter = connection.scalar(sa.select(jobs.c.submitter).where(jobs.c.id == job_id))
    if submitter is None:  # deleted meanwhile: who queues it will say so
        return
    entered = find(connection, submitter, batch) if is_id(batch) else find_or_begin(connection, submitter, batch)[0]
    connection.execute(sa.update(jobs).where(jobs.c.id == job_id, rows.receiving).values(batch=entered))


def find(connection: Connection, submitter: str, batch_id: str) -> str:
    """The id, if it is one of this submitter's."""
    query = sa.select(batches.c.id).where(batches.c.id == batch_id, batches.c.submitter == submitter)
    found: str | None = connection.scalar(query)
    if found is None:
        raise StenoboxError("not_found", "There is no such batch. It may have been deleted.", param="batch")
    return found


def find_or_begin(connection: Connection, submitter: str, name: str) -> tuple[str, bool]:
    """The id of the submitter's batch of this name, and whether it was begun by this."""
    query = sa.select(batches.c.id).where(batches.c.submitter == submitter, batches.c.name == name)
    if (found := connection.scalar(query)) is not None:
        return found, False
    values = dict(id=new_id(), submitter=submitter, name=name, created_at=time.time())
    connection.execute(sa.insert(batches).values(values))
    return str(values["id"]), True


def enter_batch(database: Database, job_id: str, batch: str) -> None:
    """As `enter`, in a transaction of its own."""
    with database.write() as connection:
        enter(connection, job_id, batch)


def begin_batch(database: Database, submitter: str, name: str) -> tuple[str, bool]:
    """As `find_or_begin`, in a transaction of its own."""
    with database.write() as connection:
        return find_or_begin(connection, submitter, name)


def get_batch(database: Database, batch_id: str, owner: str | None = None) -> Batch | None:
    """One batch. owner: whose it must be, None for anyone's; another's isn't there."""
    with database.read() as connection:
        query = _of(owner, sa.select(batches).where(batches.c.id == batch_id))
        found = _with_jobs(connection, connection.execute(query).all())
    return found[0] if found else None


def list_batches(database: Database, limit: int, after: str | None = None, owner: str | None = None) -> list[Batch]:
    """Newest first, of one owner or of all; those that come after the one with this id.

    Raises StenoboxError invalid_value when that one is gone: an empty page would look like the end."""
    query = _of(owner, sa.select(batches)).order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit)
    with database.read() as connection:
        if after is not None:
            last = connection.scalar(_of(owner, sa.select(batches.c.created_at).where(batches.c.id == after)))
            if last is None:
                sentence = "The batch to go on after was deleted. Start again at the first page."
                raise StenoboxError("invalid_value", sentence, param="after")
            place = sa.tuple_(*map(sa.literal, (last, after)))
            query = query.where(sa.tuple_(batches.c.created_at, batches.c.id) < place)
        return _with_jobs(connection, connection.execute(query).all())


def list_unfinished_batches(database: Database, owner: str | None = None) -> list[Batch]:
    """Those with active jobs, newest first."""
    active = sa.select(jobs.c.batch).where(jobs.c.finished_at.is_(None), jobs.c.batch.is_not(None))
    query = _of(owner, sa.select(batches).where(batches.c.id.in_(active)))
    with database.read() as connection:
        found = connection.execute(query.order_by(batches.c.created_at.desc(), batches.c.id.desc())).all()
        return _with_jobs(connection, found)


def count_batches(database: Database, owner: str | None = None) -> int:
    """How many there are, of one owner or of all."""
    with database.read() as connection:
        return connection.scalar(_of(owner, sa.select(sa.func.count()).select_from(batches))) or 0


def list_of_batch(
    database: Database, batch_id: str, states: Sequence[State] = tuple(State), limit: int | None = None
) -> list[Job]:
    """The jobs of a batch that are in one of these states, in the order they came; those that wait with their place."""
    mine = sa.select(jobs).where(jobs.c.batch == batch_id)
    if set(states) != set(State):  # else also those in a state that this version doesn't know
        mine = mine.where(jobs.c.state.in_(states))
    with database.read() as connection:
        found = connection.execute(mine.order_by(jobs.c.created_at, jobs.c.id).limit(limit)).all()
        return told(connection, found)


@dataclass(frozen=True, slots=True)
class Arriving:
    """An upload. bytes: as announced; work: estimated seconds; since: when it began, seconds since 1970."""

    id: str
    bytes: int | None
    work: float
    since: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is still to be done for a batch. in_line: work in line up to its last job, with others' before it; longest:
    of its jobs that wait or arrive; left: in its running jobs; arriving: its uploads. Seconds of work;
    0.0 and empty where there is none."""

    in_line: float = 0.0
    longest: float = 0.0
    left: float = 0.0
    arriving: tuple[Arriving, ...] = ()


def work_of_batches(database: Database, ids: Sequence[str]) -> dict[str, Work]:
    """By id, for those with active jobs; empty before anything was measured."""
    if not ids:
        return {}
    with database.read() as connection:
        pace = read_pace(connection)
        if pace.job_seconds is None:
            return {}
        heavy = rows.heavy(jobs)
        work = sa.case((heavy, pace.work_sql(jobs)), else_=0.0)
        line = (jobs.c.turn, jobs.c.queued_at, jobs.c.id)
        up_to = sa.func.sum(work).over(order_by=line, rows=(None, 0)).label("up_to")
        waiting = sa.select(jobs.c.batch, work.label("work"), up_to).where(rows.queued).subquery()
        last = sa.select(waiting.c.batch, sa.func.max(waiting.c.up_to), sa.func.max(waiting.c.work))
        in_line = connection.execute(last.where(waiting.c.batch.in_(ids)).group_by(waiting.c.batch)).all()
        running = connection.execute(rows.select_running().where(heavy, jobs.c.batch.in_(ids))).all()
        coming = sa.select(jobs.c.batch, jobs.c.id, jobs.c.source_bytes, jobs.c.model, jobs.c.guessed_seconds)
        coming = coming.add_columns(jobs.c.created_at)
        arriving = connection.execute(coming.where(rows.receiving, jobs.c.batch.in_(ids)).order_by(jobs.c.id)).all()
    found = {batch: Work(up_to, longest) for batch, up_to, longest in in_line}
    for row in running:
        before = found.get(row.batch, Work())
        found[row.batch] = replace(before, left=max(before.left, pace.left(row)))
    for row in arriving:
        before, own = found.get(row.batch, Work()), pace.work(row.model, row.guessed_seconds)
        one = Arriving(row.id, row.source_bytes, own, row.created_at)
        found[row.batch] = replace(before, longest=max(before.longest, own), arriving=(*before.arriving, one))
    return found


def delete_batch_if_empty(database: Database, batch_id: str, *, undoable: bool = False) -> bool:
    """False while it has jobs, or when it is gone. undoable: see `undos`."""
    with database.write() as connection:
        empty = sa.select(batches).where(batches.c.id == batch_id, _empty())
        if undoable and (row := connection.execute(empty).first()):
            undos.keep_batch(connection, row)
        return connection.execute(sa.delete(batches).where(batches.c.id == batch_id, _empty())).rowcount == 1


def forget_empty_batches(database: Database, before: float) -> int:
    """Remove batches without a job that were begun before a time (seconds since 1970). Returns how many."""
    with database.write() as connection:
        return connection.execute(sa.delete(batches).where(batches.c.created_at < before, _empty())).rowcount


def _empty() -> sa.ColumnElement[bool]:
    return ~sa.exists().where(jobs.c.batch == batches.c.id)


def _of(owner: str | None, query: sa.Select[Any]) -> sa.Select[Any]:
    return query if owner is None else query.where(batches.c.submitter == owner)


def _with_jobs(connection: Connection, found: Sequence[Row[Any]]) -> list[Batch]:
    """Batches with what their jobs add up to."""
    ids = [row.id for row in found]
    sums = sa.select(
        jobs.c.batch,
        jobs.c.state,
        sa.func.count().label("jobs"),
        sa.func.sum(jobs.c.progress).label("progress"),
        sa.func.max(jobs.c.finished_at).label("finished_at"),
    )
    by_batch: dict[str, dict[State, Row[Any]]] = {}
    for row in connection.execute(sums.where(jobs.c.batch.in_(ids)).group_by(jobs.c.batch, jobs.c.state)):
        if state := rows.known(State, row.state):
            by_batch.setdefault(row.batch, {})[state] = row
    return [_batch(row, by_batch.get(row.id, {})) for row in found]


def _batch(row: Row[Any], sums: dict[State, Row[Any]]) -> Batch:
    counts = {state: one.jobs for state, one in sums.items()}
    total, active = sum(counts.values()), sum(counts.get(state, 0) for state in ACTIVE)
    running = sums[State.RUNNING].progress if State.RUNNING in sums else 0.0
    ends = [one.finished_at for one in sums.values() if one.finished_at is not None]
    return Batch(
        id=row.id,
        name=row.name,
        submitter=row.submitter,
        created_at=row.created_at,
        counts=counts,
        progress=(total - active + running) / total if total else 0.0,
        finished_at=max(ends) if ends and not active else None,
    )
