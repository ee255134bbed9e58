"""The pressure guard as a table of readings and levels, and the warnings of the concurrency guide."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.guard import (
    ADVICE,
    IDLE_SECONDS,
    QUIET_SECONDS,
    STEP_SECONDS,
    STOP_SECONDS,
    Guard,
    Level,
    Reading,
    step,
    warnings,
)
from tasks.store import Sample

MIB = 2**20
CALM, HOLD, UNLOAD, STOP = Level


def play(*readings: Reading) -> list[Level]:
    """The level after each reading."""
    guard, levels = Guard(), []
    for reading in readings:
        guard = step(guard, reading)
        levels.append(guard.level)
    return levels


def each_second(used: float, seconds: int, start: int = 0, **more: object) -> list[Reading]:
    return [replace(Reading(float(start + n), used, running=1), **more) for n in range(seconds)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reading", "level"),
    [
        (Reading(0, 0.50), CALM),
        (Reading(0, 0.919), CALM),
        (Reading(0, 0.92), HOLD),
        (Reading(0, 0.99), HOLD),  # one step at a time, however bad it is
        (Reading(0, 0.85, stalled=0.10), HOLD),
        (Reading(0, 0.85, stalled=0.09), CALM),
        (Reading(0, 0.85, stalled=None), CALM),
        (Reading(0, 0.50, stalled=0.90), CALM),  # somebody else's trouble
        (Reading(0, 0.85, swapped=10**12), CALM),  # swap in use is nothing; swap that grows is
        (Reading(0, 0.50, oom_kills=7), CALM),  # before this worker's time
    ],
)
def test_the_first_reading(reading: Reading, level: Level) -> None:
    assert play(replace(reading, running=1)) == [level]


def test_each_level_only_after_the_one_before_had_time_to_help() -> None:
    levels = play(*each_second(0.99, 8))
    assert STEP_SECONDS == 3
    assert levels == [HOLD] * 3 + [UNLOAD] * 3 + [STOP] * 2


@pytest.mark.parametrize(
    ("used", "highest"), [(0.90, CALM), (0.93, HOLD), (0.94, UNLOAD), (0.96, UNLOAD), (0.97, STOP)]
)
def test_it_goes_no_further_than_the_signs_call_for(used: float, highest: Level) -> None:
    assert max(play(*each_second(used, 60))) == highest


@pytest.mark.parametrize(("stalled", "highest"), [(0.05, CALM), (0.1, HOLD), (0.3, UNLOAD), (0.6, STOP)])
def test_stalls_are_signs_too(stalled: float, highest: Level) -> None:
    assert max(play(*each_second(0.85, 60, stalled=stalled))) == highest


@pytest.mark.parametrize(("a_second", "highest"), [(1, CALM), (4, HOLD), (12, UNLOAD), (60, STOP)])
def test_growing_swap_is_a_sign_too(a_second: int, highest: Level) -> None:
    story = [Reading(float(n), 0.85, swapped=n * a_second * MIB, running=1) for n in range(60)]
    assert max(play(*story)) == highest


def test_an_oom_kill_holds_for_a_while_and_no_longer() -> None:
    story = each_second(0.3, 2) + each_second(0.3, 60, start=2, oom_kills=1)
    levels = play(*story)
    assert levels[:3] == [CALM, CALM, HOLD]
    assert max(levels) == HOLD
    assert levels[-1] == CALM


def test_it_recovers_by_itself_after_a_quiet_while() -> None:
    levels = play(*each_second(0.99, 8), *each_second(0.5, 20, start=8))
    assert levels[7] == STOP
    quiet = int(QUIET_SECONDS)
    assert levels[8 : 8 + quiet] == [STOP] * quiet
    assert levels[8 + quiet :] == [CALM] * (20 - quiet)


def test_it_comes_down_only_to_what_is_still_called_for() -> None:
    levels = play(*each_second(0.99, 8), *each_second(0.89, 30, start=8))
    assert levels[-1] == HOLD  # 0.89 is under what calls for it, but not by enough to leave it


def test_it_does_not_flap_around_a_threshold() -> None:
    story = [Reading(float(n), 0.92 + (0.01 if n % 2 else -0.02), running=1) for n in range(600)]
    levels = play(*story)
    assert sum(a != b for a, b in pairwise(levels)) == 1


def test_while_stopping_does_not_help_another_job_is_stopped() -> None:
    guard, stops = Guard(), []
    for reading in each_second(0.99, 40):
        before, guard = guard, step(guard, reading)
        if guard.level == STOP and guard.since != before.since:
            stops.append(reading.at)
    assert stops == [6, 6 + STOP_SECONDS, 6 + 2 * STOP_SECONDS, 6 + 3 * STOP_SECONDS]


def test_with_nothing_running_holding_leads_to_unloading() -> None:
    """Memory between the thresholds, all of it the idle engine's: holding would wait for ever."""
    story = each_second(0.93, 1) + each_second(0.9, 60, start=1, running=0)
    levels = play(*story)
    assert levels[: int(IDLE_SECONDS)] == [HOLD] * int(IDLE_SECONDS)
    assert levels[int(IDLE_SECONDS) :] == [UNLOAD] * (61 - int(IDLE_SECONDS))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1), st.integers(0, 2**34), st.integers(0, 3)), max_size=80
    )
)
def test_whatever_happens_it_climbs_in_steps_and_calm_comes_back(
    story: list[tuple[float, float | None, int, int]],
) -> None:
    guard = Guard()
    for number, (used, stalled, swapped, running) in enumerate(story):
        before, guard = guard, step(guard, Reading(float(number), used, stalled, swapped, 0, running))
        assert guard.level <= before.level + 1
        if guard.level > before.level > CALM:
            assert guard.since - before.since >= STEP_SECONDS
    for number in range(len(story), len(story) + 45):
        guard = step(guard, Reading(float(number), 0.3))
    assert guard.level == CALM


