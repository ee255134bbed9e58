"""What becomes of a job by how its attempt ended: the one change of its row, to be made once the database can."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

from tasks import causes, disk, metrics, proofs, store
from tasks.children import ChildDied
from tasks.config import Config
from tasks.db import Database
from tasks.engine.process import Canceled
from tasks.errors import StenoboxError
from tasks.jobs import MAX_CRASHES, Job
from tasks.running import Reason, Running, Stopped
from tasks.store import Cause

logger = logging.getLogger(__name__)

MOST_REFUSALS = 3
"""Tries that a disk may refuse which otherwise takes files."""
_DOUBT = {"device_failed": 2, "internal": 1}
"""How much a failure inside the engine tells of the recording: a device that broke is replaced at once, and a second
one is no chance any more; of other errors the second may still come from the same engine (`MOST_FAILURES`)."""
_MOST_DOUBT = 2

Change = Callable[[], Job | None]
"""Makes the change; the job as it is then, None when it was no longer ours."""


class Outcomes:
    """Of one worker's attempts."""

    def __init__(self, config: Config, database: Database, spare: int) -> None:
        """spare: bytes of the disk that must be free for an attempt to begin."""
        self._config = config
        self._database = database
        self._spare = spare
        self._pressed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._doubt: Counter[str] = Counter()

    def forget(self, job_id: str) -> None:
        """The job has finished."""
        del self._pressed[job_id]
        del self._refused[job_id]
        del self._doubt[job_id]

    def of(self, outcome: Exception, running: Running) -> Change:
        """An attempt ended by that exception: a child's death is charged and tried again, a plain no or a bug of ours
        is the job's end, and what was stopped is what it was stopped for."""
        running.crash = outcome.crash if isinstance(outcome, ChildDied) else "".join(getattr(outcome, "__notes__", ()))
        if running.reason is not None:
            return self._stopped(running.reason, running)
        match outcome:
            case ChildDied():
                cause = causes.of_death(outcome, running.stage)
            case StenoboxError(code="out_of_memory"):
                cause = causes.of_gpu(outcome, running.stage)
            case StenoboxError(code="storage_failing" | "disk_full") if self._may_pass(outcome.code, running):
                cause = Cause(outcome.code, outcome.message)
            case StenoboxError(code="device_failed" | "internal") if self._may_be_the_engine(outcome.code, running):
                cause = causes.of_failure(outcome)
            case StenoboxError():
                return partial(
                    store.fail_if_owned, self._database, running.token, outcome.code, outcome.message, running.seen
                )
            case Stopped() | Canceled():
                cause = store.INTERRUPTED
            case OSError() if refusal := disk.refusal(outcome):
                return self.of(refusal, running)
            case _:
                logger.error("job %s", running.job.id, exc_info=outcome)
                sentence = f"Something went wrong inside Stenobox ({type(outcome).__name__}). The log has the details."
                return partial(store.fail_if_owned, self._database, running.token, "internal", sentence, running.seen)
        if cause.charged:
            who = outcome.who if isinstance(outcome, ChildDied) else "engine"
            return partial(self._charge, running, cause, who)
        return partial(store.requeue_if_owned, self._database, running.token, cause, running.seen)

    def _may_pass(self, code: str, running: Running) -> bool:
        """Whether the disk is to blame and may recover: the job waits in line then, and none is claimed before the disk
        takes files again. One that refuses only what this job needs has a few tries; one without room for it, none."""
        if code == "disk_full":
            if disk.takes_work(self._config.media, self._spare):
                return False
            logger.warning("job %s: waits until there is room on the disk", running.job.id)
            return True
        if not disk.refuses(self._config.media):
            self._refused[running.job.id] += 1
            return self._refused[running.job.id] < MOST_REFUSALS
        logger.warning("job %s: waits until the data folder can be written", running.job.id)
        return True

    def _may_be_the_engine(self, code: str, running: Running) -> bool:
        """Whether the engine may be to blame rather than the recording: it has another try, on another engine."""
        if code == "device_failed":
            proofs.doubt(self._config)  # tried again before the next engine is started: perhaps on the CPU from now on
        self._doubt[running.job.id] += _DOUBT[code]
        return self._doubt[running.job.id] <= _MOST_DOUBT

    def _charge(self, running: Running, cause: Cause, who: str) -> Job | None:
        charged = [tried.cause or "" for tried in store.list_attempts(self._database, running.job.id) if tried.charged]
        metrics.died(cause.code)
        codes = [*charged[len(charged) - running.job.crashes :], cause.code]
        final = causes.verdict(codes, cause, who)
        return store.requeue_crashed_if_owned(
            self._database, running.token, cause.code, cause.sentence, running.seen, final
        )

    def _stopped(self, reason: Reason, running: Running) -> Change:
        token, seen = running.token, running.seen
        match reason:
            case Reason.CANCELED:
                return partial(store.cancel_if_owned, self._database, token, seen)
            case Reason.DRAINING:
                return partial(store.requeue_if_owned, self._database, token, store.INTERRUPTED, seen)
            case Reason.PRESSURE:
                return self._pressed_out(running)
            case Reason.LOST:
                return lambda: None

    def _pressed_out(self, running: Running) -> Change:
        """Without charge, unless memory ran out at it again and again: then it is likely what needs too much."""
        self._pressed[running.job.id] += 1
        if self._pressed[running.job.id] <= MAX_CRASHES:
            return partial(store.requeue_if_owned, self._database, running.token, causes.PRESSURE, running.seen)
        return partial(
            store.requeue_crashed_if_owned,
            self._database,
            running.token,
            "out_of_memory",
            causes.PRESSED_SENTENCE,
            running.seen,
        )
