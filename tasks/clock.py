"""The wall clock, which people and networks set, held against how long the machine has run, which nobody does.

A box without a battery clock starts with the time at which it was switched off, or with 1970, and learns the right one
while it works. What was written before is as old as it was: see `Sweeper`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

NOTICED_SECONDS = 60.0
"""A clock that is steered moves by less between two looks; one that is set, by more."""
_BOOT, _UPTIME = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/uptime")


@dataclass(frozen=True, slots=True)
class Setting:
    """The clock was set. by: seconds, negative for back; since, until: what it said, before, when the machine started
    and when it was set, in seconds since 1970."""

    by: float
    since: float
    until: float


def uptime() -> float:
    """Seconds that this machine has run, also while it slept where the system counts that."""
    try:
        return float(_UPTIME.read_text().split()[0])
    except (OSError, ValueError):
        return time.monotonic()


def _boot() -> str:
    """Stands for this run of the machine; "" where the system has no name for it."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


class Clock:
    """Notices when it was set. kept: a file in which the next process finds how it stood."""

    def __init__(
        self, kept: Path, wall: Callable[[], float] = time.time, lived: Callable[[], float] = uptime, boot: str = ""
    ) -> None:
        self._kept, self._wall, self._lived, self._boot = kept, wall, lived, boot or _boot()
        self._began = self._remembered()

    def look(self) -> Setting | None:
        """What was done to it since the last look, of this process or of one before it."""
        wall, lived = self._wall(), self._lived()
        before, self._began = self._began, wall - lived
        by = 0.0 if before is None else self._began - before
        if before is not None and abs(by) <= NOTICED_SECONDS:
            return None
        self.keep()
        return None if before is None else Setting(by, before, wall - by)

    def keep(self) -> None:
        """For the next process. Where nothing can be written, it begins anew."""
        try:
            self._kept.write_text(json.dumps({"boot": self._boot, "began": self._began}))
        except OSError as error:
            logger.debug("the clock's state is not kept: %s", error)

    def _remembered(self) -> float | None:
        """When this run of the machine began, by the clock as it stood at the last look."""
        try:
            kept = json.loads(self._kept.read_text())
            return float(kept["began"]) if self._boot and kept["boot"] == self._boot else None
        except (OSError, ValueError, LookupError, TypeError):
            return None
