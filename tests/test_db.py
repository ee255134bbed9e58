"""The jobs database: opened safely, upgraded once, honest when it is busy, full, damaged or too new."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config as Alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tasks import db, sqlite
from tasks.config import Config
from tasks.db import (
    SCHEMA,
    Database,
    SchemaError,
    metadata,
    open_database,
    prepare_data_folder,
    settings,
)
from tasks.errors import StenoboxError

pytestmark = pytest.mark.usefixtures("journal")


def put_setting(database: Database, name: str, value: Any = 1) -> None:
    with database.write() as connection:
        connection.execute(sa.insert(settings).values(name=name, value=value, changed_at=0.0))


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.select(settings.c.name).order_by(settings.c.name)))


def open_outside(path: Path) -> Any:
    """A connection as another process would have it."""
    return sqlite.connect(path, isolation_level=None, timeout=1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the write lock."""
    connection = open_outside(path)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


@pytest.fixture
def impatient(config: Config, database: Database) -> Iterator[Database]:
    """The same file, opened by one who waits only a tenth of a second."""
    impatient = Database(config.jobs_db, busy_seconds=0.1)
    yield impatient
    impatient.close()


# Which SQLite


def installed(monkeypatch: pytest.MonkeyPatch, **versions: tuple[int, ...]) -> None:
    """Drivers of these versions, and no others."""
    for name, version in versions.items():
        module = ModuleType(name)
        vars(module)["sqlite_version_info"] = version
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    "version",
    [(3, 44, 6), (3, 44, 9), (3, 50, 7), (3, 50, 20), (3, 51, 3), (3, 51, 10), (3, 53, 4), (4, 0, 0)],
)
def test_a_sqlite_with_the_wal_fix_writes_ahead(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    installed(monkeypatch, one=(3, 46, 1), other=version)
    module, mode = sqlite.choose(("missing_module", "one", "other"))
    assert (module.__name__, mode) == ("other", "WAL")


@pytest.mark.parametrize(
    "version",
    [(3, 37, 0), (3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 46, 1), (3, 50, 6), (3, 51, 0), (3, 51, 2)],
)
def test_a_sqlite_that_can_corrupt_a_database_rolls_back(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    installed(monkeypatch, one=version, other=(3, 36, 0))
    module, mode = sqlite.choose(("missing_module", "other", "one"))
    assert (module.__name__, mode) == ("one", "TRUNCATE")


def test_the_first_one_without_the_fault_is_taken_and_the_next_not_even_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, one=(3, 51, 3), other=(3, 53, 4))
    assert sqlite.choose(("one", "other"))[0].__name__ == "one"
    assert sqlite.choose(("one", "import_would_fail.for_sure"))[0].__name__ == "one"


def test_a_sqlite_that_is_too_old_is_refused_before_a_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SimpleNamespace(sqlite_version_info=(3, 34, 1), sqlite_version="3.34.1")
    monkeypatch.setattr(sqlite, "driver", old)
    with pytest.raises(SchemaError, match=r"SQLite 3\.34\.1 is too old: 3\.35 .* Install pysqlite3"):
        Database(tmp_path / "jobs.db")
    assert not (tmp_path / "jobs.db").exists()


def test_nothing_but_one_module_knows_which_sqlite_it_is() -> None:
    root = Path(__file__).parent.parent
    files = [path for folder in ("tasks", "webapp") for path in (root / folder).rglob("*.py")]
    names = {path.name for path in files if re.search(r"^\s*(from|import) p?y?sqlite3", path.read_text(), re.MULTILINE)}
    assert names == set()


@pytest.mark.parametrize(("before", "after"), [("WAL", "TRUNCATE"), ("TRUNCATE", "WAL")])
def test_a_database_that_was_kept_the_other_way_is_taken_over(
    config: Config, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    for mode in (before, after):
        monkeypatch.setattr(sqlite, "journal", mode)
        database = open_database(config)
        put_setting(database, mode)
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == mode.lower()
        found = names(database)
        database.close()
    assert found == sorted([before, after])
    assert not (config.data / "jobs.db-wal").exists()


# The schema


def test_the_newest_migration_is_the_one_the_code_knows() -> None:
    alembic = Alembic()
    alembic.set_main_option("script_location", "tasks:migrations")
    assert ScriptDirectory.from_config(alembic).get_heads() == [SCHEMA]


def test_the_migrations_build_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_build_exactly_the_indexes_of_the_code(database: Database, tmp_path: Path) -> None:
    # Autogenerate does not compare the WHERE of a partial index.
    fresh = Database(tmp_path / "fresh.db")
    metadata.create_all(fresh.engine)

    def indexes(of: Database) -> set[tuple[str, str]]:
        with of.read() as connection:
            found = connection.execute(
                sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> ''")
            )
            return {(name, " ".join(sql.split())) for name, sql in found}

    assert indexes(database) == indexes(fresh)
    assert {"jobs_active", "jobs_created", "jobs_finished"} < {name for name, _ in indexes(database)}
    fresh.close()


def test_a_new_database_is_at_the_newest_schema_and_stays_when_opened_again(config: Config) -> None:
    first = open_database(config)
    put_setting(first, "slots")
    first.close()
    again = open_database(config)
    assert db.schema(again) == SCHEMA
    assert names(again) == ["slots"]
    again.close()


def test_an_empty_file_is_a_new_database(config: Config) -> None:
    config.data.mkdir()
    config.jobs_db.touch()
    database = open_database(config)
    assert db.schema(database) == SCHEMA
    database.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(config: Config) -> None:
    database = open_database(config)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(SchemaError, match=r"newer Stenobox \(schema 9999, this version knows \d{4}\)"):
        open_database(config)
    outside = open_outside(config.jobs_db)
    assert outside.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    outside.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database, whatever its name says. " * 200),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:100] + os.urandom(20_000)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["text", "truncated", "overwritten", "folder"],
)
def test_a_damaged_database_is_refused_with_a_sentence(config: Config, damage: Any) -> None:
    open_database(config).close()
    damage(config.jobs_db)
    with pytest.raises(SchemaError, match=r"jobs\.db can't be read as a database: .+\."):
        open_database(config)


def test_a_data_folder_that_cannot_be_made_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SchemaError, match=r"can't be written: Not a directory\. Name another.*STENOBOX_DATA="):
        open_database(Config(data=tmp_path / "file" / "data"))


