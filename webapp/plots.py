"""The last day of the machine as lines in small drawings: samples in, the points of SVG paths out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.store import Sample

DAY = 86_400
BUCKET = 300
"""Seconds that one point stands for: its highest value, so that no short peak is lost."""
WIDTH, HEIGHT = 576, 100
"""Of a drawing, in its own units: two for each point."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing. line: its points as an SVG path, with gaps where nothing was measured; area: the same, filled down
    to the bottom; top: value at the upper edge; now, highest: values, None when nothing was measured."""

    line: str
    area: str
    top: float
    now: float | None
    highest: float | None


@dataclass(frozen=True, slots=True)
class Day:
    """memory: bytes; cpu: share 0..1; response: seconds. held: (x, width) of each time in which the guard held jobs
    back; memory_limit: bytes; oom_kills: processes the kernel killed in this day; end: seconds since 1970."""

    memory: Plot
    cpu: Plot
    response: Plot
    held: list[tuple[int, int]]
    memory_limit: int
    oom_kills: int
    end: int


def start_of(now: float) -> int:
    """Where the day that is drawn begins. It moves in whole points, so that a drawing stays the same between them."""
    return (int(now) // BUCKET + 1) * BUCKET - DAY


def draw(samples: Sequence[Sample], now: float) -> Day | None:
    """samples: oldest first. None when there are none."""
    start = start_of(now)
    samples = [sample for sample in samples if start <= sample.at < start + DAY]
    if not samples:
        return None
    limit = max(1, samples[-1].memory_limit)
    responses = [sample.response_seconds or 0.0 for sample in samples]
    kills = sum(max(0, b.oom_kills - a.oom_kills) for a, b in pairwise(samples))
    return Day(
        _plot(samples, start, limit, lambda sample: sample.memory_used),
        _plot(samples, start, 1.0, lambda sample: sample.cpu),
        _plot(samples, start, max(0.1, max(responses)), lambda sample: sample.response_seconds),
        _held(samples, start),
        limit,
        kills,
        start + DAY,
    )


def _plot(samples: Sequence[Sample], start: int, top: float, value: Callable[[Sample], float | None]) -> Plot:
    points: dict[int, float] = {}
    measured = [(int(sample.at - start) // BUCKET, found) for sample in samples if (found := value(sample)) is not None]
    for place, found in measured:
        points[place] = max(found, points.get(place, 0.0))
    line, area = [], []
    for run in _runs(sorted(points)):
        steps = " ".join(f"{2 * x + 1} {HEIGHT * (1 - min(1.0, points[x] / top)):.1f}" for x in run)
        if len(run) == 1:  # a lone point still shows
            steps += f" {2 * run[0] + 2} {steps.split()[1]}"
        last = 2 * run[-1] + (2 if len(run) == 1 else 1)
        line.append(f"M{steps}")
        area.append(f"M{2 * run[0] + 1} {HEIGHT} {steps} {last} {HEIGHT}Z")
    now = measured[-1][1] if measured else None
    return Plot("".join(line), "".join(area), top, now, max(points.values(), default=None))


def _held(samples: Sequence[Sample], start: int) -> list[tuple[int, int]]:
    places = {int(sample.at - start) // BUCKET for sample in samples if sample.guard != "calm"}
    return [(2 * run[0], 2 * len(run)) for run in _runs(sorted(places))]


def _runs(places: list[int]) -> list[list[int]]:
    """Places without a gap between them."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
