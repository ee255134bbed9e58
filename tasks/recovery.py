"""What the only worker of a box does before it starts: take the data folder, put back what a dead one held."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from typing import IO

from tasks import media, store
from tasks.config import Config
from tasks.db import Database, prepare_data_folder

logger = logging.getLogger(__name__)

LOCK_SECONDS = 10.0
_ATTEMPTS = re.compile(r".{32}\..*")
"""Files that an attempt makes, named by its token."""


class AlreadyRunning(Exception):
    """Another worker has this data folder."""


def take_data_folder(config: Config, name: str) -> IO[str]:
    """Lock the data folder for this process, for as long as the returned file is open.

    name: "worker" or "web"; one of each at a time. Waits a little: a predecessor may be on its way out.
    Raises AlreadyRunning, and SchemaError when there can be no such folder.
    """
    prepare_data_folder(config)
    lock = open(config.data / f"{name}.lock", "w")  # noqa: SIM115  the caller closes it
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise AlreadyRunning(
                    f"Another stenobox {name} uses {config.data}. Stop it, or name another folder with STENOBOX_DATA."
                ) from None
            time.sleep(0.1)


def worker_is_here(config: Config) -> bool:
    """Whether a worker has the data folder: however it went, its lock went with it."""
    try:
        lock = os.open(config.data / "worker.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def rescue(config: Config, database: Database, crash: str = "") -> None:
    """Put every running job back in line and sweep what belongs to no job. Only under the worker's lock. crash: what
    the last worker wrote as it crashed."""
    for job in store.requeue_all_running(database, crash):
        logger.warning("job %s: its worker is gone; back in line", job.id)
        for stale in media.entries(config, job.id):  # it died before the row could name it
            if _ATTEMPTS.fullmatch(stale.name) and not stale.is_dir():
                media.drop(stale)
    found = media.stray(config)  # looked up before the rows: a row is always there before its folder
    nobodys = found - store.ids(database)
    for job_id in nobodys:
        logger.warning("job %s: no such job; removing its files", job_id)
        media.remove(config, job_id)
    waiting = store.active_ids(database)
    for job_id in found - nobodys:
        for left in media.entries(config, job_id):
            if left.name.startswith("fetch-") or left.suffix == ".work":
                shutil.rmtree(left, ignore_errors=True)
            elif left.suffix == ".f32" or (left.name == "journal" and job_id not in waiting):
                media.drop(left)
