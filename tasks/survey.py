"""What this box can hold, why, and what it holds now: one look for the Limits page and /api/v1/capacity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tasks import capacity, devices, machine, models, readiness, store
from tasks.capacity import Limits, Load
from tasks.config import Config
from tasks.db import Database
from tasks.devices import Devices
from tasks.machine import Cpus, Memory
from tasks.planner import Planner
from tasks.readiness import Reason
from tasks.slots import Plan


@dataclass(frozen=True, slots=True)
class Survey:
    """limits: in force; fixed: whether a person has said how many slots; plan: the arithmetic for the default model;
    load: what the box holds, None when the database can't be asked; models: the plan of each model advice names; disk:
    free bytes and all of them where the data folder is, None when it can't be asked; reasons: see `readiness.state`."""

    limits: Limits
    fixed: bool
    plan: Plan
    devices: Devices
    memory: Memory
    cpus: Cpus
    load: Load | None
    models: dict[str, Plan]
    disk: tuple[int, int] | None
    reasons: list[Reason]

    @property
    def next_free_seconds(self) -> int | None:
        """Seconds until one more job would be taken, 0 when it would be now; None when nobody can tell: while more
        is in the way than the jobs that are there."""
        if self.load is None or not readiness.takes([one for one in self.reasons if one.code != "queue_full"]):
            return None
        refusal = capacity.decide(self.limits, self.load, capacity.Request())
        return capacity.seconds_until_room(self.limits, self.load) if refusal else 0

    @property
    def largest_that_fits(self) -> str:
        """The most exact model that one job fits with; "" when none does."""
        return next((name for name, plan in reversed(self.models.items()) if plan.maximum), "")

    @property
    def warnings(self) -> list[str]:
        """What a person should know, each in a sentence or two with what to do."""
        return [sentence for sentence in (self._model_warning(), self._slots_warning(), self.cpus.warning) if sentence]

    def _model_warning(self) -> str | None:
        if self.plan.maximum:
            return None
        advice = (
            f"Choose {self.largest_that_fits}, the largest that fits, or give this box more memory."
            if self.largest_that_fits
            else "No model fits: give this box more memory."
        )
        if self.devices.gpu:
            advice += " Without the GPU, by STENOBOX_DEVICE=cpu, the box's own memory alone counts."
        what = "every recording for it may end with the box out of memory" if self.fixed else "its jobs are refused"
        return f"The default model {self.plan.model} does not fit into memory, so {what}. {advice}"

    def _slots_warning(self) -> str | None:
        slots, plan = self.limits.slots, self.plan
        if not self.fixed or not plan.maximum or slots <= plan.recommended:
            return None
        if slots > plan.maximum:
            return (
                f"{slots} slots are set, but by the arithmetic memory holds {plan.maximum}: with all of them busy, the "
                f"box may run out of memory. Set {plan.recommended}, or choose a smaller model."
            )
        return (
            f"{slots} slots are set, more than the {plan.recommended} recommended for {self.cpus.count} CPUs: memory "
            "holds them, but each job gets slower and the box finishes no more in an hour."
        )


def take(config: Config, planner: Planner, database: Database, *, leaving: bool = False) -> Survey:
    """Look now. leaving: whether this process was told to stop. Raises StenoboxError database_busy."""
    limits, load = planner.limits(), store.load(database)
    reasons = readiness.state(config, limits, load, leaving=leaving)
    return _survey(config, limits, planner.slots_are_fixed(), load, planner.plan, reasons)


def remember(config: Config, planner: Planner, limits: Limits, fixed: bool) -> Survey:
    """The same without the database: plans as last made, limits as last seen, no load. Never waits."""
    return _survey(config, limits, fixed, None, planner.remembered, readiness.state(config, limits, None))


DISK_STEP = 10**8
"""What is free is told in steps: it moves by bytes all the time, and a page would never be the same as before."""


def _disk(config: Config) -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(config.data)
    except OSError:
        return None
    return usage.free // DISK_STEP * DISK_STEP, usage.total


def _survey(
    config: Config,
    limits: Limits,
    fixed: bool,
    load: Load | None,
    plan: Callable[[str], Plan],
    reasons: list[Reason],
) -> Survey:
    return Survey(
        limits,
        fixed,
        plan(limits.model),
        devices.find(config),
        machine.memory(),
        machine.cpus(stated=config.cpus),
        load,
        {name: plan(name) for name in models.BY_SIZE},
        _disk(config),
        reasons,
    )
