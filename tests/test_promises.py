"""What refused clients were told, so that each is told of a place of its own."""

from __future__ import annotations

import pytest

from tasks import promises
from tasks.promises import BURST_SECONDS, GRACE_SECONDS, Promises


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(promises, "time", clock)
    return clock


def refuse(told: Promises, submitter: str, seconds: float = 60) -> int:
    """As a refusal does: how many places come before the one that was told."""
    before, _ = told.before(submitter, 1)
    told.give(submitter, seconds)
    return before


def test_a_burst_is_told_of_one_place_each(clock: Clock) -> None:
    told = Promises()
    assert [refuse(told, "") for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_promise_is_forgotten_when_its_time_has_come(clock: Clock) -> None:
    told = Promises()
    refuse(told, "a", 10)
    refuse(told, "b", 20)
    clock.now += 10 + GRACE_SECONDS + 0.1
    assert told.before("c", 1)[0] == 1
    clock.now += 10
    assert told.before("c", 1)[0] == 0


def test_submitters_take_turns(clock: Clock) -> None:
    told = Promises()
    for _ in range(100):
        refuse(told, "greedy")
    assert refuse(told, "first") == 1  # only the greedy one's first comes before
    assert refuse(told, "second") == 2
    assert refuse(told, "first") == 4  # after everybody's first, the greedy one's second
    assert refuse(told, "greedy") == 103


def test_a_loop_that_never_waits_does_not_push_its_own_time_away(clock: Clock) -> None:
    told = Promises()
    seen = []
    for _ in range(100):
        seen.append(refuse(told, "impatient", 300))
        clock.now += 1
    assert max(seen) <= BURST_SECONDS + 1
    assert told.before("patient", 1)[0] == 1


def test_one_that_was_admitted_leaves_its_promise_behind(clock: Clock) -> None:
    told = Promises()
    refuse(told, "a", 10)
    clock.now += 10
    assert told.before("a", 1)[0] == 0
    assert told.before("b", 1)[0] == 0


def test_so_many_and_no_more(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "MOST", 3)
    told = Promises()
    for name in "abcde":
        refuse(told, name)
    assert told.before("f", 1)[0] == 3  # those beyond were told no place of their own
    clock.now += 60 + GRACE_SECONDS + 0.1
    assert refuse(told, "f") == 0
    assert told.before("g", 1)[0] == 1
    assert set(told._of) == {"f"}


@pytest.mark.parametrize(("places", "until"), [(1, 40), (2, 30), (4, 10), (5, None), (0, None)])
def test_whose_job_must_end_first(clock: Clock, places: int, until: float | None) -> None:
    told = Promises()
    for number in range(4):
        refuse(told, str(number), 10 * (number + 1))
    assert told.before("next", places) == (4, until)
