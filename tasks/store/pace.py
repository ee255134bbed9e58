"""How fast this box has been, from its last completed jobs: what times are promised by."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.capacity import FIRST_GUESS_SECONDS
from tasks.db import jobs
from tasks.store import rows

OWN_PACE_SECONDS = 60.0
"""A job that runs for longer than this is timed by its own pace."""
RECENT = 20
"""Completed jobs whose mean time predicts the next one's."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast this box has been. job_seconds: mean work of the last completed jobs, None before the first;
    factors: work / length of the recording, by model; slack: times the mean that nine of ten took at most."""

    job_seconds: float | None
    factors: dict[str, float]
    slack: float

    def work(self, row: Any) -> float:
        """Estimated seconds of work in a job: from its length where that is known."""
        factor = self.factors.get((row.params or {}).get("model", ""))
        if row.source_seconds and factor:
            return float(row.source_seconds * factor)
        return self.job_seconds or FIRST_GUESS_SECONDS

    def left(self, row: Any) -> float:
        """Estimated seconds left in a running job: by its own pace once it is long under way, so that waiting for the
        model to load counts little."""
        own = row.progress - row.resumed  # what earlier attempts did says nothing of this one's pace
        if own > 0.2 and row.elapsed > OWN_PACE_SECONDS:
            return float(row.elapsed * (1 - row.progress) / own)
        return max(1.0, float(self.work(row) * (1 - row.progress)))


def read_pace(connection: Connection) -> Pace:
    """From the last completed jobs. Work is counted without waiting for a model to load, where that was measured."""
    work = sa.func.coalesce(jobs.c.work_seconds, jobs.c.finished_at - jobs.c.started_at)
    recent = connection.execute(
        sa.select(work, jobs.c.source_seconds, jobs.c.params)
        .where(
            sa.text("jobs.state = 'completed' AND jobs.finished_at IS NOT NULL"),
            jobs.c.started_at.is_not(None),
            ~rows.light(jobs),
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(RECENT)
    ).all()
    factors: dict[str, list[float]] = {}
    for seconds, length, params in recent:
        if length and seconds > 0:
            factors.setdefault(params["model"], []).append(seconds / length)
    times = sorted(max(0.0, seconds) for seconds, *_ in recent)  # negative when the clock was set back meanwhile
    mean = statistics.fmean(times) if times else None
    return Pace(
        mean,
        {model: statistics.median(values) for model, values in factors.items()},
        max(1.0, times[int(0.9 * len(times))] / mean) if mean else 1.0,
    )
