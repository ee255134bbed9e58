"""The monitor: watches the machine, asks the guard, does what it says, and keeps a day of samples for the page."""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable

from tasks import machine, store
from tasks.config import Config
from tasks.db import Database
from tasks.engine.engines import Engines
from tasks.errors import StenoboxError
from tasks.guard import Guard, Level, Reading, step
from tasks.heartbeat import Heartbeat
from tasks.machine import Memory, Pressure
from tasks.running import Reason

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at memory while an engine is there: it can load a gigabyte in a few of them."""
SAMPLE_SECONDS = 5.0
"""Between two samples while something runs or the guard isn't calm; between two looks while nothing does."""
IDLE_SAMPLE_SECONDS = 60.0
"""Between two samples of an idle box, which should hardly write."""
ANSWER_SECONDS = 2.0


class Monitor:
    """One thread a worker."""

    def __init__(
        self,
        config: Config,
        database: Database,
        heartbeat: Heartbeat,
        engines: Engines,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._database = database
        self._heartbeat = heartbeat
        self._engines = engines
        self._clock = clock
        self._guard = Guard()
        self._replacing = False
        self._sampled = float("-inf")
        self._cpu: tuple[float, float] | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._look_until_left, daemon=True, name="monitor")

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """End the thread, soon."""
        self._leaving.set()

    @property
    def holding(self) -> bool:
        """Whether no job may start now."""
        return self._guard.level is not Level.CALM

    def look(self) -> None:
        """One look at the machine, and what follows from it."""
        now, before = self._clock(), self._guard
        memory, pressure = machine.memory(), machine.pressure()
        running = self._heartbeat.count
        self._guard = step(
            before,
            Reading(
                now,
                memory.used / memory.limit.value,
                pressure.stalled,
                pressure.swapped,
                pressure.oom_kills,
                running,
            ),
        )
        self._act(before)
        turned = self._guard.level != before.level
        if turned:
            told = f"{memory.used / memory.limit.value:.0%} of {memory.limit.name}, {running} running"
            logger.warning("memory pressure: %s → %s (%s)", before.level.word, self._guard.level.word, told)
        due = SAMPLE_SECONDS if running or self.holding else IDLE_SAMPLE_SECONDS
        if turned or now - self._sampled >= due:
            self._sampled = now
            self._sample(memory, pressure)
        if turned and not self.holding:
            self._heartbeat.reconcile()  # what waited may start

    def _act(self, before: Guard) -> None:
        level = self._guard.level
        if level is Level.STOP and self._guard.since != before.since:
            # The newest one has the least to lose. The engine gives only part of its memory back when a job in it is
            # canceled, so it is replaced as soon as nothing uses it.
            job_id = self._heartbeat.stop_newest(Reason.PRESSURE)
            if job_id:
                logger.warning("job %s: stopped before memory runs out; back in line", job_id)
                self._replacing = True
        if (level >= Level.UNLOAD or self._replacing) and self._engines.unload_if_free():
            logger.warning("the engine was unloaded: memory is short")
            self._replacing = False

    def _sample(self, memory: Memory, pressure: Pressure) -> None:
        load = store.counts(self._database)
        store.add_sample(
            self._database,
            store.Sample(
                at=time.time(),
                memory_used=memory.used,
                memory_limit=int(memory.limit.value),
                swapped=pressure.swapped,
                stalled=pressure.stalled,
                cpu=self._cpu_share(),
                response_seconds=response_seconds(self._config),
                oom_kills=pressure.oom_kills,
                running=load.running,
                queued=load.queued,
                guard=self._guard.level.word,
            ),
        )

    def _cpu_share(self) -> float:
        """What this box's processes have used, since the last sample, of the CPUs they may use: 0..1."""
        now, used = time.monotonic(), machine.cpu_seconds()
        then, before = self._cpu or (now, used)
        self._cpu = (now, used)
        if now <= then:
            return 0.0
        share = (used - before) / (now - then) / machine.cpus(stated=self._config.cpus).count
        return round(min(1.0, max(0.0, share)), 4)

    def _look_until_left(self) -> None:
        while True:
            try:
                self.look()
            except StenoboxError as error:  # a busy database: the next look will do
                logger.warning("no sample: %s", error.message)
            except Exception:
                logger.exception("the monitor failed; going on")
            quick = self.holding or self._heartbeat.count or self._engines.pid
            if self._leaving.wait(LOOK_SECONDS if quick else SAMPLE_SECONDS):
                return


def response_seconds(config: Config) -> float | None:
    """How long the web process takes to say that it is well; None when it doesn't within ANSWER_SECONDS."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    connection = http.client.HTTPConnection(host, config.port, timeout=ANSWER_SECONDS)
    began = time.monotonic()
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        answer = connection.getresponse()
        answer.read()
        return round(time.monotonic() - began, 5) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
