"""When disk or database can't be written: refusals that say so, reads that go on, and recovery without a restart."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support import wait_until
from web_support import END, FORM, Live, file_part, live, put_job

from tasks import db, lookout, media, receiving, resumable, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import Database, jobs
from tasks.errors import StenoboxError
from tasks.jobs import Params, State
from webapp import app

HOLD = """
import sys
from tasks.sqlite import driver as sqlite
connection = sqlite.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@contextmanager
def held(config: Config) -> Iterator[Any]:
    """Another process holds the write lock until the block ends, or `release` is called."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(config.jobs_db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"

    def release() -> None:
        if process.poll() is None:
            process.communicate(b"\n", timeout=60)

    try:
        yield release
    finally:
        release()
        assert process.returncode == 0


def send(client: httpx.Client) -> httpx.Response:
    return client.post("/api/v1/transcriptions", content=file_part() + END, headers=FORM)


def test_a_lock_of_others_is_waited_out(config: Config) -> None:
    """As one of 4 s is by the 10 s that a box waits."""
    with (
        live(config) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        held(config) as release,
        ThreadPoolExecutor(1) as threads,
    ):
        waiting = threads.submit(send, client)
        for _ in range(10):
            assert client.get("/api/v1/jobs").json()["jobs"] == [], "reads go on"
        assert not waiting.done()
        release()
        assert waiting.result(60).status_code == 202


def test_a_lock_that_stays_is_told_with_the_time_to_come_back(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of 12 s is."""
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.3)
    with live(config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        with held(config):
            refused = send(client)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_busy")
            assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("5", "true")
            for path in ("/", "/api/v1/jobs", "/api/v1/capacity", "/healthz"):
                assert client.get(path).status_code == 200, path
        assert send(client).status_code == 202
        assert server.states() == ["queued"]
        assert len(server.folders()) == 1


def test_places_that_a_busy_database_kept_at_the_start_are_given_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier web process was receiving would fill the box until the next start."""
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(app, "CLEAR_SECONDS", 0.02)
    broken = put_job(box, State.RECEIVING)
    media.part(box.config, broken.id).parent.mkdir()
    media.part(box.config, broken.id).write_bytes(b"half of it")
    complete = resumable.begin(box, "talk.mp3", 5, (Params("demo"), "", True))
    media.part(box.config, complete.id).write_bytes(b"sound")
    with held(box.config), live(box.config) as server:
        assert sorted(server.states()) == ["receiving", "receiving"]
        wait_until(lambda: server.folders() == [media.folder(box.config, complete.id)])  # room comes first
    with live(box.config) as server:
        assert server.states() == ["queued"]


def test_and_without_a_new_start(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(app, "CLEAR_SECONDS", 0.02)
    put_job(box, State.RECEIVING)
    complete = resumable.begin(box, "talk.mp3", 5, (Params("demo"), "", True))
    media.part(box.config, complete.id).write_bytes(b"sound")
    with held(box.config) as release, live(box.config) as server:
        assert sorted(server.states()) == ["receiving", "receiving"]
        release()
        wait_until(lambda: server.states() == ["queued"])


def test_a_box_waits_ten_seconds() -> None:
    assert 4 < db.BUSY_SECONDS < 12


def test_a_database_without_room_is_a_sentence_and_stays_whole(box: Box) -> None:
    kept = put_job(box, State.QUEUED)

    def cramp(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # no page more than it has

    box.database.close()
    event.listen(box.database.engine, "connect", cramp)

    def fill() -> None:
        with box.database.write() as connection:
            connection.execute(sa.update(jobs).values(source_name="x" * 100_000))

    with pytest.raises(StenoboxError) as refused:
        fill()
    assert (refused.value.code, refused.value.retry_after) == ("disk_full", 60)
    assert box.get(kept.id).source.name == "talk.mp3", "reads go on, and nothing was written"
    event.remove(box.database.engine, "connect", cramp)
    box.database.close()
    assert box.cancel(kept.id).state == State.CANCELED
    with box.database.read() as connection:
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def test_a_database_that_can_not_be_written_is_a_sentence_and_comes_back_by_itself(box: Box) -> None:
    """SQLite says the same of a read-only folder; a connection it opened meanwhile would stay read-only."""
    job = put_job(box, State.QUEUED)

    def refuse(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    box.database.close()
    event.listen(box.database.engine, "connect", refuse)
    with pytest.raises(StenoboxError, match="readonly database") as refused:
        box.cancel(job.id)
    assert refused.value.kind.status == 503
    assert box.get(job.id).state == State.QUEUED
    event.remove(box.database.engine, "connect", refuse)
    with pytest.raises(StenoboxError, match="readonly"):  # by the connection that the read left in the pool
        box.cancel(job.id)
    assert box.cancel(job.id).state == State.CANCELED


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EDQUOT, "disk_full"), (errno.EIO, "storage_failing"), (None, "storage_failing")],
)
def test_a_quota_that_is_used_up_is_a_full_disk(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int | None, code: str
) -> None:
    """SQLite says "disk I/O error" of it."""
    monkeypatch.setattr(db.disk, "write_error", lambda _: OSError(number, "no") if number else None)
    with pytest.raises(StenoboxError) as refused, database.write():
        raise sa.exc.OperationalError("INSERT", None, Exception("disk I/O error"))
    assert (refused.value.code, refused.value.retry_after) == (code, 60)


def test_what_sqlite_says_and_nobody_expected_is_no_refusal(database: Database) -> None:
    with pytest.raises(sa.exc.OperationalError), database.write() as connection:
        connection.execute(sa.text("SELECT * FROM nowhere"))


# Uploads and the disk


@pytest.fixture
def server(config: Config) -> Iterator[Live]:
    with live(config) as server:
        yield server


def spare(monkeypatch: pytest.MonkeyPatch, free: list[int]) -> None:
    """The disk has so much free, as the last entry says."""
    monkeypatch.setattr(lookout.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free[-1]}))


def test_an_upload_of_unknown_size_is_refused_before_the_disk_is_full(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(monkeypatch, [receiving.SPARE_BYTES - 1])
    with httpx.Client(base_url=server.url, timeout=60) as client:
        refused = client.post("/api/v1/transcriptions", content=iter([file_part(), END]), headers=FORM)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
    assert server.folders() == []


def test_a_long_upload_stops_before_the_disk_is_full(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [receiving.SPARE_BYTES + 10**9]
    spare(monkeypatch, free)
    going = threading.Event()

    def body() -> Iterator[bytes]:
        whole = file_part(b"s" * 3 * 2**20) + END
        yield whole[: 2**20]
        going.wait(60)
        yield whole[2**20 :]

    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.post, "/api/v1/transcriptions", content=body(), headers=FORM)
        wait_until(lambda: server.states() == ["receiving"])
        free.append(receiving.SPARE_BYTES - 1)  # others' uploads took it
        going.set()
        refused = answer.result(60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
    wait_until(lambda: server.states() == [] and server.folders() == [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root on Linux")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_all_the_same_leaves_nothing_behind(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SPARE_BYTES", 0)
    monkeypatch.setattr("tasks.capacity.SPARE_BYTES", 0)
    with live(Config(data=small_disk / "data")) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        content = iter([file_part(b"s" * 20 * 2**20), END])
        refused = client.post("/api/v1/transcriptions", content=content, headers=FORM)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
        wait_until(lambda: server.states() == [] and server.folders() == [])
        assert send(client).status_code == 202
        with server.box.database.read() as connection:
            assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def test_a_worker_that_can_not_write_an_outcome_waits_and_writes_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pipeline` and `heartbeat` live with is every StenoboxError, these among them."""
    put_job(box, State.QUEUED)
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 60)
    assert attempt is not None
    store.cancel(box.database, attempt.job.id)

    def refuse(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    box.database.close()
    event.listen(box.database.engine, "connect", refuse)
    with pytest.raises(StenoboxError) as refused:
        store.cancel_if_owned(box.database, attempt.token)
    assert refused.value.code == "storage_failing"
    event.remove(box.database.engine, "connect", refuse)
    done = store.cancel_if_owned(box.database, attempt.token)
    assert done is not None
    assert done.state == State.CANCELED
    assert media.source(box.config, done.id).exists()


def test_a_job_that_was_queued_is_kept_though_its_sender_was_not_told(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that reports an error may have happened."""
    real = store.queue_if_receiving

    def queue_and_fail(*arguments: Any) -> None:
        real(*arguments)
        raise StenoboxError("storage_failing", "The disk is odd.")

    monkeypatch.setattr(store, "queue_if_receiving", queue_and_fail)
    with pytest.raises(StenoboxError, match="odd"):
        put_job(box, State.QUEUED)
    (job,) = store.list_active(box.database)
    assert job.state == State.QUEUED
    assert media.source(box.config, job.id).read_bytes() == b"sound"
