"""Limits and load, and the doors into the queue: every one decides and writes in one transaction."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks import lengths
from tasks.capacity import Limits, Request, changed, decide
from tasks.db import Database, jobs, settings
from tasks.db import changes as changes_table
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source, State, new_id
from tasks.store import keyring, keys, rows, undos
from tasks.store.occupancy import count, read_load
from tasks.store.resumable import Plan, add_upload


def limits(database: Database, first: Limits) -> Limits:
    """The limits in force: what a person changed, else `first`."""
    with database.read() as connection:
        return read_limits(connection, first)


def change_limits(database: Database, first: Limits, changes: dict[str, Any], by: str) -> Limits:
    """Change some limits; in force for the next decision, and recorded with who did it.

    changes: fields of Limits; a None takes the change back, so that the first value counts again.
    Returns the limits then in force. Raises StenoboxError unknown_field or invalid_value.
    """
    with database.write() as connection:
        before = read_limits(connection, first)
        values = changed(before, {name: value for name, value in changes.items() if value is not None})
        for name in [name for name, value in changes.items() if value is None and name in Limits.__struct_fields__]:
            values[name] = None
        now = time.time()
        for name, value in values.items():
            connection.execute(sa.delete(settings).where(settings.c.name == name))
            if value is not None:
                connection.execute(sa.insert(settings).values(name=name, value=value, changed_at=now))
        after = read_limits(connection, first)
        for name in values:
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                connection.execute(sa.insert(changes_table).values(at=now, by=by, name=name, old=old, new=new))
    return after


def choices(database: Database) -> dict[str, Any]:
    """What a person has changed, by name; the rest has its first value. slots 0: as the arithmetic recommends."""
    with database.read() as connection:
        return {row.name: row.value for row in connection.execute(sa.select(settings.c.name, settings.c.value))}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a setting: when (seconds since 1970), by whom, which, from what to what."""

    at: float
    by: str
    name: str
    old: Any
    new: Any


def list_changes(database: Database, limit: int) -> list[Change]:
    """Changes of settings, newest first."""
    table = changes_table.c
    query = sa.select(table.at, table.by, table.name, table.old, table.new).order_by(table.id.desc()).limit(limit)
    with database.read() as connection:
        return [Change(*row) for row in connection.execute(query)]


def read_limits(connection: Connection, first: Limits, key: str = "") -> Limits:
    """As `limits`, on a connection; for a key with its own number of active jobs, if it has one."""
    known = Limits.__struct_fields__  # another version may have left others
    query = sa.select(settings.c.name, settings.c.value)
    changed_rows = {row.name: row.value for row in connection.execute(query) if row.name in known}
    if changed_rows.get("slots") == 0:  # back to what the arithmetic recommends
        del changed_rows["slots"]
    if key and (most := keyring.read_max_active(connection, key)) is not None:
        changed_rows["per_key"] = most
    return msgspec.structs.replace(first, **changed_rows)


def decide_here(connection: Connection, first: Limits, submitter: str, request: Request) -> StenoboxError | None:
    """`decide` in the transaction that will insert. Times are read only for a refusal: the lock is held for counts."""
    limits = read_limits(connection, first, submitter)
    if decide(limits, count(connection, submitter), request) is None:
        return None
    return decide(limits, read_load(connection, submitter, limits.per_key), request)


def admit(
    database: Database,
    first: Limits,
    request: Request,
    source: Source,
    receiver: str | None,
    submitter: str = "",
    key: str = "",
    plan: Plan | None = None,
) -> str:
    """Take a place for a job whose bytes are about to arrive; the decision and the row are one transaction.

    receiver: the web process that receives it, None with a plan: it outlives processes; submitter: whose it is, for
    fairness and limits; key: the submitter's own name for this submission; plan: of a resumable upload. Returns the new
    job's id. Raises the refusal, and before it KeyTaken: what was accepted once is not refused because the box is full
    now.
    """
    job_id = new_id()
    with database.write() as connection:
        if key:
            keys.take(connection, submitter, key, job_id)
        if refusal := decide_here(connection, first, submitter, request):
            raise refusal
        connection.execute(
            sa.insert(jobs).values(
                id=job_id,
                kind="transcription",
                state=State.RECEIVING,
                created_at=time.time(),
                receiver=receiver,
                submitter=submitter,
                source_type=source.type,
                source_name=source.name,
                source_bytes=source.bytes,
                params=asdict(plan.params) if plan else {},
                model=plan.params.model if plan else "",
                guessed_seconds=lengths.guess(source.name, source.bytes),
            )
        )
        if plan is not None:
            add_upload(connection, job_id, source.bytes, plan, submitter)
    return job_id


