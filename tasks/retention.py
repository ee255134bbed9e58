"""Retention: finished jobs go after as many days as the limits say."""

from __future__ import annotations

import logging
import time

from tasks import media, store
from tasks.config import Config
from tasks.db import Database

logger = logging.getLogger(__name__)

BATCH = 200
"""Rows a transaction: others write in between."""
DAY = 86_400.0


def remove_old(config: Config, database: Database, keep_days: float) -> int:
    """Delete jobs that finished more than keep_days ago (0: none): the row first, so that a crash in between leaves
    only files without a row, which the next start sweeps. Returns how many."""
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
