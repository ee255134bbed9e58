"""How fast this box has been, from its last completed jobs: what times are promised by."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks import costs
from tasks.capacity import FIRST_GUESS_SECONDS
from tasks.db import jobs
from tasks.store import rows

OWN_PACE_SECONDS = 60.0
"""A job that runs for longer than this is timed by its own pace."""
RECENT = 20
"""Completed jobs that the next ones' times are told from."""
LEAST_SECONDS = 1.0
"""No job is over sooner: processes start, files are written."""
_SPREAD = 1.5
"""Lengths that differ less tell nothing of what a job takes whatever its length."""
_LEAST_SCALE = 0.25
"""A smaller model is not faster without end: decoding, finding speech and aligning words stay."""


@dataclass(frozen=True, slots=True)
class Line:
    """Work by length, in seconds: `always` for any job, and `each` second of sound; beyond `longest`, the longest that
    was seen, in proportion."""

    always: float
    each: float
    longest: float

    def cost(self, length: float) -> float:
        if length <= self.longest:
            return self.always + self.each * length
        return length * (self.always / self.longest + self.each)

    def work(self, length: float) -> float:
        """`cost` of a whole job."""
        return max(LEAST_SECONDS, self.cost(length))

    def sql(self, length: Any) -> Any:
        """The same in SQL."""
        beyond = length * (self.always / self.longest + self.each)
        work = sa.case((length <= self.longest, self.always + self.each * length), else_=beyond)
        return sa.case((work > LEAST_SECONDS, work), else_=LEAST_SECONDS)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast this box has been. job_seconds: mean work of the last completed jobs, None before the first; lines: work
    by length, by model; slack: times the mean that nine of ten took at most."""

    job_seconds: float | None
    lines: Mapping[str, Line] = field(default_factory=dict)
    slack: float = 1.0

    def work(self, model: str, length: float | None) -> float:
        """Estimated seconds of work in a job: from its length where that is known."""
        if length is not None and (line := self.lines.get(model)):
            return line.work(length)
        return self.job_seconds or FIRST_GUESS_SECONDS

    def work_sql(self, table: Any) -> Any:
        """`work` of each row, as an expression that sums up a queue without fetching it."""
        mean = sa.literal(self.job_seconds or FIRST_GUESS_SECONDS)
        length = sa.func.coalesce(table.c.source_seconds, table.c.guessed_seconds)
        if not self.lines:
            return mean
        known = sa.case(*((table.c.model == model, line.sql(length)) for model, line in self.lines.items()), else_=mean)
        return sa.case((length.is_(None), mean), else_=known)

    def left(self, row: Any) -> float:
        """Estimated seconds left in a running job: what its worker says; else by its own pace once it is long under
        way, so that waiting for the model to load counts little."""
        if row.left_seconds is not None:
            return float(row.left_seconds)
        own = row.progress - row.resumed  # what earlier attempts did says nothing of this one's pace
        length = row.guessed_seconds if row.source_seconds is None else row.source_seconds
        if own > 0.2 and row.elapsed > OWN_PACE_SECONDS:
            # The bar gives each stage a fixed part; where jobs of this model have shown that the rest takes longer
            # (word times in some languages take three times as long as the words), that counts.
            known = length is not None and row.model in self.lines
            expected = self.work(row.model, length) * (1 - row.resumed) - row.elapsed if known else 0.0
            return float(max(row.elapsed * (1 - row.progress) / own, expected))
        return max(LEAST_SECONDS, self.work(row.model, length) * float(1 - row.progress))


def read_pace(connection: Connection) -> Pace:
    """From the last completed jobs. Work is counted without waiting for a model to load, where that was measured."""
    work = sa.func.coalesce(jobs.c.work_seconds, jobs.c.finished_at - jobs.c.started_at)
    recent = connection.execute(
        sa.select(work, jobs.c.source_seconds, jobs.c.model)
        .where(
            sa.text("jobs.state = 'completed' AND jobs.finished_at IS NOT NULL"),
            jobs.c.started_at.is_not(None),
            rows.heavy(jobs),
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(RECENT)
    ).all()
    points: dict[str, list[tuple[float, float]]] = {}
    for seconds, length, model in recent:
        if length and seconds > 0:
            points.setdefault(model, []).append((length, seconds))
    times = sorted(max(0.0, seconds) for seconds, *_ in recent)  # negative when the clock was set back meanwhile
    mean = statistics.fmean(times) if times else None
    return Pace(
        mean,
        _with_relatives({model: fit(found) for model, found in points.items()}),
        max(1.0, times[int(0.9 * len(times))] / mean) if mean else 1.0,
    )


def fit(points: Iterable[tuple[float, float]]) -> Line:
    """Work by length from (length, work) of some jobs: the line that is least wrong in proportion."""
    found = list(points)
    longest = max(length for length, _ in found)
    each = statistics.median(work / length for length, work in found)
    if longest < _SPREAD * min(length for length, _ in found):
        return Line(0.0, each, longest)
    # Least squares of always/work + each × length/work = 1.
    ones, lengths = [1 / work for _, work in found], [length / work for length, work in found]
    aa, bb = sum(x * x for x in ones), sum(y * y for y in lengths)
    ab = sum(x * y for x, y in zip(ones, lengths, strict=True))
    a, b = sum(ones), sum(lengths)
    whole = aa * bb - ab * ab
    if whole <= 1e-12 * aa * bb:
        return Line(0.0, each, longest)
    always, slope = (a * bb - b * ab) / whole, (aa * b - ab * a) / whole
    if always < 0 or slope < 0:
        return Line(0.0, each, longest)
    return Line(always, slope, longest)


def _with_relatives(known: dict[str, Line]) -> dict[str, Line]:
    """A model that has not run here is taken to be as much slower than one that has as it is larger."""
    if not known:
        return {}
    name = max(known, key=costs.size)
    line, size = known[name], costs.size(name)
    others = {other: max(_LEAST_SCALE, costs.size(other) / size) for other in costs.CATALOGUE if other not in known}
    return known | {
        other: Line(line.always * scale, line.each * scale, line.longest) for other, scale in others.items()
    }
