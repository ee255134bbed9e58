"""How long an engine may go on without a sign that it gets anywhere, before it is taken for hung. Signs in, a verdict
out.

    silent   Python doesn't run in it: no beat comes       a thread that keeps Python's lock, or a stopped process
    idle     it beats, but neither computes nor reads      a deadlock in native code
    stuck    it computes, and gets no further              an endless loop
    loading  the model is still not there

A slow box must never be taken for a hung one. So waiting for the disk (a cold model, pages that were swapped out) is
not silence, computing is not idleness, and a step may take as long as on the slowest box that could be meant. And time
is what the worker itself has lived through: if it was frozen, so was its engine.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tasks.errors import StenoboxError

TICK_SECONDS = 1.0
BUCKET_SECONDS = 10.0
"""CPU time is counted in hundredths of a second, so it is looked at over ten."""
BUSY_SHARE = 0.02
"""Of a CPU, over a bucket. A shared CPU on Fly sustains 0.06; an engine whose jobs all sleep takes 0.005 for its beat
and its meter."""
BUSY_PAGES = 8
WINDOW_SECONDS = 30.0
SLOWEST = 60.0
"""Processing time / audio time of the largest model on the smallest computer, roughly."""
MARGIN = 20.0
"""How many times slower than it has been a box may become."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. silent, idle, loading: see above; step: between two signs of progress of a job; job: all of its time in
    the engine."""

    silent: float = 180.0
    idle: float = 300.0
    loading: float = 3600.0
    step: float = 1800.0
    job: float = 3600.0


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one job gets, in seconds. step: from one sign of progress to the next; job: in the engine, all in all."""

    step: float = math.inf
    job: float = math.inf


UNLIMITED = Allowed()


def allow(seconds: float, batch: int, factor: float | None, patience: Patience = PATIENCE) -> Allowed:
    """What a job gets. seconds: length of the recording; batch: windows recognized between two signs of progress;
    factor: this box's real-time factor with that model on that device, None before it is known."""
    pace = SLOWEST if factor is None else MARGIN * factor
    step = min(batch * WINDOW_SECONDS, max(seconds, WINDOW_SECONDS))
    return Allowed(max(patience.step, step * pace), patience.job + seconds * pace)


class Deadline:
    """All of a job's time in the engine."""

    def __init__(self, allowed: Allowed, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._clock = allowed, clock
        self._spent, self._looked = 0.0, clock()

    def check(self) -> None:
        """Called at each sign of progress. Raises StenoboxError timed_out."""
        now = self._clock()
        # A gap counts as a step at most: this process may have been frozen in it.
        self._spent += min(now - self._looked, self._allowed.step)
        self._looked = now
        if self._spent > self._allowed.job:
            raise StenoboxError(
                "timed_out",
                f"It was worked on for {_words(self._spent)}, longer than a recording of its length may take, and was "
                "stopped. Try a smaller model.",
            )


@dataclass(frozen=True, slots=True)
class Signs:
    """What the system says of a process. cpu: seconds of CPU time so far; pages: those it has waited for so far."""

    cpu: float
    pages: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """An engine is hung. guilty: numbers of the requests it can be; how: what it did, for a sentence that begins "the
    engine hung: it …"."""

    guilty: frozenset[int]
    how: str


@dataclass(slots=True)
class _Watched:
    """A request. allowed: seconds a step; since: its last sign of progress; waiting: for something of ours."""

    allowed: float
    since: float
    waiting: bool = False


@dataclass
class Vigil:
    """Watches over one engine. Told of what it says by one thread and of time by another."""

    patience: Patience = PATIENCE
    loaded: bool = False
    _now: float = 0.0
    _beat: float = 0.0
    _busy: float = 0.0
    _bucket: float = 0.0
    _last: Signs | None = None
    _at_bucket: Signs | None = None
    _requests: dict[int, _Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ready(self) -> None:
        """The model is there: work begins now."""
        with self._lock:
            self.loaded = True
            self._beat = self._now
            for watched in self._requests.values():
                watched.since = self._now

    def beat(self) -> None:
        with self._lock:
            self._beat = self._now

    def began(self, number: int, allowed: Allowed) -> None:
        with self._lock:
            self._requests[number] = _Watched(allowed.step, self._now)

    def progressed(self, number: int, *, waiting: bool = False) -> None:
        """It got further. waiting: now it waits for an answer of ours."""
        with self._lock:
            if watched := self._requests.get(number):
                watched.since, watched.waiting = self._now, waiting

    def ended(self, number: int) -> None:
        with self._lock:
            self._requests.pop(number, None)

    def tick(self, elapsed: float, signs: Signs | None) -> Verdict | None:
        """Time has passed. elapsed: seconds since the last tick; signs: of the engine now, None if it has just gone."""
        with self._lock:
            # A long tick is one in which this process was frozen, or starved: that says nothing of the engine.
            step = min(elapsed, 2 * TICK_SECONDS)
            self._now += step
            if signs is None:
                return None
            self._look(signs, step)
            return self._verdict()

    def _look(self, signs: Signs, step: float) -> None:
        if self._last is not None and signs.pages > self._last.pages:
            self._beat += step  # it waits for the disk
        self._last = signs
        if self._at_bucket is None:
            self._at_bucket = signs
        if self._now - self._bucket >= BUCKET_SECONDS:
            cpu, pages = signs.cpu - self._at_bucket.cpu, signs.pages - self._at_bucket.pages
            if cpu >= BUSY_SHARE * (self._now - self._bucket) or pages >= BUSY_PAGES:
                self._busy = self._now
            self._bucket, self._at_bucket = self._now, signs

    def _verdict(self) -> Verdict | None:
        working = {number: one for number, one in self._requests.items() if not one.waiting}
        everyone = frozenset(working)
        if not self.loaded:
            if self._now > self.patience.loading:
                return Verdict(everyone, f"had not loaded its model after {_words(self._now)}")
            if self._now - self._busy > self.patience.idle:
                return Verdict(everyone, f"did nothing for {_words(self.patience.idle)} while it loaded its model")
            return None
        if self._now - self._beat > self.patience.silent:
            return Verdict(everyone, f"gave no sign of life for {_words(self.patience.silent)}")
        idle = frozenset(n for n, one in working.items() if self._now - max(one.since, self._busy) > self.patience.idle)
        if idle:
            return Verdict(idle, f"did nothing for {_words(self.patience.idle)}")
        for number, one in working.items():
            if self._now - one.since > one.allowed:
                return Verdict(frozenset({number}), f"got no further for {_words(one.allowed)}")
        return None


def _words(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"


def look(pid: int) -> Signs | None:
    """The signs of a process; None when it is gone. Pages are counted on Linux only."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    pages = 0
    with contextlib.suppress(OSError, IndexError):
        # After the name, which may hold anything: fields 3 and on, of which the 12th is the count of major faults.
        pages = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                pages += int(line.split()[1]) // 4096
    return Signs(times.user + times.system, pages)
