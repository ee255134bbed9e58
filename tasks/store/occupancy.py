"""What the box holds now: counted and summed up by SQL, whatever the length of the queue."""

from __future__ import annotations

import time
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.capacity import Load
from tasks.db import Database, jobs, samples
from tasks.store import rows
from tasks.store.pace import Pace, read_pace

GUARD_SECONDS = 60.0
"""A sample older than this says nothing about now: its worker is gone."""
HEAD = 64
"""Jobs at the head of the line that are looked at one by one; those behind are summed up."""


def load(database: Database, key: str = "", per_key: int = 0) -> Load:
    """What the box holds now, and how much of it is key's. per_key: the most it may have, 0: no limit."""
    with database.read() as connection:
        return read_load(connection, key, per_key)


def counts(database: Database) -> Load:
    """As `load`, without the times."""
    with database.read() as connection:
        return count(connection)


def count(connection: Connection, key: str = "") -> Load:
    """How many jobs are in which state, and nothing of times: what decides, at the same cost however long the line."""
    of = sa.func.count
    queued = connection.execute(
        sa.select(
            of(sa.case((rows.heavy(jobs) | jobs.c.needs_download, 1))),
            of(sa.case((rows.light(jobs) & ~jobs.c.needs_download, 1))),
            of(sa.case((jobs.c.needs_download, 1))),
        ).where(rows.queued)
    ).one()
    running = connection.execute(
        sa.select(
            of(sa.case((rows.heavy(jobs) & ~jobs.c.needs_download, 1))),
            of(sa.case((rows.light(jobs) & ~jobs.c.needs_download, 1))),
            of(sa.case((jobs.c.needs_download, 1))),
        ).where(rows.running)
    ).one()
    receiving = connection.execute(
        sa.select(of(), sa.func.coalesce(sa.func.sum(jobs.c.source_bytes), 0)).where(rows.receiving)
    ).one()
    return Load(
        receiving=receiving[0],
        announced=receiving[1],
        queued=queued[0],
        running=running[0],
        light=queued[1] + running[1],
        to_download=queued[2],
        downloading=running[2],
        of_key=_of_key(connection, key) if key else 0,
        guard=_read_guard(connection),
    )


def _of_key(connection: Connection, key: str) -> int:
    own = sa.select(sa.func.count()).where(jobs.c.submitter == key, jobs.c.finished_at.is_(None))
    return connection.scalar(own.where(jobs.c.state.in_(rows.ACTIVE))) or 0


def read_load(connection: Connection, key: str = "", per_key: int = 0) -> Load:
    """As `load`, on a connection. Of the line the first HEAD are fetched; SQL sums up the rest."""
    counts, pace = count(connection, key), read_pace(connection)
    running = connection.execute(rows.select_running().where(rows.heavy(jobs) | jobs.c.needs_download)).all()
    lane = rows.queued & (rows.heavy(jobs) | jobs.c.needs_download)
    work = pace.work_sql(jobs)
    order = (jobs.c.turn, jobs.c.queued_at, jobs.c.id)
    head = list(connection.scalars(sa.select(work).where(lane).order_by(*order).limit(HEAD))) if counts.queued else []
    total = connection.scalar(sa.select(sa.func.sum(work)).where(lane)) if counts.queued > HEAD else sum(head)
    fetched = [pace.work(row.model, None) for row in running if row.needs_download]
    return replace(
        counts,
        job_seconds=pace.job_seconds,
        remaining=tuple(pace.left(row) for row in running if not row.needs_download),
        waiting=tuple(head),
        behind=counts.queued - len(head) + len(fetched),
        behind_seconds=max(0.0, (total or 0.0) - sum(head)) + sum(fetched),
        slack=pace.slack,
        key_left=min((pace.left(row) for row in running if row.submitter == key), default=None) if key else None,
        key_ahead=_key_ahead(connection, pace, key) if key and 0 < per_key <= counts.of_key else None,
    )


def _key_ahead(connection: Connection, pace: Pace, key: str) -> float | None:
    """Work in line up to the first job of a key, with it; None when it has none in line."""
    order = (jobs.c.turn, jobs.c.queued_at, jobs.c.id)
    first = connection.execute(
        sa.select(*order).where(rows.queued, jobs.c.submitter == key).order_by(*order).limit(1)
    ).first()
    if first is None:
        return None
    until = rows.queued & (sa.tuple_(*order) <= sa.tuple_(*map(sa.literal, first)))
    return connection.scalar(sa.select(sa.func.sum(pace.work_sql(jobs))).where(until, rows.heavy(jobs)))


def guard(database: Database) -> str:
    """What the pressure guard does now: its word in the last sample, "calm" without a recent one."""
    with database.read() as connection:
        return _read_guard(connection)


def _read_guard(connection: Connection) -> str:
    now = time.time()
    found: str | None = connection.scalar(
        sa.select(samples.c.guard)
        .where(samples.c.at.between(now - GUARD_SECONDS, now + GUARD_SECONDS))  # a clock may have been set back
        .order_by(samples.c.at.desc())
        .limit(1)
    )
    return found or "calm"


def announced(database: Database) -> list[tuple[str, int]]:
    """Uploads under way that said how many bytes they would bring: ids and bytes."""
    query = sa.select(jobs.c.id, jobs.c.source_bytes).where(rows.receiving, jobs.c.source_bytes.is_not(None))
    with database.read() as connection:
        return [(row.id, row.source_bytes) for row in connection.execute(query).all()]
