"""Whether another worker is alive, judged without asking what time it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import leases
from tasks.leases import LOOK_SECONDS, Leases


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=50.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(leases, "time", clock)
    return clock


def look(found: Leases, clock: SimpleNamespace, stamps: dict[str, float], seconds: float = 2.0) -> dict[str, float]:
    clock.now += seconds
    return found.over(stamps)


def test_a_stamp_that_stands_still_for_as_long_as_a_lease_is_over(clock: SimpleNamespace) -> None:
    found = Leases(5.0)
    assert [look(found, clock, {"a": 7.0}) for _ in range(4)] == [{}, {}, {}, {"a": 7.0}]


def test_a_stamp_that_moves_is_alive_also_backwards(clock: SimpleNamespace) -> None:
    found = Leases(3.0)
    for stamp in (1.0, 2.0, 3.0, 2.0, 1.0, 0.0, 9e9):
        assert look(found, clock, {"a": stamp}) == {}
    assert look(found, clock, {"a": 9e9}) == {}
    assert look(found, clock, {"a": 1.0}) == {}


def test_a_pause_of_this_process_says_nothing_of_the_others(clock: SimpleNamespace) -> None:
    """All may have been frozen together, and this one thawed first."""
    found = Leases(2 * LOOK_SECONDS)
    look(found, clock, {"a": 1.0})
    assert look(found, clock, {"a": 1.0}, seconds=86_400) == {}
    assert look(found, clock, {"a": 2.0}) == {}


def test_each_attempt_is_watched_from_its_own_first_look_and_forgotten_with_it(clock: SimpleNamespace) -> None:
    found = Leases(3.0)
    look(found, clock, {"a": 1.0})
    look(found, clock, {"a": 1.0, "b": 1.0})
    assert look(found, clock, {"a": 1.0, "b": 1.0}) == {"a": 1.0}
    look(found, clock, {"b": 1.0})
    assert look(found, clock, {"a": 1.0}) == {}
    assert set(found._seen) == {"a"}
