"""When an engine is taken for hung, and that a slow box never is: signs in, a verdict out, no process and no clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support import wait_until

from tasks.engine.patience import PATIENCE, Allowed, Deadline, Signs, Verdict, Vigil, allow, look
from tasks.errors import StenoboxError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
JOB = Allowed(step=2 * HOUR, job=DAY)


@dataclass
class Engine:
    """What is going on in an engine. beats: whether Python runs; cpu: share of a CPU it uses; pages: read a second."""

    beats: bool = True
    cpu: float = 0.005
    pages: float = 0.0
    progress: float | None = None
    """Seconds between two signs of progress of request 1."""


class Life:
    """An engine's life as its vigil sees it, a second at a time."""

    def __init__(self, *, loaded: bool = True) -> None:
        self.vigil = Vigil()
        self.cpu, self.pages, self.seconds = 0.0, 0.0, 0
        if loaded:
            self.vigil.ready()

    def live(self, seconds: float, engine: Engine, elapsed: float = 1.0) -> tuple[float, Verdict] | None:
        """The verdict and after how many seconds it came; None when none came."""
        for second in range(int(seconds)):
            self.seconds += 1
            self.cpu += engine.cpu
            self.pages += engine.pages
            if engine.beats:
                self.vigil.beat()
            if engine.progress and self.seconds % engine.progress == 0:
                self.vigil.progressed(1)
            # The kernel counts CPU time in hundredths of a second.
            if verdict := self.vigil.tick(elapsed, Signs(round(self.cpu, 2), int(self.pages))):
                return second, verdict
        return None


SLOW: dict[str, Engine] = {
    "a long file on a small computer: a step of two hours": Engine(cpu=3.9, progress=2 * HOUR - 1),
    "a shared CPU of Fly, throttled": Engine(cpu=0.06, progress=1.9 * HOUR),
    "a step that is quick": Engine(cpu=1.0, progress=5),
    "pages that were swapped out, also those of the beat": Engine(
        beats=False, cpu=0.001, pages=40, progress=20 * MINUTE
    ),
    "an aligner from a slow disk": Engine(cpu=0.01, pages=500, progress=HOUR),
    "a GPU that works for its job alone": Engine(cpu=0.005, progress=2 * MINUTE),
}


@pytest.mark.parametrize("name", list(SLOW))
def test_a_slow_box_is_not_hung(name: str) -> None:
    life = Life()
    life.vigil.began(1, JOB)
    assert life.live(5 * HOUR, SLOW[name]) is None


@pytest.mark.parametrize(
    "engine",
    [
        Engine(beats=False, cpu=0.05, pages=1000),  # the libraries of a GPU, from a network disk
        Engine(cpu=0.1, pages=30),
        Engine(beats=False, cpu=1.0),  # weights are converted
    ],
)
def test_a_model_that_is_slow_to_load_is_not_hung(engine: Engine) -> None:
    life = Life(loaded=False)
    life.vigil.began(1, JOB)
    assert life.live(55 * MINUTE, engine) is None
    life.vigil.ready()
    assert life.live(2 * MINUTE, Engine()) is None  # and starts afresh


HUNG: dict[str, tuple[Engine, float, str]] = {
    "stopped, or Python's lock is kept": (Engine(beats=False, cpu=0.0), PATIENCE.silent, "gave no sign of life"),
    "Python's lock is kept in an endless loop": (Engine(beats=False, cpu=1.0), PATIENCE.silent, "gave no sign of life"),
    "a deadlock in native code": (Engine(), PATIENCE.idle, "did nothing for 5 min"),
    "an endless loop in native code": (Engine(cpu=1.0), JOB.step, "got no further for 2 h"),
}


@pytest.mark.parametrize("name", list(HUNG))
def test_each_kind_of_hang_is_found(name: str) -> None:
    engine, after, how = HUNG[name]
    life = Life()
    life.vigil.began(1, JOB)
    assert life.live(10 * MINUTE, Engine(cpu=1.0, progress=10)) is None
    found = life.live(DAY, engine)
    assert found is not None
    seconds, verdict = found
    assert verdict.guilty == {1}
    assert verdict.how.startswith(how)
    assert after <= seconds + 1 <= after + 25  # a bucket, and the last sign of progress


@pytest.mark.parametrize(
    ("engine", "after", "how"),
    [
        (Engine(beats=True), PATIENCE.idle, "did nothing for 5 min while it loaded its model"),
        (Engine(beats=False, cpu=0.0), PATIENCE.idle, "did nothing for 5 min while it loaded its model"),
        (Engine(cpu=1.0), PATIENCE.loading, "had not loaded its model after 60 min"),
    ],
)
def test_a_model_that_is_never_there(engine: Engine, after: float, how: str) -> None:
    life = Life(loaded=False)
    life.vigil.began(1, JOB)
    found = life.live(DAY, engine)
    assert found is not None
    assert (found[1].guilty, found[1].how) == ({1}, how)
    assert after <= found[0] + 1 <= after + 25


