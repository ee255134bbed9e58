"""Fixtures shared by all tests: a data folder, a box without processes, and a real server for each process of a run."""

from __future__ import annotations

import asyncio
import importlib
import signal
import traceback
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support import Served, migrate_by_copy, serve, without_pysqlite3
from web_support import client_of

from tasks import sqlite
from tasks.actions import Box
from tasks.config import Config
from tasks.db import Database, open_database
from tasks.lookout import Lookout
from tasks.queue import Queue

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or what the tests start would ignore it, too


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests first, so that no process is left alone with them at the end."""
    long = {item.path for item in items if item.get_closest_marker("chaos") or item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


LOG_TAIL = 20_000
"""Characters of a box's log that are shown with a test that failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the logs of the boxes that it started, or its worker shares: whoever reads of it an hour
    later, or in CI, has nothing else."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {})
        logs = {value.log for value in used.values() if isinstance(value, Served)}
        logs |= set(used["tmp_path"].rglob("serve.log")) if "tmp_path" in used else set()
        for log in sorted(logs):
            report.sections.append((f"log of {log}", log.read_text(errors="replace")[-LOG_TAIL:]))
    return report


@pytest.fixture(autouse=True)
def loops_read_no_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test is about: an event loop that waits for database or disk keeps everybody waiting."""
    found: list[str] = []

    def guarded(function: Any) -> Any:
        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with suppress(RuntimeError):
                asyncio.get_running_loop()
                stack = traceback.extract_stack(limit=12)
                if not any("/test_" in frame.filename for frame in stack):  # a test's own look
                    found.append("".join(traceback.format_list(stack)))
            return function(*arguments, **named)

        return call

    for name in ("read", "write"):
        monkeypatch.setattr(Database, name, guarded(getattr(Database, name)))
    monkeypatch.setattr(Lookout, "disk_free", guarded(Lookout.disk_free))
    yield
    assert not found, found[0]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with a data folder of its own and room for one running and two waiting jobs."""
    return Config(data=tmp_path / "data", slots=1, queue_limit=2, lease=5, grace=5, engine_idle=60)


@pytest.fixture(params=[sqlite.WAL, sqlite.ROLLBACK])
def journal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Both ways to keep the databases: with the SQLite that was chosen here, and with Python's own and a rollback
    journal, as where only an older one is to be had; there in processes that a test starts, too. For whole files:
    `pytestmark = pytest.mark.usefixtures("journal")`."""
    if request.param == sqlite.ROLLBACK:
        monkeypatch.setattr(sqlite, "driver", importlib.import_module("sqlite3"))
        monkeypatch.setattr(sqlite, "journal", sqlite.ROLLBACK)
        monkeypatch.setenv("PYTHONPATH", str(without_pysqlite3(tmp_path_factory.mktemp("path"))))
    return str(request.param)


@pytest.fixture
def database(config: Config) -> Iterator[Database]:
    migrate_by_copy(config)
    database = open_database(config)
    yield database
    database.close()


@pytest.fixture
def box(config: Config, database: Database) -> Iterator[Box]:
    """What the faces use, with no worker behind it: jobs stay queued."""
    queue = Queue(config.queue_db)
    yield Box(config, database, queue)
    queue.close()


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    """A client of the whole web application."""
    with client_of(config) as client:
        yield client


@pytest.fixture
def behind(client: TestClient) -> Box:
    """The box that the client talks to."""
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One real server for all tests of a process: web, worker and engine with the demo model, two slots."""
    served = serve(tmp_path_factory.mktemp("served"), STENOBOX_SLOTS="2", STENOBOX_QUEUE_LIMIT="100")
    yield served
    assert served.stop() == 0, served.log.read_text()
