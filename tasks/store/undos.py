"""What a person canceled or deleted and may take back: a deleted row leaves its table at once, so that it is gone for
every query, and is kept here as it was."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.db import Database, batches, jobs, metadata
from tasks.jobs import Job, State
from tasks.store import history, rows
from tasks.store.history import Cause

undos = sa.Table(
    "undos",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("batch", sa.String(32)),
    sa.Column("submitter", sa.String(64), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("row", sa.JSON(none_as_null=True)),
)
_undo = undos.c
_single = _undo.batch.is_(None) | (_undo.batch == _undo.id)
"""What was acted on by itself: a job, or a batch, but not the jobs that went with it."""

UNDONE = Cause("canceled", "A person stopped it, and took that back.")


class Action(StrEnum):
    CANCELED = "canceled"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Undo:
    """What can be taken back. id: of the job, or of the batch, which has `jobs` of them; name: of what it was."""

    id: str
    action: Action
    name: str
    jobs: int | None


def note_canceled(connection: Connection, row: Any, batch: str | None) -> None:
    """A person canceled this job. batch: with the whole of that one."""
    _note(connection, row.id, Action.CANCELED, batch, row.submitter, row.source_name)


def keep_deleted(connection: Connection, job_id: str, batch: str | None) -> bool:
    """Keep a job that is about to be deleted, with its tries. False for one that is still arriving: there is nothing
    to go back to."""
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id, jobs.c.state != State.RECEIVING)).first()
    if row is None:
        return False
    history.end(connection, (jobs.c.id == job_id) & rows.running, State.QUEUED, time.time(), UNDONE)
    _note(connection, job_id, Action.DELETED, batch, row.submitter, row.source_name, dict(row._mapping))
    return True


def note_batch(database: Database, batch_id: str, action: Action) -> None:
    """All jobs of this batch are about to be canceled or deleted, as one thing."""
    with database.write() as connection:
        row = connection.execute(sa.select(batches).where(batches.c.id == batch_id)).first()
        if row is not None:
            _note(connection, batch_id, action, batch_id, row.submitter, row.name)


def keep_batch(connection: Connection, row: Any) -> None:
    """Keep a batch that is about to be deleted."""
    _note(connection, row.id, Action.DELETED, row.id, row.submitter, row.name, dict(row._mapping))


def _note(
    connection: Connection,
    what: str,
    action: Action,
    batch: str | None,
    submitter: str,
    name: str,
    row: dict[str, Any] | None = None,
) -> None:
    forget(connection, [what])
    values = dict(id=what, action=action, batch=batch, submitter=submitter, name=name, at=time.time(), row=row)
    connection.execute(sa.insert(undos).values(values))


def forget(connection: Connection, ids: Iterable[str]) -> None:
    """These can't be taken back any more."""
    connection.execute(sa.delete(undos).where(_undo.id.in_(list(ids))))


def _members(connection: Connection, batch_id: str) -> int:
    query = sa.select(sa.func.count()).select_from(undos).where(_undo.batch == batch_id, _undo.id != batch_id)
    return connection.scalar(query) or 0


def list_undos(database: Database, owner: str | None = None) -> list[Undo]:
    """What can be taken back, of one owner or of all, the newest first."""
    query = sa.select(_undo.id, _undo.action, _undo.name, _undo.batch).where(_single).order_by(_undo.at.desc())
    if owner is not None:
        query = query.where(_undo.submitter == owner)
    with database.read() as connection:
        found = [
            Undo(row.id, Action(row.action), row.name, _members(connection, row.id) if row.batch else None)
            for row in connection.execute(query).all()
        ]
    return [one for one in found if one.jobs != 0 or one.action == Action.DELETED]  # nothing of it was under way


class Mark(NamedTuple):
    """One thing that is kept. at: tells a second time from the first; batch: what it is let go with."""

    id: str
    at: float
    batch: str | None


def undo_marks(database: Database) -> list[Mark]:
    """Of everything that is kept."""
    with database.read() as connection:
        return [Mark(*row) for row in connection.execute(sa.select(_undo.id, _undo.at, _undo.batch))]


