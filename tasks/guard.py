"""The pressure guard: what to do as memory runs out, before the kernel does it. Pure: readings in, a level out.

    calm ──> hold ──> unload ──> stop      one step at a time, each given a few seconds to help
      ^────────┴────────┴─────────┘        back to what is still called for, once that has been quiet for a while

It goes up at a level's own signs and comes down only well below them, so that it doesn't flap.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

from tasks.costs import MIB
from tasks.store import Sample

SWAP_SECONDS = 30.0
"""Swap grows when it does so over this time."""
KILL_SECONDS = 15.0
"""How long an OOM kill counts: it freed memory, so nothing else may show."""
STEP_SECONDS = 3.0
"""What each level gets to help before the next one is tried."""
STOP_SECONDS = 10.0
"""What the stop of one job gets before another job is stopped."""
IDLE_SECONDS = 15.0
"""With nothing running, holding alone frees nothing: after this long the idle engine leaves too."""
QUIET_SECONDS = 10.0
"""How long things must have been better before the guard believes it."""


class Level(IntEnum):
    """What the guard does; each level does what those before it do too."""

    CALM = 0
    HOLD = 1
    """No job starts, and none is taken."""
    UNLOAD = 2
    """An engine that nothing uses leaves now."""
    STOP = 3
    """The newest running job is stopped and put back in line, uncharged."""

    @property
    def word(self) -> str:
        """As samples and `capacity.Load` have it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Signs:
    """What calls for a level; any of them does. used: share of the memory limit; stalled: share of time in which work
    waited for memory; swap: bytes by which swap grew in SWAP_SECONDS."""

    used: float
    stalled: float
    swap: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """used_at_least: below this share, stalls and swap are other programs' trouble. ease: how much lower `used` must
    be before a level is left; stalls and swap must have halved."""

    hold: Signs = Signs(0.92, 0.10, 64 * MIB)
    unload: Signs = Signs(0.94, 0.30, 256 * MIB)
    stop: Signs = Signs(0.97, 0.60, 1024 * MIB)
    used_at_least: float = 0.8
    ease: float = 0.04


THRESHOLDS = Thresholds()


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine now. at: seconds of a clock that only goes forward; used: share of the memory limit in use;
    stalled: share of time, None where the kernel doesn't tell; swapped: bytes; running: jobs."""

    at: float
    used: float
    stalled: float | None = None
    swapped: int = 0
    oom_kills: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Guard:
    """The state. since: when the level was entered, or its action last repeated; quiet_since: since when things have
    been better than the level, None if they aren't; the rest is what readings are compared with."""

    level: Level = Level.CALM
    since: float = 0.0
    quiet_since: float | None = None
    swapped: tuple[tuple[float, int], ...] = ()
    oom_kills: int | None = None
    killed_at: float | None = None


def step(guard: Guard, reading: Reading, thresholds: Thresholds = THRESHOLDS) -> Guard:
    """The state after one more reading. The level's action is due whenever `since` has changed."""
    now = reading.at
    guard = _noted(guard, reading)
    called_for = _called_for(guard, reading, thresholds, eased=False)
    at_least = _called_for(guard, reading, thresholds, eased=True)
    if guard.level >= Level.HOLD and not reading.running and at_least >= Level.HOLD:
        waited = guard.level >= Level.UNLOAD or now - guard.since >= IDLE_SECONDS
        if waited:  # and stays there: with nothing running, unloading is all that can help
            called_for, at_least = max(called_for, Level.UNLOAD), max(at_least, Level.UNLOAD)
    if called_for > guard.level:
        if guard.level == Level.CALM or now - guard.since >= STEP_SECONDS:
            return replace(guard, level=Level(guard.level + 1), since=now, quiet_since=None)
        return replace(guard, quiet_since=None)
    if called_for == Level.STOP and now - guard.since >= STOP_SECONDS:
        return replace(guard, since=now, quiet_since=None)
    if at_least >= guard.level:
        return replace(guard, quiet_since=None)
    if guard.quiet_since is None:
        return replace(guard, quiet_since=now)
    if now - guard.quiet_since >= QUIET_SECONDS:
        return replace(guard, level=at_least, since=now, quiet_since=None)
    return guard


