"""The cheap look at the box before a body is read: refusals come by the thousand, and most need nothing newer."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

from msgspec import structs

from tasks import media, metrics, store
from tasks.access import Access
from tasks.capacity import LONGEST_RETRY_AFTER, SPARE_BYTES, Limits, Load, Request, decide, leaving
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.planner import Planner
from tasks.promises import Promises

FRESH_SECONDS = 0.1
"""How old limits and load may be; the decision that counts reads them in its transaction."""
STALE_SECONDS = 1.0
"""How old, while somebody is looking again."""
MOST_KEYS = 1000


class Lookout:
    """What was seen of limits and load a moment ago, and what refused clients were told. Of one web process."""

    def __init__(self, config: Config, database: Database, planner: Planner, access: Access) -> None:
        self._config, self._database, self._planner, self._access = config, database, planner, access
        self._promises = Promises()
        self._telling = threading.Lock()
        self._seen = (-STALE_SECONDS, planner.limits(), Load())
        self._seen_of: dict[str, tuple[float, int]] = {}
        self._free = 0
        self._looked = -STALE_SECONDS
        self.arrived = 0
        """Bytes that are here of what uploads announced, as last seen; 0 while there is room for all of them."""
        self.turned_away = -float("inf")
        """When somebody was last refused for want of a place (monotonic)."""
        self.leaving = False
        self.slots_fixed = False
        """Whether a person has said how many slots, as last seen."""

    @property
    def limits(self) -> Limits:
        """As last seen. Never waits for the database."""
        return self._seen[1]

    def must_look(self, submitter: str = "", size: int | None = None) -> bool:
        """Whether this caller is the one to `look` before it checks: while one looks, the others make do with what was
        seen before. Who would be refused for want of disk always is: room that was just made counts at once."""
        now = time.monotonic()
        to_come = max(0, self._seen[2].announced - self.arrived)
        if self._free < to_come + SPARE_BYTES + (size or 0):
            return True
        at = self._seen[0]
        if submitter and self._per_key(submitter):  # whose jobs are counted: another one's count says nothing
            at = min(at, self._seen_of.get(submitter, (-STALE_SECONDS, 0))[0])
        looking = self._looked > self._seen[0]
        if now - at < FRESH_SECONDS or (looking and max(now - at, now - self._looked) < STALE_SECONDS):
            return False
        self._looked = now
        return True

    def look(self, submitter: str = "") -> None:
        """Read limits, load and disk: it blocks. Raises StenoboxError database_busy."""
        now, limits = time.monotonic(), self._planner.limits()
        load = store.load(self._database, submitter, self._per_key(submitter) if submitter else 0)
        if len(self._seen_of) >= MOST_KEYS:
            self._seen_of.clear()
        self._seen_of[submitter] = (now, load.of_key)
        self._free = self.disk_free()
        self.arrived = self._count_arrived(limits, load)
        if not load.active:
            with self._telling:
                self._promises.forget()
        self._seen = (now, limits, replace(load, of_key=0))

    def _count_arrived(self, limits: Limits, load: Load) -> int:
        if not load.announced or self.disk_free() - load.announced > limits.max_bytes + 2 * SPARE_BYTES:
            return 0  # it decides nothing, and each upload's file would have to be asked
        announced = store.announced(self._database)
        return sum(min(size, media.arrived_if_any(self._config, job_id)) for job_id, size in announced)

    def forget(self, limits: Limits | None = None) -> None:
        """A place was freed, or limits were changed to these: what was seen before is not to refuse anyone."""
        self._seen = (-STALE_SECONDS, limits or self.limits, self._seen[2])

    def refusal(self, size: int | None, submitter: str = "", asker: str = "") -> StenoboxError | None:
        """None when one more would fit by what was seen; touches neither database nor disk. Returned, not raised: a
        traceback costs more than all the rest.

        size: bytes of its file, None if unknown; submitter: whose it is; asker: who is told when to come back.
        """
        if self.leaving:
            return leaving()
        _, limits, load = self._seen
        if submitter and (per_key := self._per_key(submitter)):
            if per_key != limits.per_key:
                limits = structs.replace(limits, per_key=per_key)
            load = replace(load, of_key=self._seen_of.get(submitter, (0.0, 0))[1])
        if load.active < limits.places:
            refusal = decide(limits, load, Request(size, disk_free=self._free, arrived=self.arrived))
        else:
            refusal = self._with_a_time(limits, load, size, asker)
        if refusal and refusal.code == "queue_full":
            self.turned_away = time.monotonic()
        if refusal:
            metrics.refused(refusal.code)
        return refusal

    def _with_a_time(self, limits: Limits, load: Load, size: int | None, asker: str) -> StenoboxError | None:
        with self._telling:  # one at a time, or two are told of the same place
            promised, after = self._promises.before(asker, limits.places)
            request = Request(size, disk_free=self._free, arrived=self.arrived)
            request = replace(request, promised=promised, promised_until=after, proven=bool(self._promises.share))
            refusal = decide(limits, load, request)
            # The longest time there is tells of no place.
            if refusal and refusal.code == "queue_full" and 0 < (refusal.retry_after or 0) < LONGEST_RETRY_AFTER:
                self._promises.give(asker, refusal.retry_after or 0)
        return refusal

    def check(self, size: int | None, submitter: str = "", asker: str = "") -> None:
        """`refusal`, raised; looks first if it `must_look`, and so blocks: never for the event loop."""
        if self.must_look(submitter, size):
            self.look(submitter)
        if refusal := self.refusal(size, submitter, asker):
            raise refusal

    def check_again(self, size: int | None, submitter: str = "", asker: str = "") -> None:
        """After a refusal where it counts, which the check had not foreseen: see what is there now, and tell of a place
        of its own. Raises the refusal, if it still is one."""
        self.look(submitter)
        self.check(size, submitter, asker)

    def _per_key(self, submitter: str) -> int:
        """How many jobs of this submitter may be active; 0: no limit."""
        return self._access.max_active(submitter) or self.limits.per_key

    def forgive(self, asker: str) -> None:
        """This asker was let in: what it had been told is done."""
        with self._telling:
            self._promises.before(asker, 0)

    def disk_free(self) -> int:
        """Bytes, now: asking costs 2 µs, and who has just made room is not to be refused."""
        return shutil.disk_usage(self._config.data).free
