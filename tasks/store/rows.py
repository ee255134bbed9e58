"""From rows to jobs, and the conditions that every query about states shares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Row

from tasks.db import Database, jobs
from tasks.errors import KINDS
from tasks.jobs import Failure, Job, JobKind, Params, Source, Stage, State

Word = TypeVar("Word", bound=StrEnum)
SOURCE_TYPES = ("upload", "url", "job", "sample", "inbox")
_PARAMS = frozenset(field.name for field in fields(Params))

# States in queries are literals: a bound one can't use the partial indexes.
receiving = sa.text("jobs.state = 'receiving' AND jobs.finished_at IS NULL")
queued = sa.text("jobs.state = 'queued' AND jobs.finished_at IS NULL")
running = sa.text("jobs.state = 'running' AND jobs.finished_at IS NULL")
ACTIVE: tuple[Any, ...] = tuple(
    sa.literal_column(f"'{state}'") for state in (State.RECEIVING, State.QUEUED, State.RUNNING)
)
to_download = queued & jobs.c.needs_download
"""Their link is fetched first, in a slot of its own kind; only then they are in line for the engine."""
# Jobs beside the one that a query is about. Made once: each has a copy of every column, 40 KB of garbage in cycles.
own, other, line = jobs.alias("own"), jobs.alias("other"), jobs.alias("line")


_LIGHT: Any = [sa.literal_column(f"'{kind}'") for kind in JobKind if kind.light]
_HEAVY: Any = sa.literal_column(f"'{JobKind.TRANSCRIPTION}'")


def light(table: Any) -> Any:
    """Whether a job needs no model (JobKind.light). One of a kind that this version doesn't know is in neither lane."""
    return table.c.kind.in_(_LIGHT)


def heavy(table: Any) -> Any:
    """Whether a job needs a model."""
    return table.c.kind == _HEAVY


def select_running() -> sa.Select[Any]:
    """Of each running job what its time left is told from. There are few."""
    c = jobs.c
    query = sa.select(c.id, c.model, c.needs_download, c.kind, c.source_seconds, c.guessed_seconds, c.left_seconds)
    return query.add_columns(c.progress, c.resumed, c.elapsed, c.submitter, c.batch).where(running)


def back_in_line(attempts: Any) -> dict[str, Any]:
    """Values of a row that waits again at its old place in line."""
    return dict(
        state=State.QUEUED,
        stage=None,
        progress=0.0,
        resumed=0.0,
        elapsed=0.0,
        left_seconds=None,
        started_at=None,
        token=None,
        worker=None,
        lease_until=None,
        attempts=attempts,
    )


def change_one(database: Database, update: sa.Update) -> Job | None:
    """Run a guarded UPDATE of at most one job; None when its guard did not hold."""
    with database.write() as connection:
        row = connection.execute(update.returning(jobs)).first()
    return None if row is None else job(row)


NEWER = (
    "A newer version of Stenobox wrote this job, and this version can't go on with it. Install that version again, or "
    "delete the job."
)


def job(row: Row[Any], place: Place | None = None, left: float | None = None) -> Job:
    """The job that a row of the jobs table holds. place: in line; left: estimated work in it, None for what its worker
    says. One that this version doesn't understand is shown as failed, with a
    sentence: a row never stops a list."""
    state, error = known(State, row.state), None
    # A queued job keeps the sentence about its last crash for the record; only a failed one shows it as its error.
    if row.error_code is not None and state == State.FAILED:
        kind = KINDS.get(row.error_code)
        error = Failure(row.error_code, row.error_message or NEWER, kind is not None and kind.retryable)
    if state is None or known(JobKind, row.kind) is None:
        state, error = State.FAILED, Failure("internal", NEWER)
    return Job(
        id=row.id,
        kind=known(JobKind, row.kind) or JobKind.TRANSCRIPTION,
        state=state,
        source=Source(
            row.source_type if row.source_type in SOURCE_TYPES else "upload",
            row.source_name,
            row.source_bytes,
            row.source_seconds,
            row.source_sha256,
            row.source_url,
        ),
        params=_params(row.params),
        created_at=row.created_at,
        stage=known(Stage, row.stage),
        progress=row.progress,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempts=row.attempts,
        crashes=row.crashes,
        cancel_requested=row.cancel_requested,
        error=error,
        note=row.note,
        result=row.result,
        media=row.media,
        submitter=row.submitter,
        work_seconds=row.work_seconds,
        media_removed_at=row.media_removed_at,
        needs_download=row.needs_download,
        about=row.about,
        batch=row.batch,
        queue_position=None if place is None else place.position,
        ahead_seconds=None if place is None else place.ahead,
        left_seconds=row.left_seconds if left is None else left,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """In line. position: 1 for the next to start; ahead: estimated seconds of work before it, None if unknown."""

    position: int
    ahead: float | None


def known(words: type[Word], text: str | None) -> Word | None:
    """The member of this name; None for none, and for one that this version doesn't know."""
    try:
        return words(text) if text else None
    except ValueError:
        return None


def _params(stored: dict[str, Any]) -> Params:
    values = {name: value for name, value in stored.items() if name in _PARAMS}
    values["kind"] = known(JobKind, stored.get("kind")) or JobKind.TRANSCRIPTION
    return Params(**values)
