"""What a job is said to have needed: with numbers given by hand, then with real memory."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import wait_until

from tasks.engine import meter as module
from tasks.engine.meter import Meter, Metered, Usage, mapped, own, resident

MIB = 2**20


class Memory:
    """This process's memory, in MiB, as the meter sees it."""

    def __init__(self) -> None:
        self.resident, self.own = 900, 500

    def grow(self, mib: int) -> None:
        self.resident += mib
        self.own += mib


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    monkeypatch.setattr(module, "resident", lambda: memory.resident * MIB)
    monkeypatch.setattr(module, "own", lambda: memory.own * MIB)
    return memory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The meter's own clock; moved by hand."""
    clock = SimpleNamespace(now=1000.0, sleep=time.sleep)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def meter(memory: Memory, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Of an engine with 900 MiB of libraries, 500 of them its own, and a model of 70. Looks only when told to."""
    monkeypatch.setattr(Meter, "_sample", lambda self: None)
    meter = Meter()
    meter.imported()
    memory.grow(70)
    meter.loaded()
    return meter


def used(meter: Meter, job: Metered) -> tuple[int, int]:
    """MiB of the job's own, and the jobs beside it."""
    usage = meter.usage(job)
    return usage.job // MIB, usage.beside


def test_a_job_alone(meter: Meter, memory: Memory, clock: SimpleNamespace) -> None:
    job = Metered()
    with meter.metering(job):
        memory.grow(130)
        meter.look()
        memory.grow(-100)
        meter.look()
        clock.now += 2.34567
    assert meter.usage(job) == Usage(base=900 * MIB, load=70 * MIB, job=130 * MIB, beside=0, seconds=2.346)


def test_the_end_is_looked_at_too(meter: Meter, memory: Memory) -> None:
    job = Metered()
    with meter.metering(job):
        memory.grow(130)
    assert used(meter, job) == (130, 0)


def test_two_at_once_share(meter: Meter, memory: Memory) -> None:
    one, two = Metered(), Metered()
    with meter.metering(one):
        memory.grow(50)
        meter.look()
        with meter.metering(two):
            memory.grow(150)
            meter.look()
        memory.grow(-150)
    assert used(meter, one) == (100, 1)
    assert used(meter, two) == (100, 1)


def test_the_most_it_had_alone_counts_although_another_came_later(meter: Meter, memory: Memory) -> None:
    one, two = Metered(), Metered()
    with meter.metering(one):
        memory.grow(130)
        meter.look()
        memory.grow(-110)
        with meter.metering(two):
            meter.look()
    assert used(meter, one) == (130, 1)
    assert used(meter, two) == (10, 1)


def test_one_after_the_other_share_nothing(meter: Meter, memory: Memory) -> None:
    one, two = Metered(), Metered()
    with meter.metering(one):
        memory.grow(130)
    memory.grow(-130)
    with meter.metering(two):
        memory.grow(40)
    assert [used(meter, job) for job in (one, two)] == [(130, 0), (40, 0)]


def test_loading_counts_as_load(meter: Meter, memory: Memory) -> None:
    job = Metered()
    with meter.metering(job):
        memory.grow(30)
        meter.look()
        with meter.loading():
            memory.grow(364)
            meter.look()  # the sampler looks at any time
        meter.look()
    assert meter.usage(job).load == (70 + 364) * MIB
    assert used(meter, job) == (30, 0)


def test_what_replaces_another_adds_only_the_difference(meter: Meter, memory: Memory) -> None:
    job = Metered()
    with meter.metering(job):
        with meter.loading():
            memory.grow(364)
        with meter.loading():
            memory.grow(364)
            memory.grow(-300)
    assert meter.usage(job).load == (70 + 364 + 64) * MIB
    assert used(meter, job) == (0, 0)


def test_loading_that_fails_is_no_load_and_the_meter_goes_on(meter: Meter, memory: Memory) -> None:
    job = Metered()
    with meter.metering(job):
        with pytest.raises(OSError, match="gone"), meter.loading():
            raise OSError("gone")
        memory.grow(20)
    assert meter.usage(job).load == 70 * MIB
    assert used(meter, job) == (20, 0)


def test_less_than_at_the_start_is_nothing(meter: Meter, memory: Memory) -> None:
    """The allocator may give back what the libraries had needed for their own start."""
    job = Metered()
    with meter.metering(job):
        memory.grow(-200)
        with meter.loading():
            memory.grow(-10)
    assert meter.usage(job).load == 70 * MIB
    assert used(meter, job) == (0, 0)


def test_a_job_that_fails_is_forgotten(meter: Meter, memory: Memory, clock: SimpleNamespace) -> None:
    failed, job = Metered(), Metered()

    def fail() -> None:
        clock.now += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), meter.metering(failed):
        fail()
    assert meter.usage(failed).seconds == 1.0
    with meter.metering(job):
        memory.grow(40)
    assert used(meter, job) == (40, 0)


