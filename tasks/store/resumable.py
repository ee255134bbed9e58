"""Resumable uploads: a receiving job and what is known of the upload besides. How much has come, the file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.db import Database, jobs, uploads
from tasks.jobs import Job, Params
from tasks.store import rows


@dataclass(frozen=True, slots=True)
class Upload:
    """One resumable upload; its id is its job's. length: bytes, None until it is told; metadata: the header, as it
    was sent; submit: queue it once it is complete; verified_to: bytes of the file that count while a part with a
    checksum arrives, None when all do; expires_at: seconds since 1970; submitter: whose it is, None for one that
    ended before that was written down; job: None once the upload has expired or was deleted."""

    id: str
    length: int | None
    metadata: str
    submit: bool
    verified_to: int | None
    expires_at: float
    submitter: str | None
    job: Job | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a resumable upload brings besides its bytes. metadata: the header, as it was sent; submit: whether it is to
    be queued as soon as it is complete; expires_at: seconds since 1970."""

    params: Params
    metadata: str
    submit: bool
    expires_at: float


def add_upload(connection: Connection, upload_id: str, length: int | None, plan: Plan, submitter: str) -> None:
    """Beside its job's row, in the transaction that admits it. length: bytes, None until it is told."""
    values = {"metadata": plan.metadata, "submit": plan.submit, "expires_at": plan.expires_at, "submitter": submitter}
    connection.execute(sa.insert(uploads).values(id=upload_id, length=length, **values))


def find_upload(database: Database, upload_id: str) -> Upload | None:
    """One upload, also one that is over; it is forgotten a while later."""
    with database.read() as connection:
        row = connection.execute(sa.select(uploads).where(uploads.c.id == upload_id)).first()
        if row is None:
            return None
        job = connection.execute(sa.select(jobs).where(jobs.c.id == upload_id)).first()
    return Upload(**row._mapping, job=None if job is None else rows.job(job))


def note_upload(database: Database, upload_id: str, *, at_once: bool = False, **values: Any) -> None:
    """Set length, verified_to or expires_at. at_once: see `Database.write`."""
    with database.write(at_once=at_once) as connection:
        connection.execute(sa.update(uploads).where(uploads.c.id == upload_id).values(**values))


def open_uploads(database: Database) -> dict[str, float]:
    """Uploads that hold a place, with what their rows say of when they end: it changes when bytes come."""
    query = sa.select(jobs.c.id, uploads.c.expires_at).join(uploads, uploads.c.id == jobs.c.id).where(rows.receiving)
    with database.read() as connection:
        return {row.id: row.expires_at for row in connection.execute(query)}


def drop_uploads(database: Database, ids: list[str]) -> list[str]:
    """receiving → gone, for those of these uploads that are no job yet. Returns their ids."""
    if not ids:
        return []
    over = rows.receiving & jobs.c.id.in_(ids)
    with database.write() as connection:
        return list(connection.scalars(sa.delete(jobs).where(over).returning(jobs.c.id)))


def forget_old(database: Database, before: float) -> None:
    """Remove what is known of uploads that expired before a time (seconds since 1970) and hold no place."""
    held = sa.select(jobs.c.id).where(rows.receiving)
    with database.write() as connection:
        connection.execute(sa.delete(uploads).where(uploads.c.expires_at < before, uploads.c.id.not_in(held)))
