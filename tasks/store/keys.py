"""Submitters' own names for their submissions (Idempotency-Key): which job each stands for.

A key is bound in the transaction that takes a place, so of many at once one wins. It outlives its job: a key whose job
was accepted and deleted must not start another one.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.db import Database, idempotency_keys, jobs

_table = idempotency_keys


class KeyTaken(Exception):
    """The key stands for a submission already."""


def take(connection: Connection, submitter: str, key: str, job_id: str) -> None:
    """Bind the key to a job that is about to be received. Raises KeyTaken."""
    ours = (_table.c.submitter == submitter) & (_table.c.key == key)
    there = sa.exists().where(jobs.c.id == _table.c.job_id)
    connection.execute(sa.delete(_table).where(ours, ~_table.c.accepted, ~there))  # an upload that broke
    if connection.scalar(sa.select(sa.exists().where(ours))):  # nobody else writes in this transaction
        raise KeyTaken
    values = dict(submitter=submitter, key=key, job_id=job_id, created_at=time.time(), accepted=False)
    connection.execute(sa.insert(_table).values(values))


def accept(connection: Connection, job_id: str) -> None:
    """The job is on disk: from now on its key stands for it, also once it was deleted."""
    connection.execute(sa.update(_table).where(_table.c.job_id == job_id).values(accepted=True))


def find_key(database: Database, submitter: str, key: str) -> str | None:
    """The id of the job that a key stands for, whether it is still there or not; None for a key that is free."""
    query = sa.select(_table.c.job_id).where(
        _table.c.submitter == submitter,
        _table.c.key == key,
        _table.c.accepted | sa.exists().where(jobs.c.id == _table.c.job_id),
    )
    with database.read() as connection:
        found: str | None = connection.scalar(query)
        return found


def free_key_if_over(database: Database, submitter: str, key: str) -> None:
    """Forget a key whose job has finished or is gone: what comes under it now is a new submission."""
    active = sa.exists().where(jobs.c.id == _table.c.job_id, jobs.c.finished_at.is_(None))
    ours = (_table.c.submitter == submitter) & (_table.c.key == key)
    with database.write() as connection:
        connection.execute(sa.delete(_table).where(ours, ~active))


def forget_keys(database: Database, before: float) -> int:
    """Free the keys bound before a time (seconds since 1970) whose job is gone. Returns how many."""
    gone = ~sa.exists().where(jobs.c.id == _table.c.job_id)
    with database.write() as connection:
        return connection.execute(sa.delete(_table).where(_table.c.created_at < before, gone)).rowcount
