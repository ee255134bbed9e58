"""Admission as a table: limits, load and request on the left, the answer on the right."""

from __future__ import annotations

from dataclasses import replace as changed_load
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasks.capacity import (
    FIRST_GUESS_SECONDS,
    LONGEST_RETRY_AFTER,
    SPARE_BYTES,
    Limits,
    Load,
    Request,
    changed,
    decide,
    empty_seconds,
    first_limits,
    retry_after,
    starts_in,
    too_large,
)
from tasks.config import Config
from tasks.errors import StenoboxError


def limits(slots: int = 1, queue_limit: int = 2, max_bytes: int = 1000) -> Limits:
    return Limits(slots, queue_limit, max_bytes, 3600)


@pytest.mark.parametrize(
    ("limits", "load", "size", "code"),
    [
        (limits(), Load(), None, None),
        (limits(), Load(), 1000, None),
        (limits(), Load(), 0, None),
        (limits(), Load(), 1001, "too_large"),
        (limits(), Load(running=1, queued=1), 10, None),
        (limits(), Load(running=1, queued=2), 10, "queue_full"),
        (limits(), Load(queued=3), 10, "queue_full"),
        (limits(), Load(receiving=3), 10, "queue_full"),
        (limits(), Load(receiving=1, queued=1, running=1), None, "queue_full"),
        (limits(), Load(running=9), None, "queue_full"),  # limits were lowered while jobs ran
        (limits(queue_limit=0), Load(), None, None),
        (limits(queue_limit=0), Load(running=1), None, "queue_full"),
        (limits(slots=2, queue_limit=0), Load(running=1), None, None),
        (limits(), Load(running=1, queued=2), 1001, "too_large"),  # coming back would not help
    ],
)
def test_a_request_fits_or_is_refused(limits: Limits, load: Load, size: int | None, code: str | None) -> None:
    refusal = decide(limits, load, Request(size))
    assert (None if refusal is None else refusal.code) == code


def test_a_full_box_says_what_it_holds_and_when_to_come_back() -> None:
    refusal = decide(limits(), Load(receiving=1, queued=1, running=1, job_seconds=12), Request())
    assert refusal is not None
    assert refusal.message == "The box is full: 1 running, 2 waiting, room for 3. Try again in 12 s."
    assert refusal.retry_after == 12


def test_a_long_time_is_told_in_minutes() -> None:
    refusal = decide(limits(), Load(queued=3, waiting=(1000,) * 3), Request())
    assert refusal is not None
    assert refusal.message.endswith("Try again in 17 min.")


@pytest.mark.parametrize("load", [Load(guard="hold"), Load(queued=1, of_key=9)])
def test_a_promise_to_others_counts_only_where_a_place_is_what_is_missing(load: Load) -> None:
    refusal = decide(replace(limits(), per_key=9), load, Request(promised=50))
    assert refusal is not None
    assert refusal.code in ("memory_pressure", "key_limit")
    assert refusal.retry_after == FIRST_GUESS_SECONDS


def test_an_upload_that_is_too_large_names_the_limit_and_no_time() -> None:
    refusal = too_large(limits(max_bytes=2_000_000))
    assert "2,000,000 bytes" in refusal.message
    assert "Limits page" in refusal.message
    assert (refusal.code, refusal.param, refusal.retry_after) == ("too_large", "file", None)


@pytest.mark.parametrize(
    ("limits", "load", "seconds"),
    [
        (limits(), Load(receiving=3), FIRST_GUESS_SECONDS),  # nothing measured, nothing known of what arrives
        (limits(), Load(receiving=3, job_seconds=10.1), 11),
        (limits(), Load(queued=3, waiting=(10, 10, 10)), 10),
        (limits(), Load(running=1, queued=2, remaining=(4,), waiting=(10, 10)), 4),
        (limits(), Load(running=1, queued=3, remaining=(4,), waiting=(10, 10, 10)), 14),  # one too many already
        (limits(slots=2), Load(running=2, queued=2, remaining=(50, 3), waiting=(10, 10)), 3),
        (limits(), Load(queued=3, waiting=(0.01,) * 3), 1),
        (limits(), Load(queued=3, waiting=(1000,) * 3), 1000),
        (limits(), Load(queued=3, waiting=(4000,) * 3), LONGEST_RETRY_AFTER),
        (limits(), Load(queued=3, waiting=(10, 10, 10), slack=1.25), 13),
    ],
)
def test_the_time_to_come_back_is_when_a_place_will_be_free(limits: Limits, load: Load, seconds: float) -> None:
    assert retry_after(limits, load) == seconds


