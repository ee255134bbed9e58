"""How long jobs are expected to take, by what this box has measured; the clock is simulated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.store.pace import LEAST_SECONDS, Pace, fit


def test_long_and_short_jobs_are_told_from_each_other() -> None:
    """A job takes two seconds whatever its length, and a tenth of it."""
    points = [(length, 2 + length / 10) for length in (2, 3, 4, 600, 4800)]
    line = fit(points)
    for length, work in [*points, (30, 5), (9600, 962)]:
        assert work / 2 <= line.work(length) <= 2 * work


@pytest.mark.parametrize("lengths", [(4, 4, 4), (2, 2.2, 2.5), (4800,)])
def test_what_was_never_seen_is_told_in_proportion(lengths: tuple[float, ...]) -> None:
    line = fit([(length, 2 + length / 10) for length in lengths])
    assert line.work(100_000) >= 10_000
    assert line.work(0.1) == LEAST_SECONDS


def test_a_larger_model_that_has_not_run_here_is_no_faster() -> None:
    from tasks.store.pace import _with_relatives

    lines = _with_relatives({"tiny": fit([(100, 10), (1000, 100)])})
    assert lines["large-v3"].work(1000) > lines["small"].work(1000) > lines["tiny"].work(1000)
    assert lines["demo"].work(1000) >= 0.25 * lines["tiny"].work(1000)


@pytest.mark.parametrize("align", [0.25, 1.0, 3.0])
def test_a_running_job_is_never_told_less_than_half_of_what_is_left(align: float) -> None:
    """Decoding takes a hundredth of the sound, recognition a tenth, word times `align` times as long as that. As soon
    as a job of the kind was measured, time left is right within a factor of two, also as recognition ends."""
    length = 6000.0
    stages = [(0.0, 0.1, 60.0), (0.1, 0.8, 600.0), (0.8, 0.99, 600.0 * align)]
    total = sum(seconds for *_, seconds in stages)
    pace = Pace(total, {"tiny": fit([(length, total), (length / 10, total / 10)])})
    before = 0.0
    for start, end, seconds in stages:
        for tenth in range(11):
            elapsed, progress = before + seconds * tenth / 10, start + (end - start) * tenth / 10
            left = total - elapsed
            row = SimpleNamespace(
                model="tiny", source_seconds=length, guessed_seconds=None, left_seconds=None, progress=progress,
                resumed=0.0, elapsed=elapsed,
            )  # fmt: skip
            if left > 60:
                assert pace.left(row) >= left / 2, (start, tenth, left)
        before += seconds
