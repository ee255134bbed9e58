"""Retention: what is kept long enough goes, and so does what belongs to nobody.

Recordings and jobs have a time each. A row is changed first and files go after it, so that a crash in between leaves
only files, which the next sweep takes.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from tasks import media, store
from tasks.capacity import Limits
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError

logger = logging.getLogger(__name__)

BATCH = 200
"""Rows a transaction: others write in between."""
DAY = 86_400.0
KEY_DAYS = 1.0
"""How long an Idempotency-Key outlives its deleted job (see `repeats`)."""
BATCH_DAYS = 1.0
"""How long a batch may be without a job: its first one may still be on its way."""
YOUNG_SECONDS = 3600.0
"""A file touched since then may still be in somebody's hands: a job tried again, a transcript about to be named."""

_LEFT = re.compile(r"[0-9a-f]{32}\.f32|journal")


def tidy(config: Config, database: Database, limits: Limits) -> None:
    """Everything that is due: old jobs, old recordings, forgotten keys, files of nobody. What can't be done keeps
    nothing else from it."""
    now = time.time()
    steps: tuple[Callable[[], object], ...] = (
        lambda: remove_old(config, database, limits.keep_days),
        lambda: remove_old_media(config, database, limits.keep_media_days),
        lambda: store.forget_keys(database, now - KEY_DAYS * DAY),
        lambda: store.forget_empty_batches(database, now - BATCH_DAYS * DAY),
        lambda: sweep(config, database),
    )
    for step in steps:
        try:
            step()
        except StenoboxError as error:
            logger.warning("the sweep leaves something for the next one: %s", error.message)
        except Exception:
            logger.exception("the sweep leaves something for the next one")


def remove_old(config: Config, database: Database, keep_days: float) -> int:
    """Delete jobs that finished more than keep_days ago (0: none), with all they have. Returns how many."""
    if not keep_days:
        return 0
    removed = 0
    before = time.time() - keep_days * DAY
    while gone := store.delete_finished_before(database, before, BATCH):
        for job_id in gone:
            media.remove(config, job_id)
        removed += len(gone)
    if removed:
        logger.info("%d jobs removed: finished more than %g days ago", removed, keep_days)
    return removed


def remove_old_media(config: Config, database: Database, keep_days: float) -> int:
    """Delete the recordings of jobs that finished more than keep_days ago (0: none); their transcripts stay. Returns
    how many."""
    if not keep_days:
        return 0
    removed = 0
    before = time.time() - keep_days * DAY
    while gone := store.note_media_removed_before(database, before, BATCH):
        for job_id in gone:
            media.drop(media.source(config, job_id))
        removed += len(gone)
    if removed:
        logger.info("%d recordings removed: their jobs finished more than %g days ago", removed, keep_days)
    return removed


def sweep(config: Config, database: Database) -> int:
    """Remove what no row speaks for: folders without a job, and what attempts and uploads that died left in the folders
    of finished jobs. May run at any time: a row is there before its folder, and what was touched lately stays. Returns
    how many folders and files."""
    found = iter(sorted(media.stray(config)))  # looked up before the rows
    removed = 0
    while some := list(islice(found, BATCH)):
        rows = store.existing(database, some)
        for job_id in set(some) - rows:
            logger.warning("job %s: no such job; removing its files", job_id)
            media.remove(config, job_id)
            removed += 1
        for job_id in store.without_media(database, some):
            removed += _remove(media.source(config, job_id))
        for job_id, result in store.results_of_finished(database, some).items():
            for path in media.entries(config, job_id):
                if _is_left(path, result):
                    removed += _remove(path)
    return removed


def _is_left(path: Path, result: str | None) -> bool:
    """Whether a file of a finished job is of no use any more. Only names that are known to be ours are."""
    if path.name == result or not (path.suffix == ".part" or media.is_result(path.name) or _LEFT.fullmatch(path.name)):
        return False
    try:
        return time.time() - path.stat().st_mtime > YOUNG_SECONDS
    except OSError:
        return False


def _remove(path: Path) -> int:
    try:
        path.unlink()
    except OSError:  # gone, or a later sweep's
        return 0
    return 1