@pytest.mark.parametrize(
    ("limits", "load", "promised", "seconds"),
    [
        (limits(), Load(queued=3, waiting=(10, 10, 10)), 2, 30),
        (limits(), Load(queued=3, waiting=(10, 10, 10), job_seconds=7), 3, 37),
        (limits(slots=2), Load(running=2, queued=2, remaining=(5, 5), waiting=(9, 9), job_seconds=7), 6, 28),
    ],
)
def test_those_who_were_told_of_a_place_will_be_jobs_too(
    limits: Limits, load: Load, promised: int, seconds: float
) -> None:
    assert retry_after(limits, load, promised) == seconds
    assert decide(limits, load, Request(promised=promised)).retry_after == seconds  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("slots", "queue_limit", "seconds"),
    [(1, 0, 20 + 10), (2, 0, 20 + 10), (1, 3, 20 + 40), (2, 2, 20 + 20)],
)
def test_a_client_that_was_told_keeps_its_place_for_a_round_from_when_it_comes(
    slots: int, queue_limit: int, seconds: float
) -> None:
    busy = Load(running=slots, queued=queue_limit, remaining=(1,) * slots, waiting=(1,) * queue_limit, job_seconds=10)
    assert retry_after(limits(slots, queue_limit), busy, 1, 20.0) == seconds


def test_the_margin_grows_with_the_root_of_the_number_of_jobs() -> None:
    load = Load(queued=3, waiting=(100, 100, 100), job_seconds=100, slack=1.5)
    assert [retry_after(limits(), load, promised) for promised in (0, 3, 15)] == [150, 500, 1800]


counts = st.integers(0, 1000)


@settings(deadline=None)
@given(
    st.integers(1, 16),
    counts,
    st.builds(Load, counts, counts, counts, st.none() | st.floats(0, 1e6)),
    st.none() | st.integers(0, 2000),
)
def test_whatever_the_load_a_request_fits_only_below_the_limit_and_is_told_at_most_an_hour(
    slots: int, queue_limit: int, load: Load, size: int | None
) -> None:
    refusal = decide(limits(slots, queue_limit), load, Request(size))
    assert (refusal is None) == (load.active < slots + queue_limit and (size or 0) <= 1000)
    if refusal is not None and refusal.code == "queue_full":
        assert isinstance(refusal.retry_after, int)
        assert 1 <= refusal.retry_after <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    ("slots", "load", "position", "starts"),
    [
        (1, Load(queued=1, waiting=(10,)), 1, None),
        (1, Load(queued=1, waiting=(10,), job_seconds=10), 1, 0),
        (1, Load(running=1, queued=1, remaining=(7,), waiting=(10,), job_seconds=10), 1, 7),
        (2, Load(running=1, queued=1, remaining=(90,), waiting=(10,), job_seconds=10), 1, 0),  # the free slot
        (2, Load(running=2, queued=2, remaining=(5, 9), waiting=(10, 20), job_seconds=10), 2, 9),
        (1, Load(running=3, queued=1, remaining=(5, 9, 2), waiting=(10,), job_seconds=10), 1, 9),  # slots lowered
        (2, Load(running=2, remaining=(5, 9), waiting=(10,), behind=3, behind_seconds=90, job_seconds=10), 3, 22),
        (1, Load(job_seconds=10), 1, None),  # it has just started
    ],
)
def test_a_place_in_line_has_an_estimate_once_a_job_was_measured(
    slots: int, load: Load, position: int, starts: float | None
) -> None:
    """The work in line before it is 30 seconds; that counts beyond those that are looked at one by one."""
    assert starts_in(limits(slots), load, position, 30) == starts


def test_what_a_key_has_to_wait_for_is_the_first_of_its_own_jobs() -> None:
    full = replace(limits(slots=2, queue_limit=9), per_key=2)
    busy = Load(running=2, queued=2, remaining=(500, 40), waiting=(100, 100), of_key=2, job_seconds=7)

    def told(load: Load) -> int | None:
        refusal = decide(full, load, Request())
        assert refusal is not None
        return refusal.retry_after

    assert told(changed_load(busy, key_left=500)) == 500  # not 40, when another's is done
    assert told(changed_load(busy, key_ahead=200)) == (500 + 40 + 200) / 2
    assert told(changed_load(busy, key_left=500, key_ahead=200)) == 370