def _noted(guard: Guard, reading: Reading) -> Guard:
    recent = [(at, swapped) for at, swapped in guard.swapped if at >= reading.at - SWAP_SECONDS]
    killed = guard.oom_kills is not None and reading.oom_kills > guard.oom_kills
    return replace(
        guard,
        swapped=(*recent, (reading.at, reading.swapped)),
        oom_kills=reading.oom_kills,
        killed_at=reading.at if killed else guard.killed_at,
    )


def _called_for(guard: Guard, reading: Reading, thresholds: Thresholds, *, eased: bool) -> Level:
    ease, share = (thresholds.ease, 0.5) if eased else (0.0, 1.0)
    growth = reading.swapped - min(swapped for _, swapped in guard.swapped)
    ours = reading.used >= thresholds.used_at_least - ease
    found = Level.CALM
    for level in (Level.HOLD, Level.UNLOAD, Level.STOP):
        signs: Signs = getattr(thresholds, level.word)
        stalls = reading.stalled is not None and reading.stalled >= signs.stalled * share
        if reading.used >= signs.used - ease or (ours and (stalls or growth >= signs.swap * share)):
            found = level
    if guard.killed_at is not None and reading.at - guard.killed_at < KILL_SECONDS:
        found = max(found, Level.HOLD)
    return found


ADVICE = {
    "lower_limit": "Lower the limit of jobs at once.",
    "smaller_model": "Choose a smaller model.",
    "unload": "Unload the model while nothing runs.",
    "add_memory": "Give this box more memory.",
}
"""What a person can do about a warning."""

HIGH = 0.9
RECENTLY_SECONDS = 300.0
SLOWER = 3.0
NOTICEABLE_SECONDS = 0.25
"""Answers that are three times slower than usual but faster than this are nobody's trouble."""
NO_ANSWER_SECONDS = 2.0
"""What a request that was given up counts as."""
LATEST, ENOUGH = 5, 20
"""Samples that say how fast answers are now, and how many it takes to know what is usual."""


@dataclass(frozen=True, slots=True)
class Warning:
    """One warning of the concurrency guide. advice: keys of ADVICE, the most helpful first."""

    code: str
    sentence: str
    advice: tuple[str, ...]


def warnings(samples: Sequence[Sample]) -> list[Warning]:
    """What the samples of a day, oldest first, give reason to warn of as of the newest one."""
    if not samples:
        return []
    return [warning for check in (_memory, _swap, _responses, _kills) if (warning := check(samples)) is not None]


def _memory(samples: Sequence[Sample]) -> Warning | None:
    now = samples[-1]
    share = now.memory_used / now.memory_limit
    if share <= HIGH:
        return None
    first = "lower_limit" if now.running else "unload"
    return Warning(
        "memory_high",
        f"{share:.0%} of the memory is in use. Above 90% the next job may be one too many.",
        (first, "smaller_model", "add_memory"),
    )


def _swap(samples: Sequence[Sample]) -> Warning | None:
    now = samples[-1]
    growth = now.swapped - min(s.swapped for s in samples if s.at >= now.at - RECENTLY_SECONDS)
    if growth < THRESHOLDS.hold.swap:
        return None
    return Warning(
        "swap_growing",
        f"Swap grew by {growth // MIB:,} MiB in the last five minutes: memory is short, and jobs that wait for the "
        "disk are many times slower.",
        ("lower_limit", "unload", "add_memory"),
    )


def _responses(samples: Sequence[Sample]) -> Warning | None:
    times = [NO_ANSWER_SECONDS if s.response_seconds is None else s.response_seconds for s in samples]
    if len(times) < ENOUGH:
        return None
    usual, now = statistics.median(times), statistics.median(times[-LATEST:])
    if now < NOTICEABLE_SECONDS or now < SLOWER * usual:
        return None
    return Warning(
        "responses_slow",
        f"The box answers in {now * 1000:,.0f} ms, {now / usual:.0f} times slower than usual today "
        f"({usual * 1000:,.0f} ms): it does more than it can.",
        ("lower_limit", "smaller_model"),
    )


def _kills(samples: Sequence[Sample]) -> Warning | None:
    # A counter that falls is a new container's.
    kills = sum(max(0, b.oom_kills - a.oom_kills) for a, b in pairwise(samples))
    if not kills:
        return None
    processes = "a process" if kills == 1 else f"{kills} processes"
    return Warning(
        "oom_kill",
        f"In the last day the kernel killed {processes} because memory had run out.",
        ("lower_limit", "smaller_model", "add_memory"),
    )
