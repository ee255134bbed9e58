"""When refused clients were told to come back, so that each is told of a place of its own.

Without this, everyone who meets a full box is told of the same place: all come back for it, and all but one in vain.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections import deque

GRACE_SECONDS = 1.0
"""How long after its time a promise is still kept in mind: its client is on the way."""
BURST_SECONDS = 2.0
"""Refusals of one submitter within this time are told to as many clients."""
LATELY = 16
"""Times that came lately, whose share of kept promises counts."""
REMEMBERED_SECONDS = 600.0
"""So long after the last of them nothing is known any more."""
MOST = 5000
"""Those beyond are told of no place of their own."""


class Promises:
    """Of one web process, in memory; its owner holds a lock. Submitters take turns, as in the queue: one that asks a
    hundred times at once is told of a hundred places, but only the first of them comes before another's first."""

    def __init__(self) -> None:
        self._of: dict[str, deque[tuple[float, float]]] = {}
        self._due: list[float] = []
        self._kept, self._seen, self._seen_at = 0.0, 0, 0.0

    @property
    def share(self) -> float | None:
        """Of those whose time came lately, how many came back at it: 0..1; None while that is not known."""
        if time.monotonic() - self._seen_at > REMEMBERED_SECONDS:
            self._seen = 0
        return self._kept if self._seen else None

    def _see(self, kept: bool) -> None:
        share = self.share or 0.0
        self._seen, self._seen_at = min(LATELY, self._seen + 1), time.monotonic()
        self._kept = share + (kept - share) / self._seen

    def forget(self) -> None:
        """The box is empty, and nobody waits for a place; unless they are on their way, as they have been so far."""
        if not self.share:
            self._of.clear()
            self._due.clear()

    def before(self, submitter: str, places: int) -> tuple[int, float | None]:
        """How many promised places come before the next one of this submitter, which is about to be refused; and the
        seconds until the one of them comes whose job will have to end for it: the last but `places`, or None. Of those
        places only the share counts that is taken by who was told of them, all until that is known.

        One that was told longer than BURST_SECONDS ago and asks again is taken for the same client, early or back in
        vain: its oldest promise is forgotten, or a loop that never waits would push its own time away without end.
        """
        now = time.monotonic()
        gone = bisect_left(self._due, now - GRACE_SECONDS)
        if gone:
            del self._due[:gone]
            for _ in range(min(gone, LATELY)):
                self._see(False)
            for made in self._of.values():
                while made and made[0][1] < now - GRACE_SECONDS:
                    made.popleft()
        own = self._of.get(submitter, _NONE)
        if own and own[0][0] < now - BURST_SECONDS:
            _, due = own.popleft()
            del self._due[bisect_left(self._due, due)]
            if now >= due - GRACE_SECONDS:  # who comes early, again and again, says nothing of the others
                self._see(True)
        turn = len(own) + 1
        count = len(own) + sum([min(len(made), turn) for made in self._of.values() if made is not own])
        if (share := self.share) is not None:
            count = math.ceil(share * count)
        until = max(0.0, self._due[count - places] - now) if count >= places > 0 else None
        return count, until

    def give(self, submitter: str, seconds: float) -> None:
        """This submitter was told to come back in so many seconds."""
        if len(self._due) >= MOST:
            return
        now = time.monotonic()
        if submitter not in self._of:
            self._of = {name: made for name, made in self._of.items() if made}
            self._of[submitter] = deque()
        self._of[submitter].append((now, now + seconds))
        insort(self._due, now + seconds)


_NONE: deque[tuple[float, float]] = deque()
