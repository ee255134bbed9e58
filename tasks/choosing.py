"""Which model to take: what is on this box, what fits it, how fast it will be, and which one to begin with.

Speeds are what this box's own jobs took; before the first, figures from elsewhere, good to a factor of two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks import devices, machine, models, store
from tasks.config import Config
from tasks.costs import Kind, estimate
from tasks.db import Database
from tasks.devices import Devices
from tasks.models import Model
from tasks.planner import Planner
from tasks.slots import THREADS, Plan

DEMO = "demo"
QUESTION = (
    "Choose a model first: this box is still set to its demo model, which knows only a few dozen words and would make "
    "nonsense of a recording."
)
DEMO_NOTE = (
    "With the demo model, which knows only a few dozen words: anything else becomes the nearest of these. Name another "
    "model for the real words."
)
"""Of every job that the demo model did, besides the sample it is made for."""
PATIENT = 1 / 3
"""Real-time factor up to which a model is recommended: an hour of speech in twenty minutes."""
BY_EXACTNESS = ("tiny", "base", "small", "medium", "turbo", "large-v3")

_FACTORS = {
    "tiny": 0.06, "base": 0.08, "small": 0.16, "medium": 0.45, "turbo": 0.45, "large": 0.9,
    "distil-small": 0.12, "distil-medium": 0.25, "distil-large": 0.45,
}  # fmt: skip
"""Processing time / audio time with int8 and two CPU threads. base from this project's own measurements (0.9 s a
window, and as much for speech detection and word times), the others by the ratios of faster-whisper's benchmark."""
_GPU = 15
"""How much faster a GPU is, at least, by the same benchmark."""
_THREADS_HELP = 0.7
"""Twice the threads are 1.6 times as fast."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model as a person who has to choose sees it. fits: one job fits into memory; memory: bytes that one job takes,
    the engine with it; factor: expected processing time / audio time, measured: whether this box's own; recommended:
    the one to begin with; advised: one of the few to offer first."""

    model: Model
    ready: bool
    fits: bool
    memory: int
    factor: float
    measured: bool
    recommended: bool = False
    advised: bool = False

    @property
    def takes(self) -> str:
        """What an hour of speech takes, in words; "" for the demo model, which is for no hour of speech."""
        if self.model.name == DEMO:
            return ""
        minutes = max(1, round(self.factor * 60))
        how = "" if self.measured else ", by estimate"
        return f"an hour of speech takes about {minutes} min{how}, and {self.memory / 2**30:,.1f} GiB of memory"


def choices(config: Config, planner: Planner, database: Database) -> list[Choice]:
    """Every model that a job can name, in the catalogue's order."""
    device, cpus = devices.find(config), machine.cpus(stated=config.cpus).count
    found = [_choice(config, planner.plan(model.name), database, model, device, cpus)
             for model in models.available(config)]  # fmt: skip
    first = _recommended(found)
    advised = _advised(found, first)
    return [_marked(one, first, advised) for one in found]


def _choice(config: Config, plan: Plan, database: Database, model: Model, device: Devices, cpus: int) -> Choice:
    kind = Kind(model.name, device.compute_type, plan.batch)
    cost = estimate(kind, store.records(database, model.name))
    measured = store.factor(database, model.name, device.compute_type)
    factor = measured or expected_factor(model.name, device.recognition, plan.threads or cpus)
    memory = cost.base + cost.load + cost.job
    return Choice(model, models.ready(config, model), plan.maximum > 0, memory, factor, measured is not None)


def expected_factor(name: str, device: str, threads: int) -> float:
    """Real-time factor of a model before this box has run it; an operator's own is taken for a medium one."""
    known = next((part for part in sorted(_FACTORS, key=len, reverse=True) if name.startswith(part)), "medium")
    if device == "cuda":
        return _FACTORS[known] / _GPU
    return float(_FACTORS[known] * (THREADS / threads) ** _THREADS_HELP)


def _recommended(found: list[Choice]) -> Choice | None:
    """The most exact one that fits and keeps a person waiting no longer than the recording; one that is here already
    before any that must be fetched."""
    fitting = [one for one in _by_exactness(found) if one.fits]
    quick = [one for one in fitting if one.factor <= PATIENT] or fitting[:1]
    here = [one for one in quick if one.ready]
    return (here or quick)[-1] if quick else None


def _advised(found: list[Choice], first: Choice | None) -> set[str]:
    """The recommended one with its neighbours, and what is here already."""
    ranked = _by_exactness(found)
    if first is None:
        return {one.model.name for one in ranked[:1]}
    fitting = [one for one in ranked if one.fits]
    at = fitting.index(first)
    near = fitting[max(0, at - 1) : at + 2]
    here = [one for one in found if one.ready and one.fits and one.model.name != DEMO]
    return {one.model.name for one in [*near, *here]}


def _by_exactness(found: list[Choice]) -> list[Choice]:
    return [one for name in BY_EXACTNESS for one in found if one.model.name == name]


def _marked(one: Choice, first: Choice | None, advised: set[str]) -> Choice:
    return replace(one, recommended=one is first, advised=one.model.name in advised)
