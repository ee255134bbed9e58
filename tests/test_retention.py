"""Finished jobs go when they are old enough; nothing else does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from web_support import put_every_state, put_job

from tasks import media, retention, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import jobs
from tasks.jobs import State
from tasks.retention import DAY, remove_old


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", slots=3, queue_limit=20)


def age(box: Box, days: float) -> None:
    """Everything that has finished did so that long ago."""
    with box.database.write() as connection:
        finished = sa.update(jobs).where(jobs.c.finished_at.is_not(None))
        connection.execute(finished.values(finished_at=time.time() - days * DAY))


def test_old_finished_jobs_go_with_their_folders(box: Box) -> None:
    states = put_every_state(box)
    age(box, 8)
    assert remove_old(box.config, box.database, 7) == 3
    left = {State.RUNNING, State.QUEUED, State.RECEIVING}
    assert store.ids(box.database) == {states[state].id for state in left}
    assert media.stray(box.config) <= store.ids(box.database)


def test_young_jobs_stay(box: Box) -> None:
    put_every_state(box)
    age(box, 6.9)
    assert remove_old(box.config, box.database, 7) == 0
    assert len(store.ids(box.database)) == 6


def test_zero_keeps_for_ever(box: Box) -> None:
    put_job(box, State.COMPLETED)
    age(box, 10_000)
    assert remove_old(box.config, box.database, 0) == 0
    assert len(store.ids(box.database)) == 1


def test_many_go_in_batches_oldest_first(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [put_job(box, State.CANCELED) for _ in range(5)]
    with box.database.write() as connection:
        for number, job in enumerate(made):
            old = time.time() - (20 - number) * DAY
            connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(finished_at=old))
    gone = store.delete_finished_before(box.database, time.time() - 16.5 * DAY, 2)
    assert set(gone) == {made[0].id, made[1].id}
    monkeypatch.setattr(retention, "BATCH", 1)
    assert remove_old(box.config, box.database, 1) == 3
    assert store.ids(box.database) == set()


def test_a_fraction_of_a_day_counts(box: Box) -> None:
    put_job(box, State.COMPLETED)
    age(box, 0.1)
    assert remove_old(box.config, box.database, 0.2) == 0
    assert remove_old(box.config, box.database, 0.05) == 1
