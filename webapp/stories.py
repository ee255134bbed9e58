"""The tries at a job as people read them on its page: when, for how long, where, with how much memory, why it ended.

And how far batches are, and when jobs start and end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tasks import batches, capacity, store
from tasks.actions import Box
from tasks.capacity import Limits, Load
from tasks.jobs import Job, Stage, State
from tasks.store import AttemptRecord, Batch
from tasks.store.history import LOST

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


def in_short(job: Job, tries: Sequence[AttemptRecord]) -> str:
    """One line instead of the story, where a person has nothing to do about it: the job didn't fail, and no try ended
    by a crash. "" otherwise."""
    early = [one for one in tries if one.outcome not in (None, State.COMPLETED)]
    if not early or job.state in (State.FAILED, State.CANCELED) or any(one.charged for one in tries):
        return ""
    counted = Counter(_WHAT.get(one.cause or "", "it ended early") for one in early)
    what = " and ".join(f"{words} {_times(count)}" for words, count in counted.items())
    if job.state == State.COMPLETED:
        return f"It took {len(tries)} tries: {what}." if len(tries) > 1 else ""
    return f"This is try {len(tries)}: {what}." if job.state == State.RUNNING else f"It goes on in a moment: {what}."


_WHAT = {
    LOST: "Stenobox was restarted",
    store.INTERRUPTED.code: "Stenobox was restarted",
    "canceled": "it was stopped by hand",
    "memory_pressure": "memory was short",
    "engine_ended": "another recording broke the engine",
    "disk_full": "the disk was full",
    "storage_failing": "the disk took no files",
}


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


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


def tell_batches(box: Box, found: list[Batch], limits: Limits) -> list[dict[str, Any]]:
    """Batches as rows show them: `batch`, and `left`, the time until all is done in rough seconds, or None."""
    left = batches.seconds_left(box, found, limits, box.load()) if any(batch.active for batch in found) else {}
    return [{"batch": batch, "left": roughly(left.get(batch.id))} for batch in found]


def tell_times(box: Box, jobs: Iterable[Job], limits: Limits) -> dict[str, Times]:
    """When each of these jobs starts and is done, by id, in rough seconds, for those that wait or run."""
    waiting = [job for job in jobs if job.queue_position is not None or job.left_seconds is not None]
    load = box.load() if any(job.queue_position for job in waiting) else Load()
    found = {}
    for job in waiting:
        starts, ends = capacity.times(limits, load, job)
        found[job.id] = Times(roughly(starts), roughly(ends))
    return found


@dataclass(frozen=True, slots=True)
class Times:
    """Rough seconds from now, None where nobody can tell or it is over."""

    starts: int | None
    ends: int | None


def roughly(seconds: float | None) -> int | None:
    """Rounded up, so that a page doesn't change every second and promises no more than is known: to 10 s, above a
    minute to minutes, above ten to five, above an hour to quarters."""
    if seconds is None:
        return None
    step = next((step for most, step in ((60, 10), (600, 60), (3600, 300)) if seconds <= most), 900)
    return max(step, math.ceil(seconds / step) * step)