def kept_ids(connection: Connection) -> Any:
    """Ids of deleted jobs that may come back: what they left is not yet nobody's."""
    return connection.scalars(sa.select(_undo.id).where(_undo.action == Action.DELETED))


def can_be_undone(database: Database, job_id: str) -> bool:
    """Whether what was done to this job may still be taken back."""
    with database.read() as connection:
        return connection.scalar(sa.select(_undo.id).where(_undo.id == job_id)) is not None


def let_go(database: Database, marks: Iterable[Mark]) -> list[tuple[str, Action]]:
    """Nobody can take these back any more. Returns the ids of jobs and what was done to them: now what was kept for
    them may go, of deleted ones all files, of canceled ones what was transcribed."""
    over = sa.delete(undos).where(_undo.id == sa.bindparam("what"), _undo.at == sa.bindparam("mark"))
    gone = []
    with database.write() as connection:
        for mark in marks:
            row = connection.execute(over.returning(_undo.action), {"what": mark.id, "mark": mark.at}).first()
            if row is not None and mark.id != mark.batch:
                gone.append((mark.id, Action(row.action)))
        history.forget(connection, [job_id for job_id, action in gone if action == Action.DELETED])
    return gone


def undo(database: Database, what: str, owner: str | None = None) -> list[Job] | None:
    """Put back what was canceled or deleted: a job, or a batch with all that went with it. What waited or ran is in
    line again at its old place, whatever the limits say: it had been let in. Returns the jobs; None when there is
    nothing to take back."""
    query = sa.select(undos).where(sa.or_(_undo.id == what, _undo.batch == what))
    if owner is not None:
        query = query.where(_undo.submitter == owner)
    with database.write() as connection:
        found = connection.execute(query).all()
        if not any(row.id == what for row in found):
            return None
        renamed = {row.id: _put_batch_back(connection, row.row) for row in found if row.id == row.batch and row.row}
        changed = []
        for row in found:
            if row.id == row.batch:
                continue
            if row.action == Action.DELETED:
                changed.append(_put_back(connection, row.row, renamed))
            else:
                changed += _take_cancel_back(connection, row.id)
        forget(connection, [row.id for row in found])
    return [rows.job(row) for row in changed]


def _put_batch_back(connection: Connection, values: dict[str, Any]) -> str:
    """The id of the batch that its jobs go back into: of another one if somebody has begun one of that name."""
    same = sa.select(batches.c.id).where(batches.c.submitter == values["submitter"], batches.c.name == values["name"])
    if (other := connection.scalar(same)) is None:
        connection.execute(sa.insert(batches).values(values))
    return other or str(values["id"])


def _put_back(connection: Connection, kept: dict[str, Any], renamed: dict[str, str]) -> Any:
    values = {name: value for name, value in kept.items() if name in jobs.c}
    batch = renamed.get(values["batch"], values["batch"])
    known = sa.select(batches.c.id).where(batches.c.id == batch)
    values["batch"] = connection.scalar(known) if batch else None  # it may have been deleted by itself meanwhile
    if values["state"] == State.RUNNING and values["cancel_requested"]:
        values |= rows.back_in_line(values["attempts"]) | dict(state=State.CANCELED, finished_at=time.time())
    elif values["state"] == State.RUNNING:
        values |= rows.back_in_line(values["attempts"] - 1)
    return connection.execute(sa.insert(jobs).values(values).returning(jobs)).one()


def _take_cancel_back(connection: Connection, job_id: str) -> list[Any]:
    """A job that was still being stopped goes on, or is put back by whoever stops it."""
    mine = jobs.c.id == job_id
    going_on = sa.update(jobs).where(mine, rows.running).values(cancel_requested=False).returning(jobs)
    attempts = sa.case((jobs.c.started_at.is_not(None), jobs.c.attempts - 1), else_=jobs.c.attempts)
    back = dict(finished_at=None, cancel_requested=False, **rows.back_in_line(attempts))
    stopped = mine & (jobs.c.state == State.CANCELED) & jobs.c.media_removed_at.is_(None)
    in_line = sa.update(jobs).where(stopped).values(back).returning(jobs)
    return [*connection.execute(going_on), *connection.execute(in_line)]
