"""Databases of every released version, and of earlier ones that people may have, are upgraded with all they hold."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tasks import __version__, batches, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import SCHEMA, open_database, prepare_data_folder, schema
from tasks.jobs import FINISHED, State
from tasks.queue import Queue
from tasks.sqlite import driver as sqlite

KEPT = sorted((Path(__file__).parent / "data" / "databases").glob("*.sql"))
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("kept", KEPT, ids=[path.stem for path in KEPT])
def test_it_is_upgraded_and_its_jobs_go_on(config: Config, kept: Path) -> None:
    prepare_data_folder(config)
    connection = sqlite.connect(str(config.jobs_db))
    connection.executescript(kept.read_text(encoding="utf-8"))
    connection.close()
    database = open_database(config)
    assert schema(database) == SCHEMA
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    jobs = {job.state: job for job in store.list_jobs(database, None, 100)}
    assert set(jobs) == set(State)
    assert {job.source.name for job in jobs.values()} >= {f"{state}.mp3" for state in FINISHED}
    released = kept.stem[0].isdigit()
    failed = jobs[State.FAILED].error
    assert failed is not None
    assert failed.code == "no_audio"

    box = Box(config, database, Queue(config.queue_db))
    assert box.limits().queue_limit == 7
    assert [change.name for change in store.list_changes(database, 10)] == ["keep_days", "queue_limit"]
    store.requeue_all_running(database)  # as a worker does at its start
    assert box.retry(jobs[State.FAILED].id).state == State.QUEUED
    attempt = store.claim_next(database, box.planner.first(), "a worker", 30)
    assert attempt is not None
    assert attempt.job.id == jobs[State.RUNNING].id
    done = store.finish_if_owned(database, attempt.token, "x.json", 1.0, None, 1.0)
    assert done is not None
    assert done.state == State.COMPLETED
    if released:  # what a released version knew, besides jobs and settings
        assert [(key.name, key.valid(time.time())) for key in box.access.list_keys()] == [("laptop", True)]
        (batch,) = batches.listed(box, 10)
        assert (batch.name, batch.counts) == ("Interviews", {State.RECEIVING: 1})
        repeated = store.find_key(database, "", "the same twice")
        assert repeated is not None
        assert box.get(repeated).source.name == "again.mp3"
    box.queue.close()
    database.close()


def test_uploads_of_earlier_versions_keep_their_owner(config: Config) -> None:
    prepare_data_folder(config)
    connection = sqlite.connect(str(config.jobs_db))
    connection.executescript(next(path for path in KEPT if path.stem == "0.1.0").read_text(encoding="utf-8"))
    [(job_id,)] = connection.execute("SELECT id FROM jobs WHERE state = 'receiving' LIMIT 1").fetchall()
    connection.execute("UPDATE jobs SET submitter = 'somebody' WHERE id = ?", (job_id,))
    connection.execute("DELETE FROM uploads")
    for upload_id in (job_id, "0" * 32):
        connection.execute(
            "INSERT INTO uploads (id, metadata, submit, expires_at) VALUES (?, '', 0, 9e9)", (upload_id,)
        )
    connection.commit()
    connection.close()
    database = open_database(config)
    whose = [store.find_upload(database, one) for one in (job_id, "0" * 32)]
    assert [upload and upload.submitter for upload in whose] == ["somebody", None]
    database.close()


def test_every_released_version_is_here() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = set(re.findall(r"^## \[(\d+\.\d+\.\d+)\]", log, re.MULTILINE))
    assert released - {path.stem for path in KEPT} == set(), "tools/keep_database.py writes them"
    assert __version__ in released or ".dev" in __version__
