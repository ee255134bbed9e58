"""What can be done about a warning: a button only where pressing it changes something."""

from __future__ import annotations

import pytest

from tasks.capacity import Limits
from tasks.guard import ADVICE
from webapp.advice import Step, steps


def limits(slots: int, model: str) -> Limits:
    return Limits(slots, 5, 10**9, 3600.0, model=model)


def test_each_advice_is_a_step() -> None:
    assert steps(tuple(ADVICE), limits(3, "small")) == (
        Step("Lower to 2 at once", "/limits", (("slots_by", "hand"), ("slots", "2"))),
        Step("Make base the default model", "/limits", (("model", "base"),)),
        Step("Unload the model", "/limits/unload"),
        Step("Give this box more memory."),
    )


@pytest.mark.parametrize("model", ["tiny", "demo", "my-own"])
def test_what_can_not_be_lowered_is_not_offered(model: str) -> None:
    assert steps(("lower_limit", "smaller_model", "add_memory"), limits(1, model)) == (
        Step("Give this box more memory."),
    )
