"""What jobs have cost, and how the machine has fared: records that estimates and plots rest on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from tasks.costs import RECENT, Kind, Record
from tasks.db import Database, measurements, samples
from tasks.store.pace import Line, fit

KEPT_MEASUREMENTS = 1000
DAY = 86_400.0
_STAGED = 200
"""Measured jobs among which the last of each model and language are looked for."""

_Points = list[tuple[float, float]]
"""Length of a recording and seconds that a stage took, newest first."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment. memory_*, swapped: bytes; stalled, cpu: shares 0..1; response_seconds: of the web
    process, None when it did not answer; guard: what the pressure guard did."""

    at: float
    memory_used: int
    memory_limit: int
    swapped: int
    stalled: float | None
    cpu: float
    response_seconds: float | None
    oom_kills: int
    running: int
    queued: int
    guard: str


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds that the stages of a job took. align: None where words got no times."""

    language: str | None = None
    decode: float | None = None
    recognize: float | None = None
    align: float | None = None


UNTIMED = StageTimes()


@dataclass(frozen=True, slots=True)
class StageCosts:
    """Seconds that stages take here, by the length of the recording; None before any was seen. align: by language, for
    each has its aligner."""

    decode: Line | None = None
    recognize: Line | None = None
    align: Mapping[str, Line] = field(default_factory=dict)


def add_record(
    database: Database,
    record: Record,
    *,
    audio_seconds: float,
    work_seconds: float,
    beside: int,
    stages: StageTimes = UNTIMED,
) -> None:
    """Keep what a finished job needed. beside: jobs that ran at the same time."""
    values = asdict(record.kind) | {name: value for name, value in asdict(record).items() if name != "kind"}
    values |= dict(
        language=stages.language,
        decode_seconds=stages.decode,
        recognize_seconds=stages.recognize,
        align_seconds=stages.align,
    )
    with database.write() as connection:
        connection.execute(
            sa.insert(measurements).values(
                at=time.time(), audio_seconds=audio_seconds, work_seconds=work_seconds, beside=beside, **values
            )
        )
        newest = sa.select(sa.func.max(measurements.c.id)).scalar_subquery()
        connection.execute(sa.delete(measurements).where(measurements.c.id <= newest - KEPT_MEASUREMENTS))


def records(database: Database, model: str) -> list[Record]:
    """What jobs with this model needed here, newest first."""
    m = measurements.c
    query = sa.select(m.compute_type, m.windows, m.aligned, m.base, m.load, m.job, m.gpu_load, m.gpu_job)
    query = query.where(m.model == model).order_by(m.id.desc()).limit(200)
    with database.read() as connection:
        return [
            Record(Kind(model, row.compute_type, row.windows, row.aligned), *row[3:])
            for row in connection.execute(query)
        ]


def stage_costs(database: Database, model: str, compute_type: str) -> StageCosts:
    """From the last jobs on the device that takes such numbers. Recognition is told by those with this model, decoding
    and word times by those with any, but for the demo's toys."""
    m = measurements.c
    demo = m.model == "demo"
    columns = (m.model, m.audio_seconds, m.language, m.decode_seconds, m.recognize_seconds, m.align_seconds)
    query = sa.select(*columns).where(
        m.compute_type == compute_type, demo if model == "demo" else ~demo, m.audio_seconds > 0, m.decode_seconds >= 0
    )
    with database.read() as connection:
        found = connection.execute(query.order_by(m.id.desc()).limit(_STAGED)).all()
    decode: _Points = [(row.audio_seconds, row.decode_seconds) for row in found if row.decode_seconds > 0]
    recognize: _Points = [
        (row.audio_seconds, row.recognize_seconds) for row in found if row.model == model and row.recognize_seconds
    ]
    align: dict[str, _Points] = {}
    for row in found:
        if row.language and row.align_seconds:
            align.setdefault(row.language, []).append((row.audio_seconds, row.align_seconds))
    return StageCosts(
        _line(decode), _line(recognize), {language: fit(points[:RECENT]) for language, points in align.items()}
    )


def _line(points: _Points) -> Line | None:
    """points: newest first."""
    return fit(points[:RECENT]) if points else None


def factor(database: Database, model: str, compute_type: str) -> float | None:
    """This box's real-time factor with a model on the device that takes such numbers: the median of the last jobs."""
    m = measurements.c
    query = sa.select(m.work_seconds / m.audio_seconds).where(m.model == model, m.compute_type == compute_type)
    with database.read() as connection:
        rows = connection.scalars(query.where(m.audio_seconds > 0).order_by(m.id.desc()).limit(RECENT))
        recent = [float(row) for row in rows]
    return statistics.median(recent) if recent else None


def add_sample(database: Database, sample: Sample) -> None:
    """Keep a sample, and a day of them; none of a later time, which the clock showed before it was set back."""
    with database.write() as connection:
        connection.execute(sa.insert(samples).values(**asdict(sample)))
        connection.execute(sa.delete(samples).where((samples.c.at < sample.at - DAY) | (samples.c.at > sample.at)))


def list_samples(database: Database, since: float) -> list[Sample]:
    """Samples since a time (seconds since 1970), oldest first."""
    query = sa.select(samples).where(samples.c.at >= since).order_by(samples.c.at)
    with database.read() as connection:
        return [Sample(*row) for row in connection.execute(query)]
