"""How many jobs fit at once: arithmetic that a person can follow line by line.

slots = min( (limit - headroom - own - engine) / job,  CPUs / threads a job )
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.costs import MIB, OWN, Cost
from tasks.machine import Bound

MOST_SLOTS = 16
THREADS = 2
"""CPU threads that serve one job well; with more jobs than CPUs / 2 each gets fewer."""
HEADROOM_SHARE = 0.1
LEAST_HEADROOM = 256 * MIB
"""Left free for what no estimate knows: page cache, other programs, the kernel."""
BATCHES = {"cpu": (4, 2, 1), "cuda": (16, 8, 4, 1)}
"""Windows recognized together, the best first; smaller ones need less memory."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the arithmetic. value: bytes, or a count when `counted`; total: the sum of the lines before it."""

    text: str
    value: float
    counted: bool = False
    total: bool = False

    @property
    def unit(self) -> str:
        return "jobs" if self.counted else "bytes"


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits. maximum: jobs that memory holds; recommended: what this box should run, 0 when the model doesn't
    fit at all; batch and threads go with it; lines: the arithmetic."""

    model: str
    maximum: int
    recommended: int
    batch: int
    threads: int
    lines: tuple[Line, ...]


def plan(model: str, device: str, limit: Bound, cpus: int, cost: Callable[[int], Cost]) -> Plan:
    """The largest batch with which at least one job fits, and how many then do. cost: of a job with that batch."""
    for batch in BATCHES[device]:
        found = _plan(model, limit, cpus, batch, cost(batch))
        if found.maximum:
            break
    return found


def _plan(model: str, limit: Bound, cpus: int, batch: int, cost: Cost) -> Plan:
    headroom = max(LEAST_HEADROOM, round(limit.value * HEADROOM_SHARE))
    room = int(limit.value) - headroom - OWN - cost.base - cost.load
    maximum = max(0, min(MOST_SLOTS, room // cost.job))
    by_cpu = max(1, cpus // THREADS)
    recommended = min(maximum, by_cpu)
    told = "an estimate until a job has run here"
    if cost.records:
        told = f"from {cost.records} of this box's jobs"
    elif cost.related:
        told = f"from {cost.related} of this box's jobs, of other lengths"
    lines = (
        Line(f"memory: {limit.name}", limit.value),
        Line("less headroom", -headroom),
        Line("less Stenobox itself", -OWN),
        Line("less the speech engine", -cost.base),
        Line(f"less the model {model}, shared by all jobs", -cost.load),
        Line("room for jobs", room, total=True),
        Line(f"one job, batch {batch} ({told})", cost.job),
        Line("jobs that fit in memory", maximum, counted=True),
        Line(f"jobs for {cpus} CPUs at {THREADS} threads each", by_cpu, counted=True),
    )
    return Plan(model, maximum, recommended, batch, max(1, cpus // max(1, recommended)), lines)


def guide(ram_gb: float, model_gb: float) -> int:
    """The concurrency guide's rule, one model a job: (RAM - 2 GB) / model, rounded down."""
    return max(0, int((ram_gb - 2) // model_gb))
