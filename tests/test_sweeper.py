"""What is old goes once an hour, by how old it is and not by what time it is."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from web_support import put_job

from tasks import retention, store, sweeper
from tasks.actions import Box
from tasks.clock import Clock, uptime
from tasks.db import jobs
from tasks.errors import StenoboxError
from tasks.jobs import State
from tasks.retention import DAY
from tasks.sweeper import DOUBT_SECONDS, SWEEP_SECONDS, Sweeper


class Times:
    """A machine's two clocks, moved by hand. ahead: seconds by which the wall clock is wrong; ran: since its start."""

    def __init__(self, ahead: float = 0.0, ran: float = 3600.0) -> None:
        self.ahead, self.ran, self.right = ahead, ran, time.time()

    def wall(self) -> float:
        return self.right + self.ahead

    def lived(self) -> float:
        return self.ran

    def pass_by(self, seconds: float) -> None:
        self.ran += seconds
        self.right += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr(retention.time, "time", times.wall)
    return times


def made(box: Box, times: Times) -> Sweeper:
    clock = Clock(box.config.data / "clock", times.wall, times.lived, "this run")
    return Sweeper(box.config, box.planner, box.database, clock, times.lived)


def ended(box: Box, times: Times) -> str:
    """A job that ends now, by the clock as it stands."""
    job = put_job(box, State.COMPLETED)
    with box.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(finished_at=times.wall()))
    return job.id


def keep(box: Box, days: float) -> None:
    store.change_limits(box.database, box.planner.first(), {"keep_days": days}, "a test")


def live(sweeper: Sweeper, times: Times, seconds: float, step: float = 600.0) -> None:
    for _ in range(int(seconds / step)):
        times.pass_by(step)
        sweeper.look()


def test_old_jobs_go_once_an_hour(box: Box, times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(sweeper, "tidy", lambda config, database, limits: asked.append(limits.keep_days))
    keep(box, 7)
    live(made(box, times), times, 3 * 3600, step=60)
    assert asked == [7.0] * 3


@pytest.mark.parametrize("restarted", [True, False])
def test_what_ended_under_a_clock_that_was_behind_is_as_old_as_it_is(
    box: Box, times: Times, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """A box without a battery clock, before the network has told it the time."""
    keep(box, 30)
    times.ahead, times.ran = -60 * DAY, 30.0
    here = made(box, times)
    here.look()
    job_id = ended(box, times)
    times.pass_by(60)
    here.look()
    times.ahead = 0.0
    here = made(box, times) if restarted else here
    live(here, times, 5 * 3600)
    assert job_id in store.ids(box.database)
    assert abs((box.get(job_id).finished_at or 0) - (times.right - 5 * 3600)) < 120
    live(here, times, 29 * DAY, step=3600)
    assert job_id in store.ids(box.database)
    live(here, times, 2 * DAY, step=3600)
    assert job_id not in store.ids(box.database)


@pytest.mark.parametrize("by", [60 * DAY, 365 * DAY])
def test_a_clock_set_forward_by_mistake_removes_nothing(box: Box, times: Times, by: float) -> None:
    keep(box, 30)
    times.pass_by(-40 * DAY)  # before this run of the machine
    before = ended(box, times)
    times.pass_by(20 * DAY)
    times.ran = 20 * DAY
    here, since = made(box, times), ended(box, times)
    here.look()
    times.ahead = by
    live(here, times, DOUBT_SECONDS - 3600)
    times.ahead = 0.0
    live(here, times, 2 * 3600)
    assert {before, since} <= store.ids(box.database)


def test_what_ended_under_a_clock_that_was_ahead_does_not_stay_for_ever(box: Box, times: Times) -> None:
    keep(box, 30)
    times.ahead = 400 * DAY
    here = made(box, times)
    here.look()
    job_id = ended(box, times)
    times.pass_by(60)
    here.look()
    times.ahead = 0.0
    live(here, times, 31 * DAY, step=3600)
    assert job_id not in store.ids(box.database)


def test_a_clock_that_is_steered_is_not_one_that_was_set(box: Box, times: Times) -> None:
    clock = Clock(box.config.data / "clock", times.wall, times.lived, "this run")
    for _ in range(100):
        times.ahead += 30
        times.pass_by(5)
        assert clock.look() is None


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", '{"boot": "this run", "began": "x"}', '{"boot": "another", "began": 5}']
)
def test_what_is_kept_of_another_run_or_damaged_counts_for_nothing(tmp_path: Path, times: Times, kept: str) -> None:
    (tmp_path / "clock").write_text(kept)
    assert Clock(tmp_path / "clock", times.wall, times.lived, "this run").look() is None


def test_a_disk_that_takes_nothing_is_no_matter(tmp_path: Path, times: Times) -> None:
    clock = Clock(tmp_path / "none" / "clock", times.wall, times.lived, "this run")
    assert clock.look() is None
    times.ahead = 3600
    setting = clock.look()
    assert setting is not None
    assert round(setting.by) == 3600


def test_a_busy_database_is_asked_again_for_what_the_clock_did(
    box: Box, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, move, tries = made(box, times), store.move_ends, itertools.count()

    def busy_once(*arguments: object) -> None:
        if next(tries) == 0:
            raise StenoboxError("database_busy", "The database is busy.")
        move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "move_ends", busy_once)
    here.look()
    job_id = ended(box, times)
    times.ahead = -7200
    with pytest.raises(StenoboxError):
        here.look()
    here.look()
    assert abs((box.get(job_id).finished_at or 0) - times.wall()) < 5
    assert next(tries) == 2


def test_the_machines_own_time_passes() -> None:
    assert 0 < uptime() <= uptime()
    assert SWEEP_SECONDS == 3600