def test_jobs_that_are_only_summed_up_count_with_their_work() -> None:
    load = Load(queued=100, waiting=(10,) * 64, behind=36, behind_seconds=3600, job_seconds=10)
    assert retry_after(limits(queue_limit=99), load, 63) == 640
    assert retry_after(limits(queue_limit=99), load, 81) == 640 + 18 * 100
    assert empty_seconds(limits(queue_limit=99), load) == 640 + 3600


OPEN = limits()


@pytest.mark.parametrize(
    ("limits", "load", "request_", "code", "status", "waits"),
    [
        (OPEN, Load(), Request(model="large-v3", fits="small"), "never_fits", 422, False),
        (replace(OPEN, intake="paused"), Load(), Request(), "paused", 503, True),
        (replace(OPEN, intake="draining"), Load(), Request(), "draining", 503, True),
        (replace(OPEN, intake="paused"), Load(), Request(2000), "too_large", 413, False),
        (OPEN, Load(), Request(10, disk_free=SPARE_BYTES + 9), "disk_full", 507, True),
        (OPEN, Load(), Request(10, disk_free=SPARE_BYTES + 10), None, 0, False),
        (OPEN, Load(guard="hold"), Request(), "memory_pressure", 429, True),
        (OPEN, Load(guard="unload"), Request(), "memory_pressure", 429, True),
        (OPEN, Load(guard="stop"), Request(), "memory_pressure", 429, True),
        (replace(OPEN, per_key=2), Load(queued=2, of_key=2), Request(), "key_limit", 429, True),
        (replace(OPEN, per_key=2), Load(queued=2, of_key=1), Request(), None, 0, False),
        (replace(OPEN, fail_fast=True), Load(running=1), Request(), "queue_full", 429, True),
        (replace(OPEN, fail_fast=True), Load(), Request(), None, 0, False),
    ],
)
def test_every_refusal_has_its_code_status_and_a_time_where_waiting_helps(
    limits: Limits, load: Load, request_: Request, code: str | None, status: int, waits: bool
) -> None:
    refusal = decide(limits, load, request_)
    if code is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert (refusal.code, refusal.kind.status) == (code, status)
        assert (refusal.retry_after is not None) == waits


def test_a_model_that_never_fits_is_told_with_one_that_does() -> None:
    told = decide(OPEN, Load(), Request(model="large-v3", fits="small"))
    assert told is not None
    assert "large-v3 does not fit" in told.message
    assert "The largest that fits is small." in told.message
    none = decide(OPEN, Load(), Request(model="tiny", fits=""))
    assert none is not None
    assert "No model fits" in none.message


def test_the_first_limits_are_the_operators(tmp_path: Path) -> None:
    named = Config(data=tmp_path, queue_limit=5, max_bytes=7, max_seconds=9, model="small")
    assert first_limits(named, 3) == Limits(3, 5, 7, 9, model="small")
    assert first_limits(named, 0).slots == 1  # even where the arithmetic says that nothing fits


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("slots", "3", 3),
        ("fail_fast", "true", True),
        ("max_seconds", "60", 60.0),
        ("intake", "paused", "paused"),
        ("keep_days", 0.5, 0.5),
    ],
)
def test_a_setting_takes_text_and_numbers(name: str, value: object, result: object) -> None:
    assert changed(OPEN, {name: value}) == {name: result}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slots", 17),
        ("slots", "many"),
        ("queue_limit", -1),
        ("intake", "shut"),
        ("fail_fast", "perhaps"),
        ("model", ""),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(StenoboxError, match=name) as caught:
        changed(OPEN, {name: value})
    assert (caught.value.code, caught.value.param) == ("invalid_value", name)


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    with pytest.raises(StenoboxError, match=r"no setting 'slot'.*slots, queue_limit") as caught:
        changed(OPEN, {"slot": 1})
    assert caught.value.code == "unknown_field"


def test_active_is_everything_that_holds_a_place() -> None:
    assert Load(receiving=1, queued=2, running=4).active == 7
