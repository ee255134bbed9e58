"""Taking back what was canceled or deleted on a page, for ten seconds.

Both happen at once; what undoing them needs is a row (`store.undos`), so a killed process forgets nothing, and the
journal and the files of a job stay until that row goes. A deleted job's row is away meanwhile: nothing can meet it.
"""

from __future__ import annotations

import logging
import time

from tasks import media, store
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Job, State
from tasks.queue import Queue
from tasks.store import Action, Mark

logger = logging.getLogger(__name__)

UNDO_SECONDS = 10.0


class Undos:
    """Of one web process, which is the one that lets go of what is over. Counted by the monotonic clock from when it
    first saw each: after a restart anew."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config, self._database = config, database
        self._since: dict[Mark, float] = {}
        self._noted, self._settled = 1, 0

    def note(self) -> None:
        """Something can be taken back now."""
        self._noted += 1

    def sweep(self) -> None:
        """Let go of what is over, files last. Cheap while there is nothing. Raises StenoboxError database_busy."""
        noted, now = self._noted, time.monotonic()
        if noted == self._settled:
            return
        marks = store.undo_marks(self._database)
        self._since = {mark: self._since.get(mark, now) for mark in marks}
        whole = {mark.id: self._since[mark] for mark in marks if mark.id == mark.batch}
        over = [mark for mark in marks if now - whole.get(mark.batch or "", self._since[mark]) >= UNDO_SECONDS]
        for job_id, action in store.let_go(self._database, over) if over else ():
            if action == Action.DELETED:
                media.remove(self._config, job_id)
            else:
                media.drop(media.journal(self._config, job_id))
        if not marks:
            self._settled = noted

    def take_back(self, what: str, owner: str | None, queue: Queue) -> list[Job]:
        """The jobs that were put back; whoever works on them is woken. Raises StenoboxError wrong_state."""
        found = store.undo(self._database, what, owner)
        if found is None:
            raise StenoboxError("wrong_state", "It is too late to undo this: that can be done for ten seconds.")
        logger.info("%s: a person took back what was done to it", what)
        for job in found:
            if job.state == State.QUEUED:
                (queue.fetch if job.needs_download else queue.wake)(job.id)
        return found
