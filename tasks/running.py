"""An attempt while this worker runs it: what it is doing, and the one way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

from tasks import metrics
from tasks.jobs import Job, Stage
from tasks.store import Attempt, Seen


class Reason(StrEnum):
    """Why an attempt is stopped before its end."""

    CANCELED = "canceled"
    """A person asked."""
    LOST = "lost"
    """Its row is gone or has another owner: nothing it does counts any more."""
    DRAINING = "draining"
    """The worker is leaving."""
    PRESSURE = "pressure"
    """Memory ran out, and this was the newest."""


class Stopped(Exception):
    """Raised in the attempt's own thread once it is to stop."""


class Running:
    """Shared between the thread that runs the attempt and the heartbeat that watches it."""

    def __init__(self, attempt: Attempt) -> None:
        self.token = attempt.token
        self.job: Job = attempt.job
        self.stage = Stage.DECODE
        self.progress = 0.0
        self.peak = 0
        self.batch: int | None = None
        self.crash = ""
        self.time_left: Callable[[], float | None] = lambda: None
        self.most_windows = attempt.batch
        self.reason: Reason | None = None
        self._began = time.monotonic()
        self._since = time.monotonic()
        self._hooks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since its claim, by a clock that nobody sets."""
        return time.monotonic() - self._began

    def at(self, stage: Stage, progress: float) -> None:
        """Note how far it is; written with the next heartbeat. Raises Stopped."""
        if stage != self.stage:
            self.left()
        self.stage, self.progress = stage, progress
        self.check()

    def holds(self, memory: int) -> None:
        """Note what the processes that run it hold, in bytes."""
        self.peak = max(self.peak, memory)

    @property
    def seen(self) -> Seen:
        """What its record keeps of it."""
        return Seen(self.stage, self.peak or None, self.batch, self.crash)

    def left(self) -> None:
        """Its stage is over."""
        now = time.monotonic()
        metrics.staged(self.stage, now - self._since)
        self._since = now

    def check(self) -> None:
        """Raises Stopped once somebody asked to stop."""
        if self.reason is not None:
            raise Stopped(self.reason)

    def stop(self, reason: Reason) -> None:
        """Stop it: the first reason counts. Runs the hooks, which end its child or its request."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            hooks = list(self._hooks)
        for hook in hooks:
            hook()

    def on_stop(self, hook: Callable[[], None]) -> None:
        """Have hook called when it is stopped; at once if it is already. A hook must not block for long."""
        with self._lock:
            self._hooks.append(hook)
            late = self.reason is not None
        if late:
            hook()
