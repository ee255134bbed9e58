"""How many slots this box has now: the machine's limits and the costs of jobs, asked again every few seconds."""

from __future__ import annotations

import threading
import time

from tasks import devices, machine, models, proofs, store
from tasks.capacity import Limits, first_limits
from tasks.config import Config
from tasks.costs import ALIGNER, Kind, Record, estimate, gpu_estimate, numbers
from tasks.db import Database
from tasks.machine import Bound
from tasks.slots import Plan, Vram, plan

FRESH_SECONDS = 5.0
"""How long an answer is given again: control groups and records change slowly, requests come by the thousand."""


class Planner:
    """Shared by all threads of a process."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config = config
        self._database = database
        self._lock = threading.Lock()
        self._plans: dict[str, tuple[float, Plan]] = {}

    def plan(self, model: str) -> Plan:
        """The arithmetic for a model, at most FRESH_SECONDS old."""
        with self._lock:
            made, found = self._plans.get(model, (0.0, None))
            if found is None or time.monotonic() - made > FRESH_SECONDS:
                found = self._plan(model, store.records(self._database, model))
                self._plans[model] = (time.monotonic(), found)
            return found

    def first(self) -> Limits:
        """The limits that count until a person changes them, with the slots that the default model's plan
        recommends: of the model that is the default now."""
        chosen = store.choices(self._database)
        slots = self._config.slots if chosen.get("slots") != 0 else 0
        return first_limits(self._config, slots or self.plan(chosen.get("model", self._config.model)).recommended)

    def limits(self) -> Limits:
        """The limits in force."""
        return store.limits(self._database, self.first())

    def slots_are_fixed(self) -> bool:
        """Whether a person has said how many, whatever the arithmetic says."""
        return bool(store.choices(self._database).get("slots", self._config.slots))

    def remembered(self, model: str) -> Plan:
        """The last answer of `plan`, however old; before the first, from priors alone. Never waits for the database."""
        _, found = self._plans.get(model, (0.0, None))
        return found or self._plan(model, [])

    def largest_that_fits(self) -> str:
        """The most exact model of the catalogue that one job fits with; "" when none does."""
        fitting = [name for name in models.BY_SIZE if self.plan(name).maximum]
        return fitting[-1] if fitting else ""

    def _plan(self, model: str, known: list[Record]) -> Plan:
        found = devices.find(self._config)

        def kind(batch: int) -> Kind:
            return Kind(model, numbers(found.recognition, found.compute_type), batch)

        aligner = max(ALIGNER, models.aligner_bytes(self._config))
        vram = None
        if found.gpu:
            vram = Vram(
                Bound(found.gpu.name, found.gpu.memory),
                lambda batch: gpu_estimate(kind(batch), known, aligner),
                proofs.others(self._config),
            )
        return plan(
            model,
            found.recognition,
            machine.memory().limit,
            machine.cpus(stated=self._config.cpus).count,
            lambda batch: estimate(kind(batch), known, aligner),
            vram,
        )
