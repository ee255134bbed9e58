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

from tasks import disk, sqlite
from tasks.config import Config
from tasks.errors import StenoboxError

SCHEMA = "0013"  # the newest migration; a test holds it equal to Alembic's head
BUSY_SECONDS = 10.0
POOL_SIZE = 8  # connections that a process keeps; more are opened when more is asked at once, and closed again

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(16)),
    sa.Column("progress", sa.Float, nullable=False, default=0.0),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("queued_at", sa.Float),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("crashes", sa.Integer, nullable=False, default=0),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("receiver", sa.String(32)),
    sa.Column("token", sa.String(32)),
    sa.Column("worker", sa.String(32)),
    sa.Column("lease_until", sa.Float),
    sa.Column("source_type", sa.String(16), nullable=False),
    sa.Column("source_name", sa.Text, nullable=False),
    sa.Column("source_bytes", sa.BigInteger),
    sa.Column("source_seconds", sa.Float),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("error_code", sa.String(32)),
    sa.Column("error_message", sa.Text),
    sa.Column("note", sa.Text),
    sa.Column("result", sa.String(64)),
    sa.Column("submitter", sa.String(64), nullable=False, server_default=sa.text("''")),
    sa.Column("turn", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("work_seconds", sa.Float),
    sa.Column("source_sha256", sa.String(64)),
    sa.Column("media_removed_at", sa.Float),
    sa.Column("source_url", sa.Text),
    sa.Column("needs_download", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("about", sa.JSON, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("resumed", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("elapsed", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("media", sa.JSON(none_as_null=True)),
    sa.Column("batch", sa.String(32)),
    # The states are literals here and in every query that counts them: a bound IN (?, ?) can't use a partial index.
    sa.Index("jobs_active", "state", "turn", "queued_at", "id", sqlite_where=sa.text("finished_at IS NULL")),
    sa.Index("jobs_created", "created_at", "id"),
    sa.Index("jobs_finished", "finished_at", sqlite_where=sa.text("finished_at IS NOT NULL")),
    sa.Index("jobs_batch", "batch", "created_at", sqlite_where=sa.text("batch IS NOT NULL")),
    sa.Index("jobs_same", "source_sha256", sqlite_where=sa.text("source_sha256 IS NOT NULL")),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("submitter", sa.String(64), nullable=False),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("batches_name", "submitter", "name", unique=True),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("submitter", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Index("idempotency_keys_job", "job_id"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job", sa.String(32), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("token", sa.String(32), nullable=False, unique=True),
    sa.Column("worker", sa.String(32), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("stage", sa.String(16)),
    sa.Column("outcome", sa.String(16)),
    sa.Column("cause", sa.String(32)),
    sa.Column("sentence", sa.Text),
    sa.Column("peak_bytes", sa.BigInteger),
    sa.Column("batch", sa.Integer),
    sa.Column("charged", sa.Boolean, nullable=False, server_default=sa.text("0")),
    sa.Column("crash", sa.Text),
    sa.Index("attempts_job", "job", "number"),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("length", sa.BigInteger),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("submit", sa.Boolean, nullable=False),
    sa.Column("verified_to", sa.BigInteger),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Index("uploads_expires", "expires_at"),
)

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("old", sa.JSON, nullable=False),
    sa.Column("new", sa.JSON, nullable=False),
)

measurements = sa.Table(
    "measurements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("compute_type", sa.String(16), nullable=False),
    sa.Column("windows", sa.Integer, nullable=False),
    sa.Column("aligned", sa.Boolean, nullable=False),
    sa.Column("base", sa.BigInteger, nullable=False),
    sa.Column("load", sa.BigInteger, nullable=False),
    sa.Column("job", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")) for name in ("gpu_load", "gpu_job")),
    sa.Column("audio_seconds", sa.Float, nullable=False),
    sa.Column("work_seconds", sa.Float, nullable=False),
    sa.Column("beside", sa.Integer, nullable=False),
    sa.Index("measurements_model", "model", "id"),
)

samples = sa.Table(
    "samples",
    metadata,
    sa.Column("at", sa.Float, primary_key=True),
    sa.Column("memory_used", sa.BigInteger, nullable=False),
    sa.Column("memory_limit", sa.BigInteger, nullable=False),
    sa.Column("swapped", sa.BigInteger, nullable=False),
    sa.Column("stalled", sa.Float),
    sa.Column("cpu", sa.Float, nullable=False),
    sa.Column("response_seconds", sa.Float),
    sa.Column("oom_kills", sa.Integer, nullable=False),
    sa.Column("running", sa.Integer, nullable=False),
    sa.Column("queued", sa.Integer, nullable=False),
    sa.Column("guard", sa.String(16), nullable=False),
)


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
        # SQLite's own busy wait is unfair between threads: one lock here keeps the longest wait eight times shorter.
        self._turn = threading.Lock()
        self._busy_seconds = busy_seconds

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot. Raises StenoboxError database_busy."""
        with self._sentences(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection holding the write lock from its first statement; committed and on disk at the end.

        Raises StenoboxError database_busy, disk_full or storage_failing; then nothing was written.
        """
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise _busy()
        try:
            with self._sentences(), self.engine.connect() as connection:
                connection = connection.execution_options(begin="IMMEDIATE")
                with connection.begin():
                    yield connection
        finally:
            self._turn.release()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """What SQLite says of disk and locks, as refusals that the caller can live with."""
        try:
            yield
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
