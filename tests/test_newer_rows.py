"""Rows that a newer version wrote, and this one doesn't understand: they are shown as such and stop nothing."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from web_support import put_job

from tasks import batches, store
from tasks.actions import Box
from tasks.db import attempts, jobs
from tasks.jobs import Job, State
from tasks.store.rows import NEWER
from tasks.store.rows import SOURCE_TYPES as KNOWN_SOURCES
from webapp.shapes.jobs import SourceType


def rewrite(box: Box, job: Job, **values: Any) -> None:
    with box.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(**values))


STRANGE: list[tuple[State, dict[str, Any]]] = [
    (State.FAILED, {"error_code": "of_a_newer_version"}),
    (State.FAILED, {"error_code": "of_a_newer_version", "error_message": None}),
    (State.COMPLETED, {"kind": "translation"}),
    (State.QUEUED, {"kind": "translation"}),
    (State.QUEUED, {"state": "scheduled"}),
    (State.COMPLETED, {"state": "archived"}),
    (State.RUNNING, {"stage": "diarize"}),
    (State.QUEUED, {"source_type": "microphone"}),
    (State.QUEUED, {"params": {"model": "demo", "speakers": 3, "kind": "translation"}}),
]


@pytest.mark.parametrize(("state", "values"), STRANGE, ids=[str(values) for _, values in STRANGE])
def test_a_row_that_this_version_does_not_know_is_shown_and_stops_nothing(
    client: TestClient, behind: Box, state: State, values: dict[str, Any]
) -> None:
    other = put_job(behind, State.COMPLETED, "other.mp3")
    strange = put_job(behind, state, "strange.mp3")
    batch, _ = store.begin_batch(behind.database, "", "Talks")
    rewrite(behind, strange, batch=batch, **values)
    for path in ("/", f"/jobs/{strange.id}", "/batches", f"/batches/{batch}", "/jobs/finished", "/limits"):
        assert client.get(path).status_code == 200, path
    one = client.get(f"/api/v1/jobs/{strange.id}").json()
    if "kind" in values or "state" in values:
        assert (one["state"], one["error"]["message"], one["error"]["retryable"]) == ("failed", NEWER, False)
    listed = client.get("/api/v1/jobs").json()["jobs"]
    assert {job["id"] for job in listed} == {strange.id, other.id}
    for path in (
        "/api/v1/batches",
        f"/api/v1/batches/{batch}",
        "/api/v1/capacity",
        f"/api/v1/jobs/{strange.id}/attempts",
    ):
        assert client.get(path).status_code == 200, path
    # What is to be done is done: claims pass over what they don't know.
    attempt = store.claim_next(behind.database, behind.planner.first(), "worker", 30)
    light = store.claim_next(behind.database, behind.planner.first(), "worker", 30, light=True)
    claimed = attempt is not None and attempt.job.id == strange.id
    assert claimed == (state is State.QUEUED and not {"kind", "state"} & set(values))
    assert light is None
    assert store.requeue_all_running(behind.database) is not None
    batches.delete(behind, batch)
    assert behind.find(strange.id) is None


def test_what_nobody_here_can_run_takes_no_place_and_wakes_nobody(behind: Box, client: TestClient) -> None:
    for values in ({"kind": "translation"}, {"state": "scheduled"}):
        rewrite(behind, put_job(behind, State.QUEUED), **values)
    load = behind.load()
    assert (load.active, load.queued, load.light) == (0, 0, 0)


def test_tries_of_a_newer_version_are_told(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.FAILED)
    with behind.database.write() as connection:
        connection.execute(sa.update(attempts).values(stage="diarize", outcome="parked", cause="new"))
    assert client.get(f"/jobs/{job.id}").status_code == 200
    assert client.get(f"/api/v1/jobs/{job.id}/attempts").status_code == 200


def test_every_source_that_a_job_can_have_is_in_the_document() -> None:
    assert set(KNOWN_SOURCES) == set(SourceType.__args__)  # type: ignore[attr-defined]
