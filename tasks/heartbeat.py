"""The worker's pulse: renews leases, writes progress, brings news of cancels, and finds work nobody announced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks import store
from tasks.config import Config
from tasks.db import Database
from tasks.engine.engines import Engines
from tasks.errors import StenoboxError
from tasks.leases import Leases
from tasks.planner import Planner
from tasks.queue import Queue
from tasks.running import Reason, Running
from tasks.store import Attempt

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
RECONCILE_SECONDS = 2.0


class Heartbeat:
    """One thread a worker. Nothing is written while nothing runs."""

    def __init__(self, config: Config, planner: Planner, database: Database, queue: Queue, engines: Engines) -> None:
        self._config = config
        self._planner = planner
        self._database = database
        self._queue = queue
        self._engines = engines
        self._running: dict[str, Running] = {}
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_left, daemon=True, name="heartbeat")
        self._reconciled = 0.0
        self._leases = Leases(config.lease)

    def start(self) -> None:
        self._thread.start()

    @contextmanager
    def watch(self, attempt: Attempt) -> Iterator[Running]:
        """Keep the attempt's lease for as long as the block runs."""
        running = self._running[attempt.token] = Running(attempt)
        if self._leaving.is_set():
            running.stop(Reason.DRAINING)
        try:
            yield running
        finally:
            running.left()
            del self._running[attempt.token]

    @property
    def leaving(self) -> bool:
        return self._leaving.is_set()

    def drain(self) -> None:
        """Stop everything that runs; their threads put it back in line."""
        self._leaving.set()
        for running in list(self._running.values()):
            running.stop(Reason.DRAINING)

    @property
    def count(self) -> int:
        """Attempts that this worker runs, downloads apart."""
        return sum(not running.job.needs_download for running in list(self._running.values()))

    def stop_newest(self, reason: Reason) -> str | None:
        """Stop the attempt that began last; the id of its job. None when nothing runs, or all is being stopped."""
        for running in reversed(list(self._running.values())):
            if running.reason is None and not running.job.needs_download:
                running.stop(reason)
                return running.job.id
        return None

    def beat(self) -> None:
        """One pulse. What runs here is renewed and never rescued, so that a long pause costs nothing."""
        running = dict(self._running)
        if running:
            beats = [(token, one.stage, one.progress, one.elapsed) for token, one in running.items()]
            left = {token: one.time_left() for token, one in running.items()}
            owned = store.renew_if_owned(self._database, beats, self._config.lease, left)
            for token, one in running.items():
                if token not in owned:
                    one.stop(Reason.LOST)
                elif owned[token]:
                    one.stop(Reason.CANCELED)
        if time.monotonic() - self._reconciled >= RECONCILE_SECONDS:
            self._reconciled = time.monotonic()
            self.reconcile()
        self._engines.leave_if_idle()

    def reconcile(self) -> None:
        """Put back what a dead worker held, and wake a thread if there is room for what waits in line."""
        load = store.counts(self._database)
        if load.running + load.light + load.downloading > len(self._running):
            for token, stamp in self._leases.over(self._others()).items():
                for job in store.requeue_if_silent(self._database, token, stamp):
                    logger.warning("job %s: its worker is gone; back in line", job.id)
        limits = self._planner.limits()
        if load.to_download and load.downloading < limits.download_slots:
            self._call(self._queue.fetch)
        if load.light or (load.queued > load.to_download and load.running < limits.slots):
            self._call(self._queue.wake)

    def _call(self, call: Callable[[str], None]) -> None:
        if job_id := store.first_in_line(self._database):  # any will do; there may be none by now
            call(job_id)

    def _others(self) -> dict[str, float]:
        found = store.stamps(self._database)
        return {token: stamp for token, stamp in found.items() if token not in self._running}

    def _beat_until_left(self) -> None:
        while not self._leaving.wait(min(BEAT_SECONDS, self._config.lease / 4)):
            try:
                self.beat()
            except StenoboxError as error:  # a busy database: the next beat will do
                logger.warning("no heartbeat: %s", error.message)
            except Exception:
                logger.exception("the heartbeat failed; going on")