@pytest.mark.parametrize("name", ["a b", "50%", "what?", "a#b", "Döner 語", "a&b=c;d", "%41"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    config = Config(data=tmp_path / name)
    open_database(config).close()
    assert config.jobs_db.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name}


MIGRATE = """
import sys, time
from pathlib import Path
from tasks.config import Config
from tasks.db import SCHEMA, open_database, schema
root, me, others, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(rounds):
    (root / f"{number}.{me}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob(f"{number}.*"))) < others:
        assert time.monotonic() < deadline, "the others never came"
        time.sleep(0.001)
    database = open_database(Config(data=root / f"data{number}"))
    assert schema(database) == SCHEMA
    database.close()
"""


def test_two_processes_that_open_a_new_database_at_once_both_find_it_upgraded(tmp_path: Path) -> None:
    rounds = 5
    openers = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, tmp_path, str(me), "2", str(rounds)], stderr=subprocess.PIPE)
        for me in range(2)
    ]
    complaints = [opener.communicate()[1].decode() for opener in openers]
    assert complaints == [""] * 2
    assert [opener.returncode for opener in openers] == [0] * 2
    outside = open_outside(tmp_path / "data0" / "jobs.db")
    assert outside.execute("SELECT count(*) FROM alembic_version").fetchall() == [(1,)]
    outside.close()


def test_a_new_database_is_not_touched_while_another_process_prepares_it(config: Config) -> None:
    # Of two connections that turn a new file to WAL at once, one fails without any wait.
    prepare_data_folder(config)
    with open(config.data / "migrate.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opener = threading.Thread(target=lambda: open_database(config).close())
        opener.start()
        opener.join(0.2)
        assert opener.is_alive()
        assert not config.jobs_db.exists()
    opener.join(60)
    assert config.jobs_db.exists()


def test_what_is_written_is_closed_to_other_users(config: Config, journal: str) -> None:
    before = os.umask(0o077)  # as the command line sets it
    try:
        database = open_database(config)
        put_setting(database, "slots")
        modes = {path.name: path.stat().st_mode & 0o777 for path in [config.data, *config.data.iterdir()]}
        database.close()
    finally:
        os.umask(before)
    folders = {"data": 0o700, "media": 0o700, "models": 0o700}
    beside = ["jobs.db-wal", "jobs.db-shm"] if journal == "WAL" else ["jobs.db-journal"]
    files = dict.fromkeys(["jobs.db", *beside, "migrate.lock"], 0o600)
    assert modes == folders | files


def test_the_folders_are_closed_to_other_users_whatever_the_umask(config: Config) -> None:
    before = os.umask(0o000)
    try:
        open_database(config).close()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (config.data, config.media, config.models)] == [0o700] * 3


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o700), (0o2770, 0o700), (0o1777, 0o1777)])
def test_a_data_folder_that_was_there_is_closed_unless_all_may_write_it(
    config: Config, before: int, after: int
) -> None:
    config.data.mkdir(exist_ok=True)
    config.data.chmod(before)
    prepare_data_folder(config)
    assert config.data.stat().st_mode & 0o1777 == after


# Reading and writing


def test_a_commit_is_on_disk_when_it_returns(database: Database, journal: str) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == journal.lower()
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_what_was_written_is_seen_by_another_process(config: Config, database: Database) -> None:
    put_setting(database, "slots")
    outside = open_outside(config.jobs_db)
    assert outside.execute("SELECT name FROM settings").fetchall() == [("slots",)]
    outside.close()


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(settings).values(name="slots", value=1, changed_at=0.0))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert names(database) == []
    put_setting(database, "slots")


