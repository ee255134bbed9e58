"""What jobs cost: priors against measurements made elsewhere, and what this box's own jobs teach."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.costs import (
    ALIGNER,
    ALIGNMENT,
    BASE,
    CUDA,
    MIB,
    RECENT,
    VOICE_DETECTION,
    VOICE_DETECTOR,
    Kind,
    Record,
    estimate,
    gpu_estimate,
    gpu_prior,
    numbers,
    prior,
    windows,
)

# Resident MiB of faster-whisper alone (60 without a model): loaded, batch 1, batch 4. The table in the facts.
ALONE = 60
MEASURED = [
    ("tiny", "int8", 115, 216, 457),
    ("base", "int8", 190, 316, 624),
    ("small", "int8", 534, 708, 1184),
    ("medium", "int8", 1590, 1930, 2945),
    ("turbo", "int8", 1694, 1982, 2703),
    ("large-v3", "int8", 3162, 3703, 5301),
]


@pytest.mark.parametrize(("model", "compute_type", "loaded", "one", "four"), MEASURED)
def test_the_priors_are_the_measurements(model: str, compute_type: str, loaded: int, one: int, four: int) -> None:
    def recognition(batch: int) -> float:
        cost = prior(Kind(model, compute_type, batch, aligned=False))
        return ALONE + (cost.load + cost.job - VOICE_DETECTOR) / MIB

    cost = prior(Kind(model, compute_type, 1, aligned=False))
    assert ALONE + cost.load / MIB == pytest.approx(loaded, rel=0.01)
    assert recognition(1) >= one * 0.99  # more for the smallest models: the voice detector's peak is larger than theirs
    assert recognition(4) == pytest.approx(four, rel=0.05)


# With float32, steady after loading and the peak while loading, which must fit too.
@pytest.mark.parametrize(("model", "steady", "peak"), [("small", 1480, 2000), ("medium", 3940, 6052)])
def test_the_prior_of_float32_covers_the_peak_while_loading(model: str, steady: int, peak: int) -> None:
    loaded = ALONE + prior(Kind(model, "float32", 1, aligned=False)).load / MIB
    assert steady < loaded < peak


def test_the_aligner_is_shared_and_its_peak_counts_when_it_is_the_largest() -> None:
    with_words, without = prior(Kind("small", "int8", 1)), prior(Kind("small", "int8", 1, aligned=False))
    assert with_words.load - without.load == ALIGNER
    assert with_words.job > without.job
    many = Kind("large-v3", "int8", 16)
    assert prior(many).job == prior(replace(many, aligned=False)).job
    assert with_words.base == BASE


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("tiny.en", "tiny"),
        ("large-v2", "large"),
        ("large-v3-turbo", "large"),
        ("distil-small.en", "small"),
        ("distil-large-v3", "turbo"),
        ("our-own", "medium"),
        ("tinyish", "medium"),
    ],
)
def test_models_of_a_family_cost_the_same(name: str, same: str) -> None:
    assert prior(Kind(name, "int8", 4)) == prior(Kind(same, "int8", 4))


def test_an_unknown_compute_type_is_taken_for_the_largest() -> None:
    assert prior(Kind("small", "bfloat99", 1)) == prior(Kind("small", "float32", 1))


@pytest.mark.parametrize(
    ("batch", "seconds", "filled"),
    [(4, None, 4), (4, 1, 1), (4, 30, 1), (4, 31, 2), (4, 1e6, 4), (1, 90, 1), (4, 0, 1)],
)
def test_windows(batch: int, seconds: float | None, filled: int) -> None:
    assert windows(batch, seconds) == filled


def test_on_a_gpu_the_weights_are_float16_and_the_host_only_passes_them_on() -> None:
    """faster-whisper's benchmark of large-v2 with float16, in MB and perhaps MiB: V100S and RTX 3070 Ti, batch 8."""
    alone, eight = (Kind("large-v2", "float16", windows, aligned=False) for windows in (1, 8))
    total = [(cost.base + cost.load + cost.job) / MIB for cost in map(gpu_prior, (alone, eight))]
    assert total == [pytest.approx(4755, rel=0.06), pytest.approx(6090, rel=0.15)]
    assert total[1] > 6090
    host = prior(eight)
    assert host == prior(alone)
    assert host.load / MIB > 3244
    assert gpu_prior(eight).base == CUDA


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("tiny", 39e6), ("base", 74e6), ("small", 244e6), ("medium", 769e6), ("turbo", 809e6), ("large-v3", 1550e6)],
)
def test_weights_on_a_gpu_are_two_bytes_a_parameter(model: str, parameters: float) -> None:
    load = gpu_prior(Kind(model, "float16", 1, aligned=False)).load
    assert load == pytest.approx(2 * parameters, rel=0.07, abs=20 * MIB)


def test_what_the_host_gave_is_not_taken_for_the_gpus() -> None:
    kind = Kind("small", "float16", 16)
    measured = estimate(kind, [record(123, kind)])
    assert (measured.job, measured.records) == (123 * MIB, 1)
    assert (gpu_prior(kind).job > 123 * MIB, gpu_prior(kind).records) == (True, 0)


KIND = Kind("small", "int8", 4)


def record(job: int, kind: Kind = KIND, base: int = 700, load: int = 500) -> Record:
    return Record(kind, base * MIB, load * MIB, job * MIB)


