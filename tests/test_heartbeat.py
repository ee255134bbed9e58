"""The worker's pulse, beat by beat, and that nothing stops it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from support import change_limit, wait_until
from test_jobs import ROOMY, SOURCE, claim, queued, row

from tasks import heartbeat as module
from tasks import leases, store
from tasks.capacity import Limits, Load, Request
from tasks.config import Config
from tasks.db import Database, jobs
from tasks.errors import StenoboxError
from tasks.heartbeat import RECONCILE_SECONDS, Heartbeat
from tasks.jobs import JobKind, Params, Stage, State
from tasks.queue import Queue
from tasks.running import Reason, Stopped
from tasks.sqlite import driver as sqlite

TWO = Limits(slots=2, queue_limit=10, max_bytes=10**9, max_seconds=3600)


class Engines:
    """Counts how often it was asked to leave."""

    def __init__(self) -> None:
        self.asked = 0

    def leave_if_idle(self) -> None:
        self.asked += 1


class Box:
    """A heartbeat and what it works with; beats only when told to."""

    def __init__(self, config: Config, database: Database) -> None:
        self.config, self.database = config, database
        self.queue, self.engines = Queue(config.queue_db), Engines()
        planner = SimpleNamespace(limits=lambda: store.limits(database, TWO))
        self.heartbeat = Heartbeat(config, planner, database, self.queue, self.engines)  # type: ignore[arg-type]

    @property
    def messages(self) -> int:
        return len(self.queue.huey)

    def lease(self, job_id: str) -> float:
        lease: float = row(self.database, job_id)["lease_until"]
        return lease

    def state(self, job_id: str) -> State:
        job = store.get(self.database, job_id)
        assert job is not None
        return job.state


@pytest.fixture
def box(config: Config, database: Database) -> Iterator[Box]:
    box = Box(config, database)
    yield box
    box.queue.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The heartbeat's own clock; moved by hand."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which other workers' silence is counted; moved by hand. Must be asked for before the heartbeat."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(leases, "time", clock)
    return clock


# What runs here


def test_a_beat_renews_the_lease_and_writes_progress(box: Box) -> None:
    job_id = queued(box.database)
    attempt = claim(box.database, lease=0.0)
    with box.heartbeat.watch(attempt) as running:
        before = box.lease(job_id)
        running.at(Stage.TRANSCRIBE, 0.5)
        box.heartbeat.beat()
        assert box.lease(job_id) >= before + box.config.lease - 0.001
        job = store.get(box.database, job_id)
        assert job is not None
        assert (job.state, job.stage, job.progress) == (State.RUNNING, Stage.TRANSCRIBE, 0.5)
        assert running.reason is None


def test_an_attempt_is_renewed_only_while_its_block_runs(box: Box) -> None:
    job_id = queued(box.database)
    attempt = claim(box.database)
    with pytest.raises(KeyError, match="broke"), box.heartbeat.watch(attempt):
        raise KeyError("broke")
    before = box.lease(job_id)
    box.heartbeat.beat()
    assert box.lease(job_id) == before


@pytest.mark.parametrize("loss", ["deleted", "another owner", "finished"])
def test_an_attempt_that_lost_its_job_is_stopped_as_lost(box: Box, loss: str) -> None:
    job_id = queued(box.database)
    attempt = claim(box.database)
    with box.heartbeat.watch(attempt) as running:
        match loss:
            case "deleted":
                store.delete(box.database, job_id)
            case "another owner":
                store.requeue_all_running(box.database)
                claim(box.database)
            case "finished":
                store.finish_if_owned(box.database, attempt.token, "r.json", 1.0, None)
        box.heartbeat.beat()
        assert running.reason is Reason.LOST


def test_a_persons_cancel_reaches_the_attempt_and_no_other(box: Box) -> None:
    first = queued(box.database)
    queued(box.database)
    with box.heartbeat.watch(claim(box.database)) as one, box.heartbeat.watch(claim(box.database)) as other:
        ended: list[str] = []
        one.on_stop(lambda: ended.append("child"))
        store.cancel(box.database, first if one.job.id == first else other.job.id)
        box.heartbeat.beat()
        assert (one.reason, other.reason) == (Reason.CANCELED, None)
        assert ended == ["child"]
        with pytest.raises(Stopped):
            one.check()


# Draining


def test_a_drain_stops_all_that_runs(box: Box) -> None:
    queued(box.database)
    queued(box.database)
    assert not box.heartbeat.leaving
    with box.heartbeat.watch(claim(box.database)) as one, box.heartbeat.watch(claim(box.database)) as other:
        box.heartbeat.drain()
        assert (one.reason, other.reason) == (Reason.DRAINING, Reason.DRAINING)
    assert box.heartbeat.leaving


def test_what_starts_while_the_worker_leaves_is_stopped_at_once(box: Box) -> None:
    box.heartbeat.drain()
    queued(box.database)
    with box.heartbeat.watch(claim(box.database)) as running:
        assert running.reason is Reason.DRAINING


# What nobody announced


def test_a_lost_message_is_made_up_for_while_a_slot_is_free(box: Box) -> None:
    queued(box.database)
    assert box.messages == 0
    box.heartbeat.beat()
    assert box.messages == 1


@pytest.mark.parametrize(
    ("running", "waiting", "woken"),
    [(0, 0, False), (0, 1, True), (1, 1, True), (2, 1, False), (1, 0, False)],
)
def test_a_thread_is_woken_only_for_what_can_start(box: Box, running: int, waiting: int, woken: bool) -> None:
    for _ in range(running):
        queued(box.database)
        claim(box.database)
    for _ in range(waiting):
        queued(box.database)
    box.heartbeat.beat()
    assert (box.messages > 0) == woken


def test_an_upload_wakes_nobody(box: Box) -> None:
    store.admit(box.database, ROOMY, Request(), SOURCE, "web")
    box.heartbeat.beat()
    assert box.messages == 0


def test_changed_slots_are_obeyed_by_the_next_look(box: Box) -> None:
    for _ in range(3):
        queued(box.database)
    claim(box.database)
    claim(box.database)
    box.heartbeat.reconcile()
    assert box.messages == 0
    change_limit(box.database, "slots", 3)
    box.heartbeat.reconcile()
    assert box.messages == 1


def test_a_job_of_a_worker_that_is_gone_is_put_back_and_announced(
    others: SimpleNamespace, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = queued(box.database)
    claim(box.database)
    looks = 0
    while box.state(job_id) is State.RUNNING:
        others.now += RECONCILE_SECONDS
        box.heartbeat.reconcile()
        looks += 1
    assert looks == 1 + box.config.lease // RECONCILE_SECONDS + 1  # the first look is the first it sees of it
    assert f"{job_id}: its worker is gone" in caplog.text
    box.heartbeat.reconcile()
    assert box.messages == 1


def test_what_this_worker_runs_it_never_rescues(others: SimpleNamespace, box: Box) -> None:
    """Whatever time it is, and however long its own beats could not be written."""
    job_id = queued(box.database)
    with box.heartbeat.watch(claim(box.database)) as running:
        with box.database.write() as connection:
            connection.execute(sa.update(jobs).values(lease_until=1.0))
        for _ in range(10):
            others.now += box.config.lease
            box.heartbeat.reconcile()
    assert box.state(job_id) is State.RUNNING
    assert running.reason is None


def test_a_look_for_lost_work_happens_every_two_seconds(box: Box, clock: SimpleNamespace) -> None:
    queued(box.database)
    box.heartbeat.beat()
    assert box.messages == 1
    clock.now += RECONCILE_SECONDS - 0.1
    box.heartbeat.beat()
    assert box.messages == 1
    clock.now += 0.1
    box.heartbeat.beat()
    assert box.messages == 2
    assert box.engines.asked == 3


def test_a_job_that_vanishes_between_two_looks_is_no_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "counts", lambda _: Load(queued=1))
    box.heartbeat.beat()
    assert box.messages == 0
    assert box.engines.asked == 1


def test_an_idle_box_writes_nothing(box: Box) -> None:
    statements: list[str] = []
    sa.event.listen(box.database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    box.heartbeat.beat()
    assert statements
    assert [statement for statement in statements if not statement.startswith(("SELECT", "BEGIN DEFERRED"))] == []


# The thread


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.005)


def test_the_pulse_beats_until_the_worker_leaves(box: Box, fast: None) -> None:
    job_id = queued(box.database)
    with box.heartbeat.watch(claim(box.database, lease=0.0)):
        before = box.lease(job_id)
        box.heartbeat.start()
        wait_until(lambda: box.lease(job_id) > before, 10, every=0.005)
        box.heartbeat.drain()
        box.heartbeat._thread.join(60)
        assert not box.heartbeat._thread.is_alive()


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (StenoboxError("database_busy", "The database is busy."), "no heartbeat: The database is busy."),
        (RuntimeError("unforeseen"), "the heartbeat failed; going on"),
    ],
)
def test_no_error_stops_the_pulse(
    box: Box, fast: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Any, logged: str
) -> None:
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) < 3:
            raise error

    monkeypatch.setattr(box.heartbeat, "beat", beat)
    box.heartbeat.start()
    wait_until(lambda: len(beats) > 4, 10, every=0.005)
    box.heartbeat.drain()
    box.heartbeat._thread.join(60)
    assert [record.getMessage() for record in caplog.records].count(logged) == 2


def test_a_busy_database_delays_a_renewal_and_stops_nothing(config: Config, database: Database, fast: None) -> None:
    impatient = Database(config.jobs_db, busy_seconds=0.02)
    box = Box(config, impatient)
    job_id = queued(database)
    with box.heartbeat.watch(claim(database, lease=0.0)) as running:
        before = box.lease(job_id)
        outside = sqlite.connect(config.jobs_db, isolation_level=None)
        outside.execute("BEGIN IMMEDIATE")
        with pytest.raises(StenoboxError, match="busy"):
            box.heartbeat.beat()
        box.heartbeat.start()
        time.sleep(0.1)
        assert box.lease(job_id) == before
        outside.execute("ROLLBACK")
        wait_until(lambda: box.lease(job_id) > before, 10, every=0.005)
        assert running.reason is None
        box.heartbeat.drain()
        box.heartbeat._thread.join(60)
    outside.close()
    box.queue.close()
    impatient.close()


def test_a_light_job_that_nobody_runs_is_put_back_too(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lane has slots of its own, and is looked after as the others are."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(leases, "time", clock)
    for kind in (JobKind.EXTRACTION, JobKind.DOWNLOAD):
        job_id = store.admit(box.database, ROOMY, Request(10), SOURCE, "web")
        assert store.queue_if_receiving(box.database, job_id, SOURCE, Params(kind=kind, format="mp3"))
    lost = [store.claim_next(box.database, ROOMY, "worker", 5, light=True) for _ in range(2)]
    for _ in range(10):
        box.heartbeat.reconcile()
        clock.now += 2
    assert [box.state(one.job.id) for one in lost if one] == [State.QUEUED, State.QUEUED]
