"""How many jobs fit: the arithmetic line by line, and the concurrency guide's table beside it."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.costs import MIB, OWN, Cost, Kind, gpu_prior, prior
from tasks.machine import Bound
from tasks.slots import BATCHES, MOST_SLOTS, Plan, Vram, _plan, guide, plan

GIB = 2**30
MODELS = ("demo", "tiny", "base", "small", "medium", "turbo", "large-v3")


def cost(model: str, batch: int) -> Cost:
    return prior(Kind(model, "int8", batch))


def fits(model: str, gib: float, cpus: int = 8, device: str = "cpu") -> Plan:
    return plan(model, device, Bound("a test", round(gib * GIB)), cpus, partial(cost, model))


# The guide: memory of the platform, GB of a model's own copy, jobs by its rule (RAM - 2 GB) / model;
# then what one engine with shared weights, this box's arithmetic and priors hold.
GUIDE = [
    ("M1", 8, "tiny", 0.5, 12, 9),
    ("M1", 8, "medium", 2.0, 3, 3),
    ("M1", 8, "turbo", 2.5, 2, 4),
    ("2 GB", 2, "tiny", 0.5, 0, 0),
    ("2 GB", 2, "medium", 2.0, 0, 0),
    ("2 GB", 2, "turbo", 2.5, 0, 0),
    ("4 GB", 4, "tiny", 0.5, 4, 3),
    ("4 GB", 4, "medium", 2.0, 1, 1),
    ("4 GB", 4, "turbo", 2.5, 0, 1),
]


@pytest.mark.parametrize(("platform", "ram", "model", "copy", "by_rule", "shared"), GUIDE)
def test_the_guides_table(platform: str, ram: int, model: str, copy: float, by_rule: int, shared: int) -> None:
    assert guide(ram, copy) == by_rule
    assert fits(model, ram).maximum == shared


def test_the_lines_add_up() -> None:
    found = fits("small", 8)
    limit, *less, room, job, maximum, by_cpu = found.lines
    assert limit.value + sum(line.value for line in less) == room.value
    assert limit.text == "memory: a test"
    assert room.value // job.value == maximum.value == found.maximum
    assert min(maximum.value, by_cpu.value) == found.recommended
    assert [line.counted for line in found.lines] == [False] * 7 + [True, True]
    assert "estimate until a job has run" in job.text


def test_measured_costs_are_said_to_be_measured() -> None:
    measured = Cost(700 * MIB, 300 * MIB, 200 * MIB, records=3)
    found = plan("small", "cpu", Bound("a test", 4 * GIB), 8, lambda batch: measured)
    assert "from 3 of this box's jobs" in found.lines[6].text


@pytest.mark.parametrize(
    ("cpus", "recommended", "threads"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (8, 4, 2), (9, 4, 2), (64, 16, 4)]
)
def test_cpus_bound_what_is_recommended(cpus: int, recommended: int, threads: int) -> None:
    found = fits("tiny", 64, cpus)
    assert (found.maximum, found.recommended, found.threads) == (MOST_SLOTS, recommended, threads)


def test_memory_bounds_it_too_and_then_each_job_gets_more_threads() -> None:
    found = fits("medium", 6, cpus=16)
    assert found.recommended == found.maximum < 8
    assert found.threads == 16 // found.recommended


def test_a_smaller_batch_is_chosen_before_a_model_is_refused() -> None:
    sizes = {gib: fits("medium", gib).batch for gib in (4, 8)}
    assert sizes[8] == max(BATCHES["cpu"])
    assert 1 <= sizes[4] < sizes[8]
    assert fits("medium", 4).maximum == 1


@pytest.mark.parametrize(
    ("records", "room", "slots"), [(0, -100, 0), (1, -100, 1), (1, 99, 1), (1, 100, 1), (1, 200, 2), (1, -157, 0)]
)
def test_what_has_run_here_may_take_the_headroom_before_it_is_refused_for_ever(
    records: int, room: int, slots: int
) -> None:
    """A job takes 100 MiB; room is what is left for jobs, with a headroom of 256 MiB kept free."""
    known = Cost(700 * MIB, 100 * MIB, 100 * MIB, records)
    limit = known.base + known.load + OWN + (256 + room) * MIB
    found = plan("small", "cpu", Bound("a test", limit), 2, lambda batch: known)
    assert found.maximum == slots
    assert found.lines[-2].text == "jobs that fit in memory" + (", with the headroom" if slots and room < 100 else "")


def test_nothing_fits() -> None:
    found = fits("large-v3", 2)
    assert (found.maximum, found.recommended, found.batch) == (0, 0, 1)
    assert found.threads >= 1


def test_headroom_is_a_tenth_but_not_little() -> None:
    assert fits("tiny", 2).lines[1].value == -256 * MIB
    assert fits("tiny", 64).lines[1].value == -round(6.4 * GIB)
    assert fits("tiny", 64).lines[2].value == -OWN


def test_cuda_tries_larger_batches() -> None:
    assert fits("small", 24, device="cuda").batch == 16


def on_gpu(model: str, vram: float, ram: float = 64, cpus: int = 16) -> Plan:
    """vram and ram: GiB."""
    gpu = Vram(Bound("a GPU", round(vram * GIB)), lambda batch: gpu_prior(Kind(model, "float16", batch)))
    limit = Bound("a test", round(ram * GIB))
    return plan(model, "cuda", limit, cpus, lambda batch: prior(Kind(model, "float16", batch)), gpu)


def test_the_memory_of_a_gpu_has_lines_of_its_own_that_add_up() -> None:
    found = on_gpu("small", 8)
    assert [line.text for line in found.lines] == [
        "memory: a test",
        "less headroom",
        "less Stenobox itself",
        "less the speech engine",
        "less the model small, shared by all jobs",
        "room for jobs",
        f"one job, batch {found.batch} (an estimate until a job has run here)",
        "jobs that fit in memory",
        "GPU memory: a GPU",
        "less headroom",
        "less CUDA itself",
        "less the model small, shared by all jobs",
        "room for jobs in GPU memory",
        f"one job, batch {found.batch} (an estimate until a job has run here)",
        "jobs that fit in GPU memory",
        "jobs for 16 CPUs at 2 threads each",
    ]
    for block in (found.lines[:8], found.lines[8:15]):
        *before, room, job, fitting = block
        assert room.total
        assert room.value == sum(line.value for line in before)
        assert fitting.value == min(MOST_SLOTS, room.value // job.value)
    assert found.maximum == min(line.value for line in found.lines if line.text.startswith("jobs that fit"))


@pytest.mark.parametrize(
    ("vram", "ram", "cpus", "slots"),
    [(6, 64, 64, 1), (8, 64, 64, 2), (80, 4, 64, 4), (80, 64, 2, 1), (2, 64, 64, 0), (80, 1, 64, 0)],
)
def test_the_tightest_of_gpu_host_and_cpus_counts(vram: float, ram: float, cpus: int, slots: int) -> None:
    assert on_gpu("small", vram, ram, cpus).recommended == slots


def test_on_a_gpu_as_many_windows_at_once_as_can_be_and_then_as_few_jobs() -> None:
    for tenths in range(20, 400):
        found = on_gpu("medium", tenths / 10)
        others = [(n.recommended * n.batch, n.batch) for n in by_batch("medium", tenths / 10)]
        if found.recommended:
            assert (found.recommended * found.batch, found.batch) == max(others)
        else:
            assert found.batch == 1


def by_batch(model: str, vram: float) -> list[Plan]:
    """What each batch alone would come to."""
    found = []
    for batch in BATCHES["cuda"]:
        cost, gpu = prior(Kind(model, "float16", batch)), gpu_prior(Kind(model, "float16", batch))
        limit = Bound("a GPU", round(vram * GIB))
        alone = _plan(model, Bound("a test", 64 * GIB), 16, batch, cost, Vram(limit, lambda _, gpu=gpu: gpu))  # type: ignore[misc]
        found.append(alone)
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cpus", [2, 8, 64])
def test_more_memory_never_means_fewer_windows_at_once(model: str, cpus: int) -> None:
    def windows(found: Plan) -> int:
        return found.recommended * found.batch

    sizes = [tenths / 10 for tenths in range(2, 480, 2)]
    for plans in (
        [on_gpu(model, size, cpus=cpus) for size in sizes],
        [on_gpu(model, 80, ram=size, cpus=cpus) for size in sizes],
        [fits(model, size, cpus) for size in sizes],
        [fits(model, size, cpus, "cuda") for size in sizes],
    ):
        assert [windows(found) for found in plans] == sorted(windows(found) for found in plans)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 4 * GIB), min_size=4, max_size=4),
    st.floats(0.25, 128),
    st.floats(0, 64),
    st.integers(1, 64),
)
def test_nor_does_it_whatever_jobs_cost(jobs: list[int], gib: float, more: float, cpus: int) -> None:
    """Measured costs need not grow with the batch."""

    def windows(gib: float) -> int:
        costs = {batch: Cost(GIB, GIB, job) for batch, job in zip(BATCHES["cuda"], jobs, strict=True)}
        gpu = Vram(Bound("a GPU", round(gib * GIB)), costs.__getitem__)
        found = plan("small", "cuda", Bound("a test", round(gib * GIB)), cpus, costs.__getitem__, gpu)
        return found.recommended * found.batch

    assert windows(gib + more) >= windows(gib)


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.floats(0.25, 128), st.floats(0, 64), st.integers(1, 64))
def test_more_memory_never_means_fewer_slots_of_a_batch_nor_a_smaller_one(
    model: str, gib: float, more: float, cpus: int
) -> None:
    small, large = fits(model, gib, cpus), fits(model, gib + more, cpus)
    assert large.batch >= small.batch
    if large.batch == small.batch:
        assert large.maximum >= small.maximum
        assert large.recommended >= small.recommended


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.floats(0.25, 128), st.floats(0, 64), st.integers(1, 64))
def test_more_memory_never_means_fewer_slots(model: str, gib: float, more: float, cpus: int) -> None:
    assert fits(model, gib + more, cpus).recommended >= fits(model, gib, cpus).recommended


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.floats(0.25, 128), st.integers(1, 64))
def test_what_is_recommended_fits(model: str, gib: float, cpus: int) -> None:
    found = fits(model, gib, cpus)
    c = cost(model, found.batch)
    if found.recommended:
        assert OWN + c.base + c.load + found.recommended * c.job <= gib * GIB * 0.9 + 1
        assert found.recommended * found.threads <= max(cpus, found.recommended)


def test_what_other_programs_hold_of_a_gpu_is_not_ours() -> None:
    cost = Cost(0, GIB, GIB)
    alone, beside = (
        plan(
            "small",
            "cuda",
            Bound("a test", 64 * GIB),
            64,
            lambda _: cost,
            Vram(Bound("a GPU", 10 * GIB), lambda _: cost, others),
        )
        for others in (0, 3 * GIB)
    )
    assert alone.maximum - beside.maximum == 3
    assert [line.value for line in beside.lines if line.text == "less what other programs hold"] == [-3 * GIB]
    assert not [line for line in alone.lines if "other programs" in line.text]