def test_without_records_it_is_the_prior() -> None:
    assert estimate(KIND, []) == prior(KIND)


def test_after_three_jobs_of_a_kind_it_is_their_median() -> None:
    cost = estimate(KIND, [record(300), record(900), record(310)])
    assert (cost.base, cost.load, cost.job, cost.records) == (700 * MIB, 500 * MIB, 310 * MIB, 3)


def test_only_the_last_records_count() -> None:
    old = [record(900, base=900)] * 100
    assert estimate(KIND, [record(300)] * RECENT + old).job == 300 * MIB
    assert estimate(KIND, [record(300)] * RECENT + old).base == 700 * MIB


def test_a_neighbour_is_scaled_by_what_the_priors_say() -> None:
    """Jobs of one window took half of what was thought: so will jobs of four."""
    single = replace(KIND, windows=1)
    half = Record(single, BASE, 500 * MIB, prior(single).job // 2)
    cost = estimate(KIND, [half])
    assert cost.job == pytest.approx(prior(KIND).job / 2, rel=0.01)
    assert cost.records == 0  # none of its own kind
    assert cost.load == 500 * MIB


def test_its_own_records_win_over_neighbours() -> None:
    assert estimate(KIND, [record(2000, replace(KIND, windows=1)), record(300)]).job == 300 * MIB


@pytest.mark.parametrize(
    "other", [replace(KIND, model="base"), replace(KIND, compute_type="float32"), replace(KIND, aligned=False)]
)
def test_another_engine_teaches_only_the_base(other: Kind) -> None:
    cost = estimate(KIND, [record(9999, other, load=9999)])
    assert cost == replace(prior(KIND), base=700 * MIB)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=3, max_size=40))
def test_an_estimate_lies_within_what_was_measured(jobs: list[int]) -> None:
    cost = estimate(KIND, [record(job) for job in jobs])
    assert min(jobs) * MIB <= cost.job <= max(jobs) * MIB


@settings(deadline=None)
@given(
    st.sampled_from(["tiny", "base", "small", "medium", "turbo", "large-v3", "demo"]),
    st.sampled_from(["int8", "float16", "float32"]),
    st.integers(1, 16),
    st.booleans(),
)
def test_a_larger_batch_never_costs_less(model: str, compute_type: str, batch: int, aligned: bool) -> None:
    one, more = prior(Kind(model, compute_type, batch, aligned)), prior(Kind(model, compute_type, batch + 1, aligned))
    assert 0 < one.job <= more.job
    assert one.load == more.load


LARGE = 1205 * MIB
"""wav2vec2-large, which 37 of 41 languages have."""


def test_another_languages_aligner_counts_by_its_size() -> None:
    english, german = prior(KIND), prior(KIND, LARGE)
    assert german.load - english.load == LARGE - ALIGNER
    assert prior(replace(KIND, windows=1), LARGE).job >= 800 * MIB  # its peak over a window
    huge = prior(KIND, 3672 * MIB)
    assert huge.job > 2400 * MIB  # what it takes besides while it is loaded
    assert prior(replace(KIND, aligned=False), LARGE) == prior(replace(KIND, aligned=False))
    assert estimate(KIND, [], LARGE) == german
    on_gpu = replace(KIND, compute_type="float16")
    assert gpu_prior(on_gpu, LARGE).load - gpu_prior(on_gpu).load == LARGE - ALIGNER
    assert gpu_prior(on_gpu, LARGE).job > gpu_prior(on_gpu).job


def test_the_largest_aligner_that_was_in_the_engine_counts() -> None:
    english, german = record(300, load=900), record(300, load=1700)
    assert estimate(KIND, [english, german, english, english]).load == 1700 * MIB


def test_on_a_gpu_stages_add_up() -> None:
    """No pool there gives back what it had: the sum, not the largest."""
    kind = Kind("turbo", "float16", 4)
    recognition = gpu_prior(replace(kind, aligned=False)).job
    assert gpu_prior(kind).job == recognition + ALIGNMENT
    assert recognition > VOICE_DETECTION + VOICE_DETECTOR


def test_what_jobs_took_of_a_gpu_is_learnt_the_most_of_it() -> None:
    kind = Kind("turbo", "float16", 4)
    taken = [Record(kind, BASE, 0, 1, 4000 * MIB, job * MIB) for job in (900, 1300, 800)]
    cost = gpu_estimate(kind, [record(5, kind), *taken])
    assert (cost.base, cost.load, cost.job, cost.records) == (0, 4000 * MIB, 1300 * MIB, 3)
    other = gpu_estimate(replace(kind, windows=16), taken)
    assert (other.load, other.job, other.records) == (4000 * MIB, gpu_prior(replace(kind, windows=16)).job, 0)
    assert gpu_estimate(kind, [record(5, kind)]) == gpu_prior(kind)  # of a box that could not measure


def test_numbers_on_a_gpu_have_names_of_their_own() -> None:
    assert [numbers("cpu", "int8"), numbers("cuda", "int8"), numbers("cuda", "float16")] == [
        "int8",
        "cuda_int8",
        "float16",
    ]
    half, int8, full = (Kind("turbo", numbers("cuda", name), 4) for name in ("float16", "int8", "float32"))
    assert gpu_prior(int8).load < gpu_prior(half).load < gpu_prior(full).load
    assert gpu_prior(half).job < gpu_prior(full).job
    assert prior(int8) == prior(half)  # of the host
