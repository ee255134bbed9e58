"""What refused clients were told, so that each is told of a place of its own."""

from __future__ import annotations

import pytest

from tasks import promises
from tasks.capacity import UNPROVEN_SECONDS, Limits, Load, Request, decide, empty_seconds
from tasks.promises import BURST_SECONDS, GRACE_SECONDS, Promises


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(promises, "time", clock)
    return clock


def refuse(told: Promises, submitter: str, seconds: float = 60) -> int:
    """As a refusal does: how many places come before the one that was told."""
    before, _ = told.before(submitter, 1)
    told.give(submitter, seconds)
    return before


def test_a_burst_is_told_of_one_place_each(clock: Clock) -> None:
    told = Promises()
    assert [refuse(told, "") for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_promise_is_forgotten_when_its_time_has_come(clock: Clock) -> None:
    told = Promises()
    refuse(told, "a", 10)
    refuse(told, "b", 20)
    clock.now += 10 + GRACE_SECONDS + 0.1
    assert told.before("c", 1)[0] == 0  # b's is left, but nobody has come back so far
    assert len(told._due) == 1
    clock.now += 10
    assert told.before("c", 1)[0] == 0
    assert told._due == []


def test_submitters_take_turns(clock: Clock) -> None:
    told = Promises()
    for _ in range(100):
        refuse(told, "greedy")
    assert refuse(told, "first") == 1  # only the greedy one's first comes before
    assert refuse(told, "second") == 2
    assert refuse(told, "first") == 4  # after everybody's first, the greedy one's second
    assert refuse(told, "greedy") == 103


def test_a_loop_that_never_waits_does_not_push_its_own_time_away(clock: Clock) -> None:
    told = Promises()
    seen = []
    for _ in range(100):
        seen.append(refuse(told, "impatient", 300))
        clock.now += 1
    assert max(seen) <= BURST_SECONDS + 1
    assert told.before("patient", 1)[0] == 1


def test_one_that_was_admitted_leaves_its_promise_behind(clock: Clock) -> None:
    told = Promises()
    refuse(told, "a", 10)
    clock.now += 10
    assert told.before("a", 1)[0] == 0
    assert told.before("b", 1)[0] == 0


def test_so_many_and_no_more(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "MOST", 3)
    told = Promises()
    for name in "abcde":
        refuse(told, name)
    assert told.before("f", 1)[0] == 3  # those beyond were told no place of their own
    clock.now += 60 + GRACE_SECONDS + 0.1
    assert refuse(told, "f") == 0
    assert len(told._due) == 1
    assert set(told._of) == {"f"}


@pytest.mark.parametrize(("places", "until"), [(1, 40), (2, 30), (4, 10), (5, None), (0, None)])
def test_whose_job_must_end_first(clock: Clock, places: int, until: float | None) -> None:
    told = Promises()
    for number in range(4):
        refuse(told, str(number), 10 * (number + 1))
    assert told.before("next", places) == (4, until)


# Whether those who were told come back


class Full:
    """A box of one slot and seven places in line, by the promises alone: each job takes two seconds."""

    def __init__(self, clock: Clock, seconds: float = 2.0, slots: int = 1, places: int = 8) -> None:
        self.clock, self.seconds, self.told = clock, seconds, Promises()
        self.limits = Limits(slots, places - slots, 10**9, 3600)
        self.ends = [clock.now + seconds * (n // slots + 1) for n in range(places)]
        self.admitted = 0

    def load(self) -> Load:
        now = self.clock.now
        self.ends = [end for end in self.ends if end > now]
        running = tuple(end - now for end in self.ends[: self.limits.slots])
        waiting = len(self.ends) - len(running)
        return Load(0, waiting, len(running), self.seconds, running, (self.seconds,) * waiting)

    def ask(self, name: str) -> int | None:
        """None when there was a place; else what it was told."""
        load = self.load()
        if not load.active:
            self.told.forget()
        if load.active < self.limits.places:
            self.told.before(name, 0)
            begins = (
                max(self.clock.now, self.ends[-self.limits.slots])
                if load.active >= self.limits.slots
                else self.clock.now
            )
            self.ends.append(begins + self.seconds)
            return None
        promised, until = self.told.before(name, self.limits.places)
        request = Request(promised=promised, promised_until=until, proven=bool(self.told.share))
        refusal = decide(self.limits, load, request)
        assert refusal is not None
        assert refusal.retry_after is not None
        self.told.give(name, refusal.retry_after)
        return refusal.retry_after

    def empty(self) -> float:
        return empty_seconds(self.limits, self.load())


@pytest.mark.parametrize("one_address", [False, True])
@pytest.mark.parametrize("later", [0.0, 1.0, 5.0, 11.0])
def test_after_a_crowd_that_does_not_come_back_the_next_is_told_the_truth(
    clock: Clock, later: float, one_address: bool
) -> None:
    box = Full(clock)
    for number in range(500):
        box.ask("" if one_address else str(number))
    clock.now += later
    while len(box.load().waiting) < 7:  # somebody else takes the places that became free
        box.ends.append(box.ends[-1] + 2.0)
    told = box.ask("the next")
    assert told is not None
    assert told <= max(2 * box.empty(), 2)


def test_nobody_of_a_crowd_is_told_more_than_twice_the_time_to_empty_while_nobody_came_back(clock: Clock) -> None:
    box = Full(clock)
    assert max(box.ask(str(number)) or 0 for number in range(500)) <= max(2 * box.empty(), UNPROVEN_SECONDS)


def test_when_few_come_back_few_places_count(clock: Clock) -> None:
    told = Promises()
    for number in range(100):
        told.give(str(number), 10 + number / 10)
    for number in range(40):
        clock.now = 1010.0 + number / 10
        if number % 4 == 0:
            told.before(str(number), 0)
    clock.now += GRACE_SECONDS
    assert told.share == pytest.approx(0.25, abs=0.15)
    waiting = len(told._due)
    assert told.before("next", 1)[0] <= 0.45 * waiting


@pytest.mark.parametrize(("slots", "places"), [(1, 1), (1, 4), (2, 4)])
@pytest.mark.parametrize("one_address", [False, True])
def test_a_crowd_that_comes_back_gets_in_at_its_time(clock: Clock, slots: int, places: int, one_address: bool) -> None:
    """Fifteen at once, each waiting exactly as it was told."""
    box = Full(clock, 1.5, slots, places)
    due = [(clock.now, number) for number in range(15)]
    kept = broken = 0
    while due:
        due.sort()
        at, number = due.pop(0)
        clock.now = max(clock.now, at + 0.01)
        told = box.ask("" if one_address else str(number))
        returned = at > 1000.0
        kept, broken = kept + (told is None and returned), broken + (told is not None and returned)
        if told is not None:
            due.append((clock.now + told, number))
    assert kept / (kept + broken) >= 0.9