def test_reads_go_on_while_another_process_writes_and_see_what_was_before(
    config: Config, database: Database, impatient: Database
) -> None:
    put_setting(database, "slots")
    outside = open_outside(config.jobs_db)
    outside.execute("BEGIN IMMEDIATE")
    outside.execute("DELETE FROM settings")
    assert names(impatient) == ["slots"]
    outside.execute("COMMIT")
    outside.close()
    assert names(impatient) == []


def test_a_read_sees_one_snapshot(database: Database, impatient: Database, journal: str) -> None:
    with database.read() as connection:
        count = sa.select(sa.func.count()).select_from(settings)
        assert connection.scalar(count) == 0
        if journal == "WAL":
            put_setting(database, "slots")
        else:  # the write waits for the read, and for no longer than it may
            with pytest.raises(StenoboxError, match="busy"):
                put_setting(impatient, "slots")
        assert connection.scalar(count) == 0
    if journal != "WAL":
        put_setting(impatient, "slots")
    assert names(database) == ["slots"]


def test_a_write_waits_for_reads_that_end_and_reads_for_a_write_that_ends(config: Config, database: Database) -> None:
    other = Database(config.jobs_db)
    stop, errors = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                names(other)
            except StenoboxError as error:
                errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(20):
        put_setting(database, f"{number:02}")
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(names(other)) == 20
    other.close()


def test_a_lock_held_by_another_process_is_a_busy_database(config: Config, impatient: Database) -> None:
    with locked(config.jobs_db), pytest.raises(StenoboxError, match="Nothing was lost; try again") as refusal:
        put_setting(impatient, "slots")
    assert (refusal.value.code, refusal.value.retry_after) == ("database_busy", 5)
    put_setting(impatient, "slots")
    assert names(impatient) == ["slots"]


def test_a_write_of_another_thread_is_waited_for_and_then_a_busy_database(impatient: Database) -> None:
    writing, done = threading.Event(), threading.Event()

    def write() -> None:
        with impatient.write():
            writing.set()
            done.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait(60)
    try:
        with pytest.raises(StenoboxError, match="busy") as refusal:
            put_setting(impatient, "slots")
    finally:
        done.set()
        thread.join()
    assert refusal.value.code == "database_busy"
    put_setting(impatient, "slots")


def test_writers_take_turns_and_none_is_lost(database: Database) -> None:
    threads = [threading.Thread(target=put_setting, args=(database, f"{number:02}")) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(database) == [f"{number:02}" for number in range(16)]


def test_a_full_disk_has_its_sentence_and_nothing_is_written(database: Database) -> None:
    def fill() -> None:
        with database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.execute(sa.insert(settings).values(name="small", value=1, changed_at=0.0))
            connection.execute(sa.insert(settings).values(name="big", value="x" * 100_000, changed_at=0.0))

    with pytest.raises(StenoboxError, match=r"The disk of this box is full\. Free some space") as refusal:
        fill()
    assert refusal.value.code == "disk_full"
    assert names(database) == []
    with database.write() as connection:  # space was freed
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    put_setting(database, "big", "x" * 100_000)
    assert names(database) == ["big"]


def test_a_mistake_in_a_query_stays_a_mistake(database: Database) -> None:
    with pytest.raises(sa.exc.OperationalError, match="no such table"), database.read() as connection:
        connection.execute(sa.text("SELECT 1 FROM no_table"))


# A pooled connection after an exception in the middle of a result


def test_a_result_that_was_left_in_the_middle_does_not_disturb_the_next(database: Database) -> None:
    """Its cursor lives on in the traceback, and is collected while somebody else reads the same."""
    with database.write() as connection:
        rows = [{"name": f"{number:03}", "value": 1, "changed_at": 0.0} for number in range(60)]
        connection.execute(sa.insert(settings), rows)
    query = sa.select(settings.c.name).where(settings.c.changed_at >= 0.0).order_by(settings.c.name).limit(50)
    left: list[Any] = []

    def leave_in_the_middle() -> None:
        with database.read() as connection:
            left.append(iter(connection.execute(query)))
            for _ in range(30):
                next(left[0])
            raise KeyError("strange")

    for _ in range(2):
        with pytest.raises(KeyError, match="strange"):
            leave_in_the_middle()
        with database.read() as connection:
            found = iter(connection.execute(query))
            first = [next(found).name for _ in range(34)]
            left.clear()
            assert len(first + [row.name for row in found]) == 50


def test_when_every_connection_is_lent_it_is_busy(config: Config, database: Database) -> None:
    database.engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    lent = [database.engine.connect() for _ in range(40)]
    try:
        with pytest.raises(StenoboxError) as raised, database.read():
            pass
        assert (raised.value.code, raised.value.kind.status) == ("database_busy", 503)
        with pytest.raises(StenoboxError, match="busy"), database.write():
            pass
    finally:
        for connection in lent:
            connection.close()
    assert names(database) == []
