"""The jobs database: one SQLite file, opened so that a commit is on disk when it returns (see `sqlite` for how)."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tasks import disk, sqlite
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.tables import attempts as attempts
from tasks.tables import batches as batches
from tasks.tables import changes as changes
from tasks.tables import idempotency_keys as idempotency_keys
from tasks.tables import jobs as jobs
from tasks.tables import measurements as measurements
from tasks.tables import metadata as metadata
from tasks.tables import samples as samples
from tasks.tables import settings as settings
from tasks.tables import uploads as uploads

SCHEMA = "0015"  # the newest migration; a test holds it equal to Alembic's head
BUSY_SECONDS = 10.0
POOL_SIZE = 8  # connections that a process keeps; more are opened when more is asked at once, and closed again


class SchemaError(Exception):
    """The database can't be used by this version; the sentence says why and what to do."""


def check_sqlite_version() -> None:
    """Refuse a SQLite that doesn't know the statements used here. Raises SchemaError."""
    if sqlite.driver.sqlite_version_info < sqlite.OLDEST:
        oldest = ".".join(map(str, sqlite.OLDEST[:2]))
        raise SchemaError(
            f"SQLite {sqlite.driver.sqlite_version} is too old: {oldest} is the oldest that will do. "
            "Install pysqlite3, which carries a newer one, or use a newer Python."
        )


class Database:
    """A pool of connections to one file. Reads go on while one write is under way (with a rollback journal but for its
    last moment, and it waits for them to end); writes take turns."""

    def __init__(self, path: Path, *, busy_seconds: float | None = None) -> None:
        """busy_seconds: how long others' locks are waited out, BUSY_SECONDS unless given."""
        check_sqlite_version()
        busy_seconds = BUSY_SECONDS if busy_seconds is None else busy_seconds
        self._path = path
        self.engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),  # not a string: a folder's name may hold "?" or "%"
            module=sqlite.driver,
            connect_args={"timeout": busy_seconds, "check_same_thread": False},
            hide_parameters=True,  # an error's text goes into the log; what people sent does not
            pool_size=POOL_SIZE,
            max_overflow=32,
        )
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _begin)
        event.listen(self.engine, "before_cursor_execute", _note_cursor)
        # SQLite's own busy wait is unfair between threads: one lock here keeps the longest wait eight times shorter.
        self._turn = threading.Lock()
        self._busy_seconds = busy_seconds

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Raises StenoboxError database_busy."""
        with (
            self._sentences(),
            self.engine.connect() as connection,
            connection.begin(),
            _no_statement_left(connection),
        ):
            yield connection

    @contextmanager
    def write(self, *, at_once: bool = False) -> Iterator[Connection]:
        """A connection holding the write lock from its first statement; committed and on disk at the end. at_once: or
        not at all, for what can as well be noted another time: nobody who reads waits for it.

        Raises StenoboxError database_busy, disk_full or storage_failing; then nothing was written.
        """
        if not self._turn.acquire(timeout=0 if at_once else self._busy_seconds):
            raise _busy()
        try:
            with self._sentences(), self.engine.connect() as connection:
                connection = connection.execution_options(begin="IMMEDIATE")
                patience = self._patience(connection, 0 if at_once else self._busy_seconds)
                with patience, connection.begin(), _no_statement_left(connection):
                    yield connection
        finally:
            self._turn.release()

    @contextmanager
    def _patience(self, connection: Connection, seconds: float) -> Iterator[None]:
        """Others' locks are waited out so long."""
        if seconds == self._busy_seconds:
            yield
            return
        own: Any = connection.connection.dbapi_connection
        own.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
        try:
            yield
        finally:
            own.execute(f"PRAGMA busy_timeout = {round(self._busy_seconds * 1000)}")

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """What SQLite says of disk and locks, as refusals that the caller can live with."""
        try:
            yield
        except PoolTimeout as error:  # every connection is lent, to those who wait themselves
            raise _busy() from error
        except OperationalError as error:
            text = str(error.orig)
            if "locked" in text or "busy" in text:
                raise _busy() from error
            if "disk is full" in text or ("disk I/O error" in text and disk.is_full(self._path.parent)):  # a quota
                raise StenoboxError(
                    "disk_full", "The disk of this box is full. Free some space and try again.", retry_after=60
                ) from error
            if any(words in text for words in ("readonly", "disk I/O error", "unable to open")):
                # A connection that was opened while the folder could not be written stays read-only for ever.
                self.engine.dispose()
                raise StenoboxError(
                    "storage_failing",
                    f"The database can't be written ({text}). Nothing was lost; look at the disk of this box.",
                    retry_after=60,
                ) from error
            raise

    def close(self) -> None:
        self.engine.dispose()


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.execute(f"PRAGMA journal_mode={sqlite.journal}")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def _note_cursor(connection: Connection, cursor: Any, *_: object) -> None:
    connection.info.setdefault("cursors", []).append(cursor)


@contextmanager
def _no_statement_left(connection: Connection) -> Iterator[None]:
    """Close every cursor before the transaction ends. A rollback resets the statement of one that was left in the
    middle of its rows, and gives it to the next that asks the same: two cursors then move one statement, and rows come
    twice, or "Error binding parameter 0"."""
    info = connection.info
    try:
        yield
    finally:
        for cursor in info.pop("cursors", ()):
            cursor.close()


def _busy() -> StenoboxError:
    return StenoboxError(
        "database_busy", "The database is busy. Nothing was lost; try again in a few seconds.", retry_after=5
    )


def prepare_data_folder(config: Config) -> None:
    """Create the data folder, and close it to other users."""
    try:
        for folder in (config.data, config.media, config.models):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = config.data.stat()
        if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not found.st_mode & 0o1000:  # not /tmp
            config.data.chmod(0o700)  # it was there before
    except OSError as error:
        raise SchemaError(
            f"The data folder {config.data} can't be written: {error.strerror}. "
            "Name another, for example STENOBOX_DATA=/data"
        ) from None


def open_database(config: Config) -> Database:
    """Open the jobs database, creating or upgrading it first where needed. Raises SchemaError."""
    prepare_data_folder(config)
    database = Database(config.jobs_db)
    with open(config.data / "migrate.lock", "w") as lock:
        # One process at a time, from the first connection on: of two that turn a new file to WAL at once, one is told
        # that it is locked, without any wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if schema(database) != SCHEMA:
                migrate(config, database)
        except StenoboxError as error:
            if error.code != "storage_failing":
                raise
            raise SchemaError(f"{config.jobs_db} can't be read as a database: {error.message}") from error
        except DatabaseError as error:
            raise SchemaError(f"{config.jobs_db} can't be read as a database: {error.orig}.") from error
    return database


def schema(database: Database) -> str | None:
    """The migration the file is at, or None for an empty file."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return version


def migrate(config: Config, database: Database) -> None:
    """Bring the schema to SCHEMA. Raises SchemaError on a database of a newer version."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it talks while it is imported
    from alembic import command  # 10 MB that a running process has no use for
    from alembic.config import Config as Alembic

    found = schema(database)
    if found is not None and found > SCHEMA:
        raise SchemaError(
            f"{config.jobs_db} was written by a newer Stenobox (schema {found}, this version knows {SCHEMA}). "
            "Install that version again, or restore a backup made with this one."
        )
    alembic = Alembic()
    alembic.set_main_option("script_location", "tasks:migrations")
    with database.write() as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")