def test_mapped_weights_are_load_too(meter: Meter, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers maps an aligner from its file: no memory of the process's own, and no job can do without."""
    job = Metered()
    with meter.metering(job):
        with meter.loading():
            memory.grow(30)
            monkeypatch.setattr(module, "mapped", lambda: 1200 * MIB)
        memory.grow(10)
    assert meter.usage(job).load == (70 + 30 + 1200) * MIB
    assert used(meter, job) == (10, 0)
    assert meter.most() == (500 + 70 + 30 + 10 + 1200) * MIB


def test_what_a_gpu_holds_is_shared_among_the_largest_crowd(
    memory: Memory, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "_sample", lambda self: None)
    held = SimpleNamespace(now=0)
    meter = Meter(lambda: held.now * MIB)
    meter.imported()
    held.now = 3000
    meter.loaded()
    one, two, three = Metered(), Metered(), Metered()
    with meter.metering(one), meter.metering(two):
        with meter.loading():
            held.now = 3400
        held.now = 4600
        meter.look()
    with meter.metering(three):  # alone, in pools that two have made
        meter.look()
    for job in (one, two, three):
        assert (meter.usage(job).gpu_load // MIB, meter.usage(job).gpu_job // MIB) == (3400, 600)


class TestReally:
    """This process's own memory, and the thread that looks."""

    @pytest.fixture
    def meter(self, monkeypatch: pytest.MonkeyPatch) -> Meter:
        """It looks fifty times as often as it would."""
        monkeypatch.setattr(module, "TICK_SECONDS", module.TICK_SECONDS / 50)
        meter = Meter()
        meter.imported()
        return meter

    def test_what_came_and_went_between_start_and_end_is_seen(self, meter: Meter) -> None:
        meter.loaded()
        job = Metered()
        with meter.metering(job):
            ballast = bytearray(100 * MIB)  # zeroed by the kernel: not in memory until touched
            ballast[::4096] = b"x" * (len(ballast) // 4096)
            wait_until(lambda: job.peak > 80 * MIB, 10)
            del ballast
        usage = meter.usage(job)
        assert 80 * MIB < usage.job < 200 * MIB
        assert usage.base > 10 * MIB
        assert 0 < usage.seconds < 120

    def test_idle_it_sleeps(self, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[int] = []
        monkeypatch.setattr(meter, "look", lambda: looks.append(1))
        meter.loaded()
        time.sleep(0.05)
        assert looks == []
        with meter.metering(Metered()):
            wait_until(lambda: len(looks) > 3, 10)

        def still() -> bool:
            before = len(looks)
            time.sleep(0.1)
            return len(looks) == before

        wait_until(still)

    def test_own_is_without_files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        if Path("/proc/self/status").exists():
            assert MIB < own() < resident()
        monkeypatch.setattr(module, "_STATUS", tmp_path / "none")
        assert own() == pytest.approx(resident(), rel=0.1)


def test_a_file_of_weights_that_is_mapped_is_seen(tmp_path: Path) -> None:
    import mmap

    before = mapped()
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(5 * MIB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert mapped() - before == 5 * MIB
    assert mapped() == before


def test_waiting_is_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 103.0, 110.0, 112.0])  # began, waited from 103 to 110, ended
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    job = Metered()
    job.began = module.time.monotonic()
    with job.waiting():
        pass
    job.ended()
    assert job.seconds == 5.0
