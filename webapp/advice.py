"""What a person can do about a warning, a button each where one press can do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks import guard, models
from tasks.capacity import Limits


@dataclass(frozen=True, slots=True)
class Step:
    """action: where its button posts the fields to; "" for what no button can do."""

    text: str
    action: str = ""
    fields: tuple[tuple[str, str], ...] = ()


def steps(advice: Sequence[str], limits: Limits) -> tuple[Step, ...]:
    """Of keys of `guard.ADVICE`, those that can still be taken: one job at once is the least, tiny the smallest."""
    found = (_step(key, limits) for key in advice)
    return tuple(step for step in found if step is not None)


def _step(key: str, limits: Limits) -> Step | None:
    match key:
        case "lower_limit":
            fewer = limits.slots - 1
            if not fewer:
                return None
            return Step(f"Lower to {fewer} at once", "/limits", (("slots_by", "hand"), ("slots", str(fewer))))
        case "smaller_model":
            place = models.BY_SIZE.index(limits.model) if limits.model in models.BY_SIZE else 0
            if place < 2:  # the first is demo, which knows only a few words
                return None
            smaller = models.BY_SIZE[place - 1]
            return Step(f"Make {smaller} the default model", "/limits", (("model", smaller),))
        case "unload":
            return Step("Unload the model", "/limits/unload")
        case _:
            return Step(guard.ADVICE[key])
