"""Who guesses waits, who knows comes in, and nobody waits for ever."""

from __future__ import annotations

import pytest

from tasks import throttle
from tasks.throttle import FREE, FREE_OF_ALL, LONGEST, LONGEST_OF_ALL, WINDOW_SECONDS, Try, party, seconds_to_wait

NOW = 1_000_000.0


def failures(number: int, address: str = "a", at: float = NOW) -> list[Try]:
    return [Try(at, address, False)] * number


def test_a_few_mistakes_cost_nothing() -> None:
    assert seconds_to_wait([], "a", NOW) <= 0
    assert seconds_to_wait(failures(FREE - 1), "a", NOW) <= 0


def test_the_wait_doubles_with_each_failure_up_to_a_minute() -> None:
    waits = [seconds_to_wait(failures(FREE + number), "a", NOW) for number in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]
    assert seconds_to_wait(failures(100_000), "a", NOW) == LONGEST


def test_the_wait_passes_and_old_failures_are_forgotten() -> None:
    assert seconds_to_wait(failures(FREE), "a", NOW + 0.25) == 0.75
    assert seconds_to_wait(failures(FREE), "a", NOW + 1) <= 0
    assert seconds_to_wait(failures(50), "a", NOW + WINDOW_SECONDS) <= 0


def test_one_address_does_not_make_another_wait() -> None:
    assert seconds_to_wait(failures(50), "b", NOW) <= 0


def test_guesses_from_everywhere_slow_strangers_but_nobody_who_was_here() -> None:
    tries = [Try(NOW, f"10.0.{n // 256}.{n % 256}", False) for n in range(FREE_OF_ALL * 5)]
    assert seconds_to_wait(tries, "new", NOW) == LONGEST_OF_ALL
    assert seconds_to_wait([Try(NOW - 86_400, "owner", True), *tries], "owner", NOW) <= 0


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    assert seconds_to_wait(failures(50, at=NOW + 10**6), "a", NOW) <= LONGEST


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_who_is_taken_for_one(address: str, whose: str) -> None:
    assert party(address) == whose
    assert throttle.KNOWN_SECONDS > WINDOW_SECONDS
