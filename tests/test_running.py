"""The one way to stop an attempt."""

from __future__ import annotations

import threading

import pytest
from test_jobs import DEMO, SOURCE

from tasks.jobs import Job, Stage, State, new_id
from tasks.running import Reason, Running, Stopped
from tasks.store import Attempt


@pytest.fixture
def running() -> Running:
    return Running(Attempt(Job(new_id(), "transcription", State.RUNNING, SOURCE, DEMO, 0.0), "token"))


def test_it_starts_with_decoding_and_is_not_stopped(running: Running) -> None:
    assert (running.token, running.stage, running.progress, running.reason) == ("token", Stage.DECODE, 0.0, None)
    running.check()


def test_progress_is_noted(running: Running) -> None:
    running.at(Stage.ALIGN, 0.85)
    assert (running.stage, running.progress) == (Stage.ALIGN, 0.85)


@pytest.mark.parametrize("reason", Reason)
def test_whoever_looks_after_a_stop_learns_its_reason(running: Running, reason: Reason) -> None:
    running.stop(reason)
    with pytest.raises(Stopped, match=reason):
        running.check()
    with pytest.raises(Stopped, match=reason):
        running.at(Stage.SAVE, 0.99)
    assert running.reason is reason


def test_the_first_reason_counts(running: Running) -> None:
    running.stop(Reason.CANCELED)
    running.stop(Reason.DRAINING)
    assert running.reason is Reason.CANCELED


def test_hooks_run_once_in_order_when_it_is_stopped(running: Running) -> None:
    called: list[str] = []
    running.on_stop(lambda: called.append("child"))
    running.on_stop(lambda: called.append("engine"))
    assert called == []
    running.stop(Reason.LOST)
    running.stop(Reason.LOST)
    assert called == ["child", "engine"]


def test_a_hook_that_comes_after_the_stop_is_called_at_once(running: Running) -> None:
    running.stop(Reason.CANCELED)
    called: list[str] = []
    running.on_stop(lambda: called.append("late"))
    assert called == ["late"]


def test_a_hook_sees_the_reason_and_may_add_another(running: Running) -> None:
    seen: list[Reason | None] = []
    running.on_stop(lambda: running.on_stop(lambda: seen.append(running.reason)))
    running.stop(Reason.DRAINING)
    assert seen == [Reason.DRAINING]


def test_a_hook_runs_exactly_once_however_it_races_with_the_stop(running: Running) -> None:
    called: list[int] = []
    start = threading.Barrier(9)

    def add(number: int) -> None:
        start.wait()
        running.on_stop(lambda: called.append(number))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    running.stop(Reason.CANCELED)
    for thread in threads:
        thread.join()
    assert sorted(called) == list(range(8))
