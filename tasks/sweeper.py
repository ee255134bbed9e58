"""The sweeper: once an hour, what was kept long enough and what belongs to nobody goes. A thread of its own, since a
large box on a slow disk takes minutes, in which the monitor must not be blind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tasks import store
from tasks.clock import Clock, Setting
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.planner import Planner
from tasks.retention import tidy

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
LOOK_SECONDS = 5.0
"""Between two looks at the clock."""
DOUBT_SECONDS = 86_400.0
"""How long nothing goes after the clock was set forward: somebody may have mistyped, and what is gone is gone."""
STARTING_SECONDS = 600.0
"""A machine that was just switched on learns the time from the network: that is no doubt."""


class Sweeper:
    """One thread a worker; `look` is one round of it."""

    def __init__(
        self,
        config: Config,
        planner: Planner,
        database: Database,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._planner, self._database = config, planner, database
        self._clock = clock or Clock(config.data / "clock")
        self._monotonic = monotonic
        self._next = float("-inf")
        self._setting: Setting | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._look_until_left, daemon=True, name="sweeper")

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """End the thread, soon."""
        self._leaving.set()

    def look(self) -> None:
        """Follow the clock, and sweep when it is time. Raises StenoboxError of a database that is busy."""
        now = self._monotonic()
        self._setting = self._setting or self._clock.look()
        if self._setting:
            self._follow(self._setting, now)
            self._setting = None
        if now >= self._next:
            self._next = now + SWEEP_SECONDS
            self._clock.keep()
            tidy(self._config, self._database, self._planner.limits())

    def _follow(self, setting: Setting, now: float) -> None:
        """What ended since the machine was started, by the clock as it was, is as old as before."""
        store.move_ends(self._database, setting.since, setting.until, setting.by)
        doubtful = setting.by > 0 and setting.until - setting.since > STARTING_SECONDS
        self._next = max(self._next, now + (DOUBT_SECONDS if doubtful else SWEEP_SECONDS))
        logger.warning(
            "the clock was set by %+.0f s: nothing is removed for its age in the next %.0f h",
            setting.by, (self._next - now) / 3600,
        )  # fmt: skip

    def _look_until_left(self) -> None:
        while True:
            try:
                self.look()
            except StenoboxError as error:  # a busy database: the next look will do
                logger.warning("nothing is swept now: %s", error.message)
            except Exception:
                logger.exception("the sweeper failed; going on")
            if self._leaving.wait(LOOK_SECONDS):
                return