def test_only_the_request_that_gets_no_further_is_guilty() -> None:
    """A hang in native code beside one that goes on: then the CPU says nothing, and the step does."""
    life = Life()
    life.vigil.began(1, JOB)
    life.vigil.began(2, Allowed(HOUR, DAY))
    found = life.live(DAY, Engine(cpu=1.0, progress=10))
    assert found is not None
    assert found[1].guilty == {2}
    assert found[0] == pytest.approx(HOUR, abs=2)


def test_of_those_that_do_nothing_all_may_be() -> None:
    life = Life()
    life.vigil.began(1, JOB)
    life.vigil.began(2, JOB)
    found = life.live(DAY, Engine())
    assert found is not None
    assert found[1].guilty == {1, 2}


def test_one_that_waits_for_us_does_nothing_and_is_not_to_blame() -> None:
    """For the download of an aligner, which may take hours."""
    life = Life()
    life.vigil.began(1, JOB)
    life.vigil.progressed(1, waiting=True)
    assert life.live(3 * HOUR, Engine()) is None
    life.vigil.progressed(1)
    found = life.live(DAY, Engine())
    assert found is not None
    assert found[1].guilty == {1}
    life.vigil.progressed(1, waiting=True)
    stopped = life.live(DAY, Engine(beats=False))
    assert stopped is not None
    assert stopped[1].guilty == frozenset()


def test_an_engine_without_work_rests_but_has_to_beat() -> None:
    life = Life()
    life.vigil.began(1, JOB)
    life.vigil.ended(1)
    life.vigil.progressed(1)  # its last word came late
    assert life.live(HOUR, Engine(cpu=0.0)) is None
    found = life.live(DAY, Engine(beats=False, cpu=0.0))
    assert found is not None
    assert found[1].guilty == frozenset()


def test_time_in_which_we_were_frozen_ourselves_does_not_count() -> None:
    """A suspended machine, a paused container: the worker wakes up first, and hours have passed."""
    life = Life()
    life.vigil.began(1, JOB)
    assert life.live(20, Engine(beats=False, cpu=0.0), elapsed=12 * HOUR) is None


def test_a_process_that_has_just_gone_is_for_others_to_explain() -> None:
    life = Life()
    life.vigil.began(1, JOB)
    assert all(life.vigil.tick(1.0, None) is None for _ in range(1000))


class TestWhatAJobGets:
    def test_before_anything_is_known_as_on_the_slowest_box(self) -> None:
        hour = allow(HOUR, 4, None)
        assert hour.step == 2 * HOUR  # two minutes of sound at a sixtieth of real time
        assert hour.job == 61 * HOUR

    def test_then_twenty_times_what_it_has_been(self) -> None:
        assert allow(HOUR, 4, 2.0) == Allowed(80 * MINUTE, 41 * HOUR)

    @pytest.mark.parametrize("factor", [0.0, 0.01, 0.5])
    def test_and_never_too_little(self, factor: float) -> None:
        assert allow(10, 4, factor).step == PATIENCE.step == 30 * MINUTE
        assert allow(10, 4, factor).job >= HOUR

    def test_a_short_recording_is_one_step(self) -> None:
        assert allow(45, 16, 10.0).step == 45 * 200


class TestDeadline:
    def deadline(self, allowed: Allowed) -> tuple[list[float], Callable[[], None]]:
        now = [1000.0]
        deadline = Deadline(allowed, lambda: now[0])
        return now, deadline.check

    def test_all_of_its_time(self) -> None:
        now, check = self.deadline(Allowed(step=HOUR, job=2.5 * HOUR))
        for _ in range(2):
            now[0] += HOUR
            check()
        now[0] += HOUR
        with pytest.raises(StenoboxError, match="It was worked on for 3 h, longer than a recording") as caught:
            check()
        assert caught.value.code == "timed_out"

    def test_a_gap_in_which_all_was_frozen_is_one_step(self) -> None:
        now, check = self.deadline(Allowed(step=10 * MINUTE, job=HOUR))
        now[0] += 3 * DAY
        check()


def test_the_signs_of_a_real_process() -> None:
    here = look(os.getpid())
    assert here is not None
    assert here.cpu > 0
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        wait_until(lambda: (signs := look(child.pid)) and signs.cpu > 0.1, 30)
    finally:
        child.kill()
        child.wait()
    assert look(child.pid) is None
