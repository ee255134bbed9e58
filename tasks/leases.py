"""Whose heart has stopped, judged by what changes, on this process's own clock.

Every heartbeat writes how long its attempts have run (`elapsed`). A lease is over once that number stood still for as
long as a lease lasts, counted here by a clock that nobody sets and only while this process itself was awake. So it
doesn't matter what time it is, here or on the machine of the other worker, nor that somebody sets the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

LOOK_SECONDS = 5.0
"""What one look can add: a longer time between two of them was a pause of this process, in which the others may have
been frozen with it."""


class Leases:
    """What was seen of other workers' attempts, look by look."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looked = time.monotonic()
        self._seen: dict[str, tuple[float, float]] = {}

    def over(self, stamps: Mapping[str, float]) -> dict[str, float]:
        """Of all attempts that others run, by token, those whose lease is over."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LOOK_SECONDS), now
        seen = {}
        for token, stamp in stamps.items():
            before, age = self._seen.get(token, (None, 0.0))
            seen[token] = (stamp, age + passed if stamp == before else 0.0)
        self._seen = seen
        return {token: stamp for token, (stamp, age) in seen.items() if age > self._seconds}
