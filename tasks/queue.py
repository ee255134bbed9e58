"""The queue: Huey on a SQLite file of its own, which may be lost at any time.

A message is a wake-up call: the name of one of our tasks and a job's id, nothing that could run code. Huey deletes
a message before it runs it, so what must survive is in the jobs table, and the worker claims the first job in line
there, whichever submission woke it.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey.api import Huey
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage

from tasks import sqlite
from tasks.jobs import is_id

logger = logging.getLogger(__name__)

TASKS = ("run_job", "warm_engine", "unload_engine", "fetch_link")


class Storage(SqliteStorage):  # type: ignore[misc]
    """Huey's own storage, on the SQLite and with the journal that the box uses (see `sqlite`)."""

    integrity_error = property(lambda _: sqlite.driver.IntegrityError)
    operational_error = property(lambda _: sqlite.driver.OperationalError)

    def _create_connection(self) -> Any:
        connection = sqlite.connect(self.filename, timeout=self._timeout, check_same_thread=False, isolation_level=None)
        self._set_journal_mode(connection)
        connection.execute("PRAGMA synchronous=OFF")  # losing this file costs nothing
        return connection


class IdSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON: ["run_job", "<job id>"]. Anything else is refused."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps([data.name.rpartition(".")[2], *data.args]).encode()

    def _deserialize(self, data: bytes) -> Message:
        name, job_id = json.loads(bytes(data))
        if name not in TASKS or not isinstance(job_id, str) or not is_id(job_id):
            raise ValueError(f"not a message of ours: {bytes(data)[:80]!r}")
        return Message(
            id=str(uuid.uuid4()), name=f"{__name__}.{name}", args=(job_id,), kwargs={}, retries=0, retry_delay=0
        )


class Queue:
    """Wake-up calls, sent by anyone, answered by the worker."""

    def __init__(self, path: Path) -> None:
        self.huey = _open(path)
        self._answers: dict[str, Callable[[str], None]] = {}
        self._run_job = self._register("run_job")
        self._warm_engine = self._register("warm_engine")
        self._unload_engine = self._register("unload_engine")
        self._fetch_link = self._register("fetch_link")

    def answer(self, **answers: Callable[[str], None]) -> None:
        """Name the function that each of TASKS calls; only a worker does."""
        self._answers = answers

    def wake(self, job_id: str) -> None:
        """Something waits in line. Never raises: the worker also looks for itself every few seconds."""
        self._send(self._run_job, job_id)

    def warm(self, job_id: str) -> None:
        """Something will soon wait in line: start loading what it needs."""
        self._send(self._warm_engine, job_id)

    def unload(self) -> None:
        """A person wants the model out of memory. The id is nobody's: messages look alike."""
        self._send(self._unload_engine, uuid.uuid4().hex)

    def fetch(self, job_id: str) -> None:
        """A link waits to be fetched."""
        self._send(self._fetch_link, job_id)

    def close(self) -> None:
        self.huey.storage.close()

    def _register(self, name: str) -> Any:
        def task(job_id: str) -> None:
            self._answers[name](job_id)

        task.__module__ = __name__
        return self.huey.task(name=name)(task)

    def _send(self, task: Any, job_id: str) -> None:
        try:
            task(job_id)
        except (sqlite.driver.Error, OSError) as error:
            logger.warning("the queue file took no message for job %s (%s); the worker will find it", job_id, error)


def quiet(record: logging.LogRecord) -> bool:
    """A filter for Huey's loggers: a queue file that can't be read now is nothing that anybody has to trace. The
    heartbeat looks for work without it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, (sqlite.driver.Error, OSError)):
        record.msg, record.args = "%s (%s)", (record.getMessage().rstrip("."), error)
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


def _open(path: Path) -> Huey:
    def huey() -> Huey:
        return Huey(
            "stenobox",
            storage_class=Storage,
            filename=str(path),
            serializer=IdSerializer(),
            results=False,
            strict_fifo=True,
            cache_mb=0,
            journal_mode=sqlite.journal.lower(),
        )

    try:
        return huey()
    except sqlite.driver.DatabaseError as error:
        if isinstance(error, sqlite.driver.OperationalError):
            raise
        logger.warning("the queue file %s is damaged (%s); starting a new one", path, error)
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return huey()
