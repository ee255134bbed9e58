"""Links fetched, in slots of their own: a slow site never holds a transcription slot.

A job whose link has been fetched goes back to its place in line, with its media on disk, and is from then on like one
that was uploaded.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial

from tasks import children, disk, links, media, store
from tasks.capacity import SPARE_BYTES, Limits
from tasks.config import Config
from tasks.db import Database
from tasks.egress import read_hosts
from tasks.errors import StenoboxError
from tasks.heartbeat import Heartbeat
from tasks.jobs import Job, Stage, State
from tasks.outcomes import Change, Outcomes
from tasks.planner import Planner
from tasks.queue import Queue
from tasks.running import Running

logger = logging.getLogger(__name__)

MOST_SLOTS = 8
NOTE_SECONDS = 1.0


def terms(config: Config, limits: Limits) -> links.Terms:
    """What the operator allows of links."""
    return links.Terms(
        limits.max_bytes, limits.max_seconds, config.egress_allow, read_hosts(limits.link_hosts), limits.generic_links
    )


class Fetcher:
    """Fetches links in this worker; called from the queue's threads."""

    def __init__(
        self,
        config: Config,
        database: Database,
        queue: Queue,
        heartbeat: Heartbeat,
        worker: str,
        planner: Planner,
        holding: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._database = database
        self._queue = queue
        self._heartbeat = heartbeat
        self._worker = worker
        self._planner = planner
        self._holding = holding
        self._outcomes = Outcomes(config, database, SPARE_BYTES)

    def run(self, job_id: str) -> None:
        """Fetch the first link in line, if a slot for downloads is free and there is room for files. job_id: whose
        submission woke us."""
        if self._heartbeat.leaving or self._holding() or not disk.takes_work(self._config.media, SPARE_BYTES):
            return
        attempt = store.claim_download(self._database, self._planner.first(), self._worker, self._config.lease)
        if attempt is None:
            return
        with self._heartbeat.watch(attempt) as running:
            logger.info("job %s: fetching its link", attempt.job.id)
            job = self._settle(running, self._attempt(running))
        if self._heartbeat.leaving:
            return
        self._queue.fetch(job_id)  # a slot is free
        if job and job.state == State.QUEUED:
            self._queue.wake(job.id)

    def _attempt(self, running: Running) -> Change:
        """Fetch it; return the change of the row that the outcome calls for."""
        database, token = self._database, running.token
        folder = None
        try:
            running.at(Stage.DOWNLOAD, 0.0)
            folder = media.fetching(self._config, running.job.id, token)
            found = links.fetch(
                running.job.source.url or "",
                folder,
                terms(self._config, self._planner.limits()),
                on_progress=_Noting(database, running),
                on_start=lambda process: running.on_stop(lambda: children.kill(process)),
            )
            running.check()
            media.take(self._config, running.job.id, found.path)
            source = running.job.source
            chosen = source.name != links.link_name(source.url or "")  # by a person, from a list
            name = source.name if chosen else found.about.get("title") or source.name
            return partial(store.fetched_if_owned, database, token, name, found.bytes, found.about)
        except Exception as outcome:
            failed = outcome
        finally:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
        return self._outcomes.of(failed, running)  # the room that it took itself isn't missing any more

    def _settle(self, running: Running, change: Change) -> Job | None:
        """Write the outcome. A database that is busy for long is asked again; the lease is renewed meanwhile."""
        while True:
            try:
                job = change()
                break
            except StenoboxError as error:
                logger.warning("job %s: its outcome waits: %s", running.job.id, error.message)
                if self._heartbeat.leaving:
                    return None  # the next worker puts it back in line
                time.sleep(1)
        logger.info("job %s: %s", running.job.id, job.state if job else "no longer ours")
        if job is None or job.finished or not job.needs_download:
            self._outcomes.forget(running.job.id)
        if job is None and store.get(self._database, running.job.id) is None:
            media.remove(self._config, running.job.id)  # deleted while it ran
        return job


class _Noting:
    """Keeps how far a download is: for the heartbeat at once, in the row once a second."""

    def __init__(self, database: Database, running: Running) -> None:
        self._database = database
        self._running = running
        self._noted = 0.0

    def __call__(self, progress: links.Progress) -> None:
        self._running.at(Stage.DOWNLOAD, min(1.0, progress.bytes / progress.total) if progress.total else 0.0)
        if time.monotonic() - self._noted < NOTE_SECONDS:
            return
        self._noted = time.monotonic()
        about = {"download": {"total": progress.total, "bytes_per_second": progress.bytes_per_second}}
        try:
            store.note_download_if_owned(self._database, self._running.token, progress.bytes, about)
        except StenoboxError:  # a busy database: the next one will do
            return
