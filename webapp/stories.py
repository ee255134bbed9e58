"""The tries at a job as people read them on its page: when, for how long, where, with how much memory, why it ended.

And how far batches are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tasks import batches
from tasks.actions import Box
from tasks.capacity import Limits
from tasks.jobs import Job, Stage, State
from tasks.store import AttemptRecord, Batch

MOST_TOLD = 8
"""A box that is restarted often puts a long job back as often."""
_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth")


@dataclass(frozen=True, slots=True)
class Told:
    """One try. seconds: how long it took, None while it runs; stage: where it ended, None if it got to its end or the
    sentence says so; peak: bytes of memory; sentence: "" when there is nothing to add."""

    title: str
    started_at: float
    seconds: float | None
    stage: Stage | None
    peak: int | None
    sentence: str


def tell(job: Job, tries: Sequence[AttemptRecord]) -> list[Told]:
    """The last tries, the earliest first. Empty for a job that went well at once: then there is nothing to explain."""
    if not tries or (len(tries) == 1 and tries[0].outcome in (None, State.COMPLETED, State.CANCELED)):
        return []
    return [_told(job, one, after) for one, after in pairwise([*tries, None]) if one][-MOST_TOLD:]


def _told(job: Job, one: AttemptRecord, after: AttemptRecord | None) -> Told:
    title = f"{_ORDINALS[one.number - 1]} try" if one.number <= len(_ORDINALS) else f"Try {one.number}"
    seconds = None if one.ended_at is None else max(0.0, one.ended_at - one.started_at)
    told_where = one.charged or one.outcome in (None, State.COMPLETED)  # a crash's sentence says where
    stage = None if told_where else one.stage
    return Told(title, one.started_at, seconds, stage, one.peak_bytes, _sentence(job, one, after))


def _sentence(job: Job, one: AttemptRecord, after: AttemptRecord | None) -> str:
    if one.outcome is None:
        return "Running now."
    if one.outcome == State.COMPLETED:
        return "It went through."
    if one.outcome == State.FAILED and job.error and (one.sentence or "") in job.error.message:
        return ""  # the page says so above
    return f"{one.sentence or ''} {_next(job, one, after)}".strip()


def _next(job: Job, one: AttemptRecord, after: AttemptRecord | None) -> str:
    if one.outcome != State.QUEUED:
        return ""
    if not one.charged:
        return "It kept its place in line."
    if after is None:
        return "" if job.finished else "It will be tried again, alone."
    less = one.batch and after.batch and after.batch < one.batch
    return f"It was tried again alone{', with less of it at a time' if less else ''}."


def tell_batches(box: Box, found: list[Batch], active: list[Job], limits: Limits) -> list[dict[str, Any]]:
    """Batches as rows show them: `batch`, and `left`, the time until all is done in rough seconds, or None."""
    load = box.load() if any(batch.active for batch in found) else None
    rows = []
    for batch in found:
        left = None if load is None else batches.seconds_left(batch, active, limits, load)
        rows.append({"batch": batch, "left": None if left is None else _roughly(left)})
    return rows


def _roughly(seconds: float) -> int:
    """Rounded up, so that a page doesn't change every second: to 10 s, above a minute to minutes."""
    step = 10 if seconds <= 60 else 60
    return max(step, math.ceil(seconds / step) * step)