def queue_if_receiving(database: Database, job_id: str, source: Source, params: Params) -> Job | None:
    """receiving → queued: all bytes are on disk. None when the job was deleted meanwhile."""
    with database.write() as connection:
        row = connection.execute(line_up(job_id, source, params).returning(jobs)).first()
        if row is not None:
            keys.accept(connection, job_id)
    return None if row is None else rows.job(row)


def line_up(job_id: str, source: Source, params: Params) -> sa.Update:
    """receiving → queued at the end of the line."""
    return (
        sa.update(jobs)
        .where(jobs.c.id == job_id, rows.receiving)
        .values(
            state=State.QUEUED,
            queued_at=_end_of_line(),
            turn=_turn(job_id),
            receiver=None,
            source_name=source.name,
            source_bytes=source.bytes,
            source_sha256=source.sha256,
            params=asdict(params),
            kind=params.kind,
            model=params.model,
            guessed_seconds=source.seconds or lengths.guess(source.name, source.bytes),
        )
    )


def drop_if_receiving(database: Database, job_id: str) -> None:
    """The upload broke: give its place back."""
    with database.write() as connection:
        connection.execute(sa.delete(jobs).where(jobs.c.id == job_id, rows.receiving))


def receiving_of_others(database: Database, receiver: str) -> list[str]:
    """Ids of what `drop_receiving_of_others` would remove."""
    with database.read() as connection:
        return list(connection.scalars(sa.select(jobs.c.id).where(rows.receiving, jobs.c.receiver != receiver)))


def drop_receiving_of_others(database: Database, receiver: str) -> list[str]:
    """Remove uploads of web processes that are gone (there is only one at a time). Returns the ids.

    Resumable ones are nobody's (their receiver is NULL, which no comparison finds) and stay.
    """
    with database.write() as connection:
        gone = sa.delete(jobs).where(rows.receiving, jobs.c.receiver != receiver).returning(jobs.c.id)
        return list(connection.scalars(gone))


def retry(database: Database, first: Limits, job_id: str, submitter: str = "") -> Job | None:
    """failed or canceled → queued at the end of the line, if there is room. Raises the refusal.

    submitter: whose number of active jobs counts. None unless the job is failed or canceled and its recording is here.
    """
    with database.write() as connection:
        refusal = decide_here(connection, first, submitter, Request())
        row = connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state.in_((State.FAILED, State.CANCELED)))
            .where(jobs.c.media_removed_at.is_(None))
            .values(
                queued_at=_end_of_line(),
                turn=_turn(job_id),
                work_seconds=None,
                finished_at=None,
                crashes=0,
                cancel_requested=False,
                error_code=None,
                error_message=None,
                note=None,
                **rows.back_in_line(jobs.c.attempts),
            )
            .returning(jobs)
        ).first()
        if row is not None and refusal is not None:
            raise refusal  # and nothing is written
        undos.forget(connection, [job_id])
    return None if row is None else rows.job(row)


def _end_of_line() -> Any:
    """Now; when the clock was set back, a moment after the last one in line, whom nobody may overtake."""
    line = rows.line
    last = sa.select(sa.func.max(line.c.queued_at)).where(
        line.c.finished_at.is_(None), line.c.state == sa.literal_column("'queued'")
    )
    now, last_at = time.time(), last.scalar_subquery()
    return sa.case((last_at > now, last_at + 0.0001), else_=now)


def _turn(job_id: str) -> Any:
    """Submitters are served in turn: each one's next job goes into the round after that of its last active one, at
    the earliest into the round that is being served."""
    own, line = rows.own, rows.line
    submitter = sa.select(jobs.c.submitter).where(jobs.c.id == job_id).scalar_subquery()

    def last(state: State) -> Any:  # each by its own piece of the index: uploads have no turn yet
        query = sa.select(sa.func.max(own.c.turn)).where(own.c.finished_at.is_(None), own.c.submitter == submitter)
        query = query.where(own.c.state == sa.literal_column(f"'{state}'"), own.c.id != job_id)
        return sa.func.coalesce(query.scalar_subquery() + 1, 0)

    served = sa.select(sa.func.min(line.c.turn)).where(
        line.c.finished_at.is_(None), line.c.state == sa.literal_column("'queued'")
    )
    waits, runs = last(State.QUEUED), last(State.RUNNING)
    own_next = sa.case((waits > runs, waits), else_=runs)
    now_served = sa.func.coalesce(served.scalar_subquery(), 0)
    return sa.case((own_next > now_served, own_next), else_=now_served)