def sample(at: float, used: float = 0.5, response: float | None = 0.01, **more: int) -> Sample:
    facts: dict[str, int] = {"swapped": 0, "oom_kills": 0, "running": 0} | more
    return Sample(
        at=at,
        memory_used=round(used * 1000),
        memory_limit=1000,
        stalled=None,
        cpu=0.1,
        response_seconds=response,
        queued=0,
        guard="calm",
        **facts,
    )


DAY = [sample(60.0 * n) for n in range(100)]
"""A quiet day: a sample a minute."""


@pytest.mark.parametrize(
    ("after", "codes"),
    [
        ([], []),
        ([sample(6000, 0.9)], []),
        ([sample(6000, 0.91)], ["memory_high"]),
        ([sample(6000, 0.95), sample(6005, 0.5)], []),  # it is over
        ([sample(6000, swapped=64 * MIB)], ["swap_growing"]),
        ([sample(6000, swapped=63 * MIB)], []),
        ([sample(6000 + 60 * n, swapped=640 * MIB) for n in range(7)], []),  # it grew, and stayed
        ([sample(6000 + 5 * n, response=0.5) for n in range(3)], ["responses_slow"]),
        ([sample(6000 + 5 * n, response=0.5) for n in range(2)], []),  # two of five
        ([sample(6000 + 5 * n, response=0.1) for n in range(5)], []),  # ten times slower and still fast
        ([sample(6000 + 5 * n, response=None) for n in range(3)], ["responses_slow"]),
        ([sample(6000, oom_kills=1), sample(6060, oom_kills=3), sample(6120, oom_kills=3)], ["oom_kill"]),
        (
            [sample(6000, 0.99, None, swapped=10**9, oom_kills=1)] * 3,
            ["memory_high", "swap_growing", "responses_slow", "oom_kill"],
        ),
    ],
)
def test_warnings(after: list[Sample], codes: list[str]) -> None:
    found = warnings(DAY + after)
    assert [warning.code for warning in found] == codes
    for warning in found:
        assert warning.sentence.endswith(".")
        assert set(warning.advice) <= set(ADVICE)
        assert warning.advice


def test_warnings_of_nothing_and_of_little() -> None:
    assert warnings([]) == []
    assert warnings([sample(0, response=None)] * 5) == []  # too few to know what is usual


def test_kills_before_the_first_sample_and_a_counter_that_starts_again() -> None:
    assert warnings([sample(0, oom_kills=5), sample(60, oom_kills=5), sample(120, oom_kills=0)]) == []


def test_the_sentences_say_the_figures() -> None:
    (high,) = warnings([sample(0, 0.95)])
    assert "95%" in high.sentence
    assert high.advice[0] == "unload"
    (busy,) = warnings([sample(0, 0.95, running=1)])
    assert busy.advice[0] == "lower_limit"
    (kill,) = warnings([sample(0), sample(60, oom_kills=1)])
    assert "killed a process" in kill.sentence
    (kills,) = warnings([sample(0), sample(60, oom_kills=2)])
    assert "2 processes" in kills.sentence
    (slow,) = warnings(DAY + [sample(6000, response=1.0)] * 3)
    assert "1,000 ms, 100 times slower" in slow.sentence
