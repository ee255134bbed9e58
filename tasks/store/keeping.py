"""How long what finished jobs leave is kept: their recordings may go before they do."""

from __future__ import annotations

import time
from collections.abc import Iterable

import sqlalchemy as sa

from tasks.db import Database, jobs
from tasks.store import undos


def note_media_removed_before(database: Database, before: float, limit: int) -> list[str]:
    """Say of jobs that finished before a time (seconds since 1970) that their recording is gone, so that nobody has
    them tried again; then it may be removed. Returns their ids."""
    old = (
        sa.select(jobs.c.id)
        .where(jobs.c.finished_at.is_not(None), jobs.c.finished_at < before, jobs.c.media_removed_at.is_(None))
        .order_by(jobs.c.finished_at)
        .limit(limit)
    )
    update = sa.update(jobs).where(jobs.c.id.in_(old), jobs.c.finished_at.is_not(None))
    with database.write() as connection:
        return list(connection.scalars(update.values(media_removed_at=time.time()).returning(jobs.c.id)))


def move_ends(database: Database, since: float, until: float, by: float) -> None:
    """The clock was set: jobs that ended in that time (seconds since 1970) did so by seconds later."""
    ended = jobs.c.finished_at.is_not(None) & jobs.c.finished_at.between(since, until)
    with database.write() as connection:
        connection.execute(sa.update(jobs).where(ended).values(finished_at=jobs.c.finished_at + by))


def existing(database: Database, ids: Iterable[str]) -> set[str]:
    """Those of these jobs that there are, or that were deleted and may come back."""
    asked = set(ids)
    with database.read() as connection:
        found = set(connection.scalars(sa.select(jobs.c.id).where(jobs.c.id.in_(asked))))
        return found | (asked & set(undos.kept_ids(connection)))


def without_media(database: Database, ids: Iterable[str]) -> set[str]:
    """Those of these jobs whose recording is to be gone."""
    query = sa.select(jobs.c.id).where(jobs.c.id.in_(list(ids)), jobs.c.media_removed_at.is_not(None))
    with database.read() as connection:
        return set(connection.scalars(query))


def results_of_finished(database: Database, ids: Iterable[str]) -> dict[str, str | None]:
    """The name of the transcript that counts, for those of these jobs that have finished."""
    query = sa.select(jobs.c.id, jobs.c.result).where(jobs.c.id.in_(list(ids)), jobs.c.finished_at.is_not(None))
    with database.read() as connection:
        return {row.id: row.result for row in connection.execute(query)}
