"""A queue of thousands costs what one of ten does: as many statements, as many rows fetched."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.requests import Request as HttpRequest
from test_jobs import SOURCE

from tasks import batches, store
from tasks.actions import Box
from tasks.capacity import Request
from tasks.config import Config
from tasks.db import batches as batches_table
from tasks.db import jobs
from tasks.heartbeat import Heartbeat
from tasks.jobs import new_id
from webapp import pages

BATCH = "b" * 32


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", slots=1, queue_limit=100_000)


def fill(box: Box, number: int) -> None:
    """So many more in line, half of them in a batch, behind those that are there; and one that is done."""
    now = time.time()
    first: dict[str, Any] = dict(kind="transcription", created_at=now, source_type="upload", source_name="a.mp3")
    first |= dict(params={"model": "demo"}, model="demo", turn=0, submitter="somebody")
    done = first | dict(id=new_id(), state="completed", started_at=now, finished_at=now + 9, work_seconds=9.0)
    waiting = [
        first
        | dict(id=new_id(), state="queued", queued_at=now + n / 1000, guessed_seconds=60.0, batch=(BATCH, None)[n % 2])
        for n in range(number)
    ]
    with box.database.write() as connection:
        connection.execute(sa.delete(batches_table))
        connection.execute(sa.insert(batches_table).values(id=BATCH, submitter="", name="Many", created_at=now))
        connection.execute(sa.insert(jobs).values(**done | dict(source_seconds=90.0)))
        connection.execute(sa.insert(jobs), waiting)


class Counted:
    """Statements and rows that the database was asked for."""

    def __init__(self, box: Box) -> None:
        self.statements = self.rows = 0
        sa.event.listen(box.database.engine, "checkout", self._watch)
        sa.event.listen(box.database.engine, "before_cursor_execute", self._count)

    def _watch(self, connection: Any, *_: Any) -> None:
        connection.row_factory = self._row

    def _row(self, _cursor: Any, row: Any) -> Any:
        self.rows += 1
        return row

    def _count(self, *_: Any) -> None:
        self.statements += 1


def admit(box: Box) -> None:
    job_id = store.admit(box.database, box.planner.first(), Request(10), SOURCE, "web", "somebody")
    store.drop_if_receiving(box.database, job_id)


def claim(box: Box) -> None:
    attempt = store.claim_next(box.database, box.planner.first(), "worker", 30)
    assert attempt is not None
    store.requeue_if_owned(box.database, attempt.token)


def reconcile(box: Box) -> None:
    planner = SimpleNamespace(limits=box.limits)
    queue = SimpleNamespace(wake=lambda _: None, fetch=lambda _: None)
    Heartbeat(box.config, planner, box.database, queue, None).reconcile()  # type: ignore[arg-type]


def home(box: Box) -> None:
    app = SimpleNamespace(state=SimpleNamespace(box=box))
    pages._groups(HttpRequest({"type": "http", "app": app, "headers": [], "principal": box.principal}))


def left(box: Box) -> None:
    assert batches.seconds_left(box, batches.listed(box, 10), box.limits(), box.load())


ASKED: dict[str, Callable[[Box], object]] = {
    "load": lambda box: box.load(),
    "load of a key at its limit": lambda box: store.load(box.database, "somebody", 5),
    "admit": admit,
    "claim": claim,
    "reconcile": reconcile,
    "survey": lambda box: box.survey(),
    "home": home,
    "jobs": lambda box: box.list_jobs(None, 5),
    "batches": left,
    "settings": lambda box: box.change_settings({"keep_days": 3}, "test"),
}


@pytest.mark.parametrize("name", ASKED)
def test_it_costs_the_same_with_two_thousand_in_line(box: Box, name: str) -> None:
    ask = ASKED[name]
    fill(box, 150)  # more than any list shows
    ask(box)
    counted = Counted(box)
    ask(box)
    few = (counted.statements, counted.rows)
    fill(box, 2000)
    counted.statements = counted.rows = 0
    ask(box)
    assert counted.statements == few[0]
    assert abs(counted.rows - few[1]) <= 10  # another one is done now, and each estimate rests on it
    assert few[1] < 400


def test_what_is_summed_up_is_what_is_there(box: Box) -> None:
    fill(box, 150)
    load = box.load()
    assert (load.queued, len(load.waiting), load.behind) == (150, store.HEAD, 150 - store.HEAD)
    assert set(load.waiting) == {6.0}  # a second of sound took a tenth
    assert load.behind_seconds == pytest.approx(6.0 * load.behind)
    last = store.first_ids(box.database, 150)[-1]
    job = box.get(last)
    assert (job.queue_position, job.ahead_seconds, job.left_seconds) == (150, pytest.approx(149 * 6.0), 6.0)
    listed = {job.id: job for job in box.list_jobs(None, 500)}
    assert (listed[last].queue_position, listed[last].ahead_seconds) == (150, pytest.approx(149 * 6.0))
