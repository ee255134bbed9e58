"""What waits never keeps others waiting: locks held elsewhere stop what writes, not reads, pages, files or health."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest
from pysqlite3 import dbapi2 as sqlite
from starlette.routing import Route
from starlette.testclient import TestClient
from support import BUSY_SECONDS, wait_until
from test_every_route import PASSWORD, filled
from web_support import END, FORM, Live, client_of, file_part, live, put_job

from tasks import access, db, logins
from tasks.actions import Box
from tasks.config import Config
from tasks.db import Database
from tasks.jobs import State
from webapp import threads
from webapp.protocol import OPTIONS
from webapp.routes import routes

SUBMIT = "/api/v1/transcriptions"


@contextmanager
def locked(config: Config) -> Iterator[None]:
    """Somebody else writes, and takes their time."""
    other = sqlite.connect(config.jobs_db, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(db, "BUSY_SECONDS", BUSY_SECONDS)  # the test says when the lock is free
    with live(Config(data=tmp_path / "data", slots=1, queue_limit=200), **OPTIONS) as server:
        yield server


def test_a_crowd_that_waits_for_a_lock_stops_nobody_else(server: Live) -> None:
    job = put_job(server.box, State.COMPLETED)
    key = server.box.access.create_key("boss", "admin")[1]
    statuses: list[int] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=BUSY_SECONDS, headers={"X-API-Key": writer}) as client:
            answer = [
                lambda: client.post("/api/v1/batches", json={"name": f"batch {number}"}),
                lambda: client.post(SUBMIT, files={"file": ("a.wav", b"sound")}),
                lambda: client.put(f"{SUBMIT}/a.wav", content=b"sound"),
                lambda: client.post("/api/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"}),
            ][number % 4]()
            statuses.append(answer.status_code)

    writer = server.box.access.create_key("writer", "submit")[1]
    crowd = [threading.Thread(target=ask, args=(number,)) for number in range(60)]
    with locked(server.config):
        for one in crowd:
            one.start()

        def waiting() -> bool:
            connections: Any = list(server.server.server_state.connections)
            return sum(c.cycle is not None and not c.cycle.response_complete for c in connections) >= 60

        wait_until(waiting)
        took = []
        with httpx.Client(base_url=server.url, timeout=BUSY_SECONDS) as client:
            for _ in range(20):
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                took.append(time.monotonic() - began)
            for path in ("/static/app.css", "/api/v1/capacity", f"/api/v1/jobs/{job.id}", "/api/v1/jobs", "/"):
                assert client.get(path, headers={"X-API-Key": key}).status_code == 200, path
            words = client.get(f"/api/v1/jobs/{job.id}/transcript", headers={"X-API-Key": key})
            assert words.status_code == 200
        assert statuses == []  # nobody of the crowd was answered meanwhile
        assert statistics.median(took) < 0.1, took
    for one in crowd:
        one.join(BUSY_SECONDS)
    assert len(statuses) == 60
    assert set(statuses) == {201, 202}, statuses


def test_logins_wait_for_each_other_without_the_threads_that_answer(server: Live) -> None:
    server.box.logins.set_password(PASSWORD, "test")
    statuses: list[int] = []

    def enter() -> None:
        statuses.append(
            httpx.post(f"{server.url}/login", data={"password": PASSWORD}, timeout=BUSY_SECONDS).status_code
        )

    crowd = [threading.Thread(target=enter) for _ in range(50)]
    with locked(server.config):
        for one in crowd:
            one.start()
        assert httpx.get(f"{server.url}/login", timeout=BUSY_SECONDS).status_code == 200
        assert httpx.get(f"{server.url}/static/app.css", timeout=BUSY_SECONDS).status_code == 200
        assert statuses == []
    for one in crowd:
        one.join(BUSY_SECONDS)
    assert set(statuses) == {303}


@pytest.mark.parametrize("who", ["nobody", "a key", "a browser"])
def test_who_only_reads_waits_for_no_lock(
    client: TestClient, behind: Box, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put_job(behind, State.COMPLETED)
    batch = client.post("/api/v1/batches", json={"name": "talks"}).json()["id"]
    monkeypatch.setattr(access, "USE_SECONDS", 0.0)  # each use is to be written down
    monkeypatch.setattr(logins, "SEEN_SECONDS", 0.0)
    monkeypatch.setattr(logins, "FRESH_SECONDS", 0.0)
    sent: dict[str, str] = {}
    if who == "a key":
        sent = {"X-API-Key": behind.access.create_key("boss", "admin")[1]}
    elif who == "a browser":
        behind.logins.set_password(PASSWORD, "test")
        sent = {"Cookie": "stenobox=" + client.post("/login", data={"password": PASSWORD}).cookies["stenobox"]}
    waits, write = [], Database.write

    def watched(self: Database, *, at_once: bool = False) -> Any:
        if not at_once:
            waits.append(path)
        return write(self, at_once=at_once)

    monkeypatch.setattr(Database, "write", watched)
    for path in sorted({r.path for r in routes if isinstance(r, Route) and "GET" in (r.methods or ())}):
        if path != "/setup":
            assert client.get(filled(path, job.id, batch), headers=sent).status_code != 500, path
    assert waits == []


def test_a_lock_does_not_keep_a_reader_with_a_key_waiting(client: TestClient, behind: Box) -> None:
    key = behind.access.create_key("reader", "read")[1]
    with locked(behind.config):
        began = time.monotonic()
        assert client.get("/api/v1/jobs", headers={"X-API-Key": key}).status_code == 200
        assert time.monotonic() - began < db.BUSY_SECONDS / 2
    assert client.get("/api/v1/jobs", headers={"X-API-Key": key}).status_code == 200


def test_at_once_gives_up_at_once_and_later_patience_is_back(config: Config, database: Database) -> None:
    short = Database(config.jobs_db, busy_seconds=0.5)
    with locked(config):
        began = time.monotonic()
        with pytest.raises(Exception, match="busy"), short.write(at_once=True):
            pass
        quick = time.monotonic() - began
        with pytest.raises(Exception, match="busy"), short.write():
            pass
        assert time.monotonic() - began - quick >= 0.5
    with short.write(at_once=True), pytest.raises(Exception, match="busy"), short.write(at_once=True):
        pass
    short.close()


def test_every_address_that_changes_something_does_it_in_the_threads_for_that(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What blocks on a lock there takes no thread of those that answer."""
    inside, found, write = threading.local(), [], Database.write
    asked: tuple[str, str] | None = None  # what a start or an end clears up is nobody's request

    async def watched(pool: threads.Pool, function: Any, *arguments: Any, **named: Any) -> Any:
        def run() -> Any:
            inside.yes = True
            try:
                return function(*arguments, **named)
            finally:
                inside.yes = False

        return await anyio.to_thread.run_sync(run, limiter=pool.limiter())

    def checked(self: Database, *, at_once: bool = False) -> Any:
        name = threading.current_thread().name
        if asked and not (
            at_once or getattr(inside, "yes", False) or name.startswith(("write", "Thread", "MainThread"))
        ):
            found.append(asked)
        return write(self, at_once=at_once)

    monkeypatch.setattr(threads.Pool, "__call__", watched)
    monkeypatch.setattr(Database, "write", checked)
    with client_of(config) as client:  # after that, or what its first sweep began would not be watched
        behind: Box = client.app.state.box  # type: ignore[attr-defined]
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
        for route in routes:
            for method in sorted(getattr(route, "methods", None) or ()):
                if method in ("GET", "HEAD", "OPTIONS"):
                    continue
                behind.change_settings({"intake": "open", "queue_limit": 100}, "test")
                job = put_job(behind, State.CANCELED)
                begun = client.post("/api/v1/batches", json={"name": f"talks {job.id}"})
                assert begun.status_code == 201, (asked, begun.text)
                batch = begun.json()["id"]
                upload = client.post("/api/v1/uploads", headers=tus | {"Content-Type": ""}).headers["location"]
                asked = (method, filled(route.path, job.id, batch, upload.rpartition("/")[2]))  # type: ignore[attr-defined]
                for body in (
                    {"json": {"name": f"of {job.id}", "source_job": job.id}},
                    {"headers": FORM, "content": file_part() + END},
                    {"headers": tus | {"Upload-Offset": "0"}, "content": b"sound"},
                    {
                        "data": {
                            "kind": "extraction",
                            "name": "a",
                            "url": "http://localhost/a",
                            "current": "",
                            "new": "x",
                        }
                    },
                ):
                    client.request(*asked, **body)  # type: ignore[arg-type]
                for active in behind.list_active():
                    behind.delete(active.id)
        asked = None
    assert found == []
