"""The worker process: Huey's consumer around the pipeline. Stays light; models and media live in its children."""

from __future__ import annotations

import logging
import signal
import uuid
from collections.abc import Callable
from typing import Any

from huey.consumer import Consumer, Scheduler, Worker

from tasks import crashes, devices, proofs, scratch
from tasks.config import Config
from tasks.db import open_database
from tasks.engine.engines import Engines
from tasks.fetching import MOST_SLOTS as MOST_DOWNLOADS
from tasks.fetching import Fetcher
from tasks.heartbeat import Heartbeat
from tasks.monitor import Monitor
from tasks.pipeline import Pipeline
from tasks.planner import Planner
from tasks.queue import Queue, quiet
from tasks.recovery import rescue, take_data_folder
from tasks.slots import MOST_SLOTS
from tasks.store import LIGHT_SLOTS
from tasks.sweeper import Sweeper

logger = logging.getLogger(__name__)

THREADS = MOST_SLOTS + MOST_DOWNLOADS + LIGHT_SLOTS + 1
"""One for each slot there may be, of every kind, and one to warm the engine when all are taken."""
JOIN_SHARE = 0.7
"""Of the grace time: how long threads are waited for, so that the rest is enough to leave in."""
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.01, 0.5
"""A thread looks for messages this often. Twenty-seven that look twice a second find one within 20 ms on average."""


class DrainingConsumer(Consumer):  # type: ignore[misc]
    """Huey's consumer, for which SIGTERM and SIGINT mean the same, once or five times: put back what runs, leave."""

    def __init__(self, *arguments: Any, on_drain: Callable[[], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_drain = on_drain
        self._set_signal_handlers()  # before a thread can claim a job; Huey does it after

    def _set_signal_handlers(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signum = number  # the consumer's own loop sees it; nothing else is safe in here
        self._graceful, self._restart = True, False

    def stop(self, graceful: bool = False) -> None:
        self._on_drain()
        super().stop(graceful=True)


def unload(engines: Engines) -> None:
    """What a person may ask for: the model leaves memory, unless something uses it."""
    if engines.unload_if_free():
        logger.info("the engine was unloaded: a person asked")


def run(config: Config) -> None:
    """Run until told to leave. Raises SchemaError and AlreadyRunning before anything has started."""
    with take_data_folder(config, "worker"):
        database = open_database(config)
        scratch.sweep(config)
        if devices.find(config).gpu is None:
            proofs.doubt(config)  # what could not be used is tried again at each start
        rescue(config, database, crashes.watch(config.run, "worker"))
        worker = uuid.uuid4().hex
        engines = Engines(config)
        queue = Queue(config.queue_db)
        planner = Planner(config, database)
        heartbeat = Heartbeat(config, planner, database, queue, engines)
        monitor = Monitor(config, database, heartbeat, engines)
        sweeper = Sweeper(config, planner, database)
        pipeline = Pipeline(
            config, database, queue, engines, heartbeat, worker, planner, holding=lambda: monitor.holding
        )
        fetcher = Fetcher(config, database, queue, heartbeat, worker, planner, holding=lambda: monitor.holding)
        queue.answer(
            run_job=pipeline.run,
            warm_engine=pipeline.warm,
            unload_engine=lambda _: unload(engines),
            fetch_link=fetcher.run,
        )
        heartbeat.start()
        monitor.start()
        sweeper.start()

        def drain() -> None:
            monitor.leave()
            sweeper.leave()
            heartbeat.drain()
            engines.stop()  # asking it to cancel could take longer than the grace time

        consumer = DrainingConsumer(
            queue.huey,
            workers=THREADS,
            periodic=False,
            initial_delay=FIRST_POLL_SECONDS,
            max_delay=LAST_POLL_SECONDS,
            scheduler_interval=60,
            shutdown_timeout=config.grace * JOIN_SHARE,
            on_drain=drain,
        )
        logging.getLogger("huey").setLevel(logging.WARNING)
        for process in (Worker, Scheduler):
            logging.getLogger(f"huey.consumer.{process.process_name}").addFilter(quiet)
        logger.info("worker %s ready", worker)
        consumer.run()
        for number in (signal.SIGTERM, signal.SIGINT):  # Python's own end would let a late one kill us
            signal.signal(number, signal.SIG_IGN)
        engines.stop()
        queue.close()
        database.close()
        logger.info("worker %s left", worker)
