"""When refused clients were told to come back, so that each is told of a place of its own.

Without this, everyone who meets a full box is told of the same place: all come back for it, and all but one in vain.
"""

from __future__ import annotations

import threading
import time
from collections import deque

GRACE_SECONDS = 1.0
"""How long after its time a promise is still kept in mind: its client is on the way."""
BURST_SECONDS = 2.0
"""Refusals of one submitter within this time are told to as many clients."""
MOST_SUBMITTERS = 1000


class Promises:
    """Of one web process, in memory. Submitters take turns, as in the queue: one that asks a hundred times at once is
    told of a hundred places, but only the first of them comes before another's first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, deque[tuple[float, float]]] = {}

    def before(self, submitter: str) -> int:
        """How many promised places come before the next one of this submitter, which is about to be refused.

        One that was told longer than BURST_SECONDS ago and asks again is taken for the same client, early or back in
        vain: its oldest promise is forgotten, or a loop that never waits would push its own time away without end.
        """
        now = time.monotonic()
        with self._lock:
            for made in self._made.values():
                while made and made[0][1] < now:
                    made.popleft()
            own = self._made.get(submitter, deque())
            if own and own[0][0] < now - BURST_SECONDS:
                own.popleft()
            turn = len(own) + 1
            return len(own) + sum(min(len(made), turn) for made in self._made.values() if made is not own)

    def give(self, submitter: str, seconds: float) -> None:
        """This submitter was told to come back in so many seconds."""
        now = time.monotonic()
        with self._lock:
            if len(self._made) >= MOST_SUBMITTERS:
                self._made = {name: made for name, made in self._made.items() if made}
            if submitter in self._made or len(self._made) < MOST_SUBMITTERS:
                self._made.setdefault(submitter, deque()).append((now, now + seconds + GRACE_SECONDS))
