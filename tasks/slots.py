"""How many jobs fit at once: arithmetic that a person can follow line by line.

slots = min( (limit - headroom - own - engine) / job,  CPUs / threads a job )

and on a GPU the same with its own memory, as a third bound.
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
class Vram:
    """Memory of a GPU. limit: all of it; cost: what a job with that batch takes of it; others: what other programs
    hold, in bytes."""

    limit: Bound
    cost: Callable[[int], Cost]
    others: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the arithmetic. value: bytes, or a count when `counted`; total: the sum of the bytes before it, from
    the last count on."""

    text: str
    value: float
    counted: bool = False
    total: bool = False

    @property
    def unit(self) -> str:
        return "jobs" if self.counted else "bytes"


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits. maximum: jobs that memory holds, the host's and a GPU's; recommended: what this box should run, 0 when
    the model doesn't fit at all; batch and threads go with it; lines: the arithmetic."""

    model: str
    maximum: int
    recommended: int
    batch: int
    threads: int
    lines: tuple[Line, ...]


def plan(
    model: str, device: str, limit: Bound, cpus: int, cost: Callable[[int], Cost], vram: Vram | None = None
) -> Plan:
    """How many jobs fit, and with which batch. limit: of the host's memory; cost: what a job with that batch takes of
    it; vram: the GPU's, where there is one."""
    plans = [_plan(model, limit, cpus, batch, cost(batch), vram) for batch in BATCHES[device]]
    fitting = [found for found in plans if found.maximum]
    if not fitting:
        least = BATCHES[device][-1]
        fitting = [_plan(model, limit, cpus, least, cost(least), vram, tight=True)]
    if device == "cuda":
        # A GPU is as busy as it has windows: the most of them at once, and of those the fewest jobs. The most of
        # several is never less with more memory; of the first batch that fits nobody can promise that.
        return max(fitting, key=lambda found: (found.recommended * found.batch, found.batch))
    return fitting[0]  # a CPU is busy with one job: many small ones would only take its threads from each other


def _plan(
    model: str, limit: Bound, cpus: int, batch: int, cost: Cost, vram: Vram | None, *, tight: bool = False
) -> Plan:
    in_memory, lines = _share(
        [Line(f"memory: {limit.name}", limit.value), Line("less headroom", -_headroom(limit)),
         Line("less Stenobox itself", -OWN), Line("less the speech engine", -cost.base)],
        model, batch, cost, "memory", _headroom(limit) if tight else 0,
    )  # fmt: skip
    maximum = min(MOST_SLOTS, in_memory)
    if vram:
        limit, cost = vram.limit, vram.cost(batch)
        in_gpu, more = _share(
            [Line(f"GPU memory: {limit.name}", limit.value), Line("less headroom", -_headroom(limit)),
             *([Line("less what other programs hold", -vram.others)] if vram.others else []),
             Line("less CUDA itself", -cost.base)],
            model, batch, cost, "GPU memory",
        )  # fmt: skip
        maximum = min(maximum, in_gpu)
        lines += more
    by_cpu = max(1, cpus // THREADS)
    recommended = min(maximum, by_cpu)
    lines.append(Line(f"jobs for {cpus} CPUs at {THREADS} threads each", by_cpu, counted=True))
    return Plan(model, maximum, recommended, batch, max(1, cpus // max(1, recommended)), tuple(lines))


def _headroom(limit: Bound) -> int:
    return max(LEAST_HEADROOM, round(limit.value * HEADROOM_SHARE))


def _share(
    lines: list[Line], model: str, batch: int, cost: Cost, where: str, headroom: int = 0
) -> tuple[int, list[Line]]:
    """How many jobs fit into what the lines leave of one memory, and the lines that say so.

    headroom: bytes that one job may take besides, if it is known to. Headroom is for what no estimate knows, and what
    has run here is no estimate: else one unusual record could make "never" of what has just worked.
    """
    lines = [*lines, Line(f"less the model {model}, shared by all jobs", -cost.load)]
    room = int(sum(line.value for line in lines))
    fitting, how = max(0, min(MOST_SLOTS, room // cost.job)), ""
    if not fitting and cost.records + cost.related and cost.job <= room + headroom:
        fitting, how = 1, ", with the headroom"
    told = "an estimate until a job has run here"
    if cost.records:
        told = f"from {cost.records} of this box's jobs"
    elif cost.related:
        told = f"from {cost.related} of this box's jobs, of other lengths"
    return fitting, [
        *lines,
        Line("room for jobs" if where == "memory" else f"room for jobs in {where}", room, total=True),
        Line(f"one job, batch {batch} ({told})", cost.job),
        Line(f"jobs that fit in {where}{how}", fitting, counted=True),
    ]


def guide(ram_gb: float, model_gb: float) -> int:
    """The concurrency guide's rule, one model a job: (RAM - 2 GB) / model, rounded down."""
    return max(0, int((ram_gb - 2) // model_gb))
