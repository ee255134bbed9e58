"""One record per try: begun by the claim, ended by whatever ends it, never contradicting the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from test_jobs import ROOMY, claim, queued
from test_store import IF_OWNED, Clock, clock  # noqa: F401  a fixture

from tasks import store
from tasks.db import Database, attempts
from tasks.jobs import FORGIVEN_LOSSES, MAX_CRASHES, Job, Stage, State
from tasks.store import AttemptRecord, Cause, Seen

SEEN = Seen(Stage.ALIGN, 1234, 4)


def only(database: Database, job_id: str) -> AttemptRecord:
    (record,) = store.list_attempts(database, job_id)
    return record


def everything(database: Database) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(sa.select(attempts).order_by(attempts.c.id)))


def test_a_claim_begins_a_try(database: Database, clock: Clock) -> None:  # noqa: F811
    job_id = queued(database)
    assert store.list_attempts(database, job_id) == []
    claim(database)
    assert only(database, job_id) == AttemptRecord(
        number=1,
        worker="worker",
        started_at=clock.now,
        ended_at=None,
        stage=None,
        outcome=None,
        cause=None,
        sentence=None,
        peak_bytes=None,
        batch=None,
        charged=False,
    )
    assert store.claim_next(database, ROOMY, "worker", 30) is None
    assert len(everything(database)) == 1


def canceled(database: Database, token: str) -> Any:
    """As a worker does it, once a person has asked."""
    store.cancel(database, next(job.id for job in store.list_active(database)))
    return store.cancel_if_owned(database, token, SEEN)


ENDS: dict[str, tuple[Callable[[Database, str], Any], State, str | None, bool]] = {
    "completed": (
        lambda d, token: store.finish_if_owned(d, token, "r.json", 1.0, None, seen=SEEN),
        State.COMPLETED,
        None,
        False,
    ),
    "failed": (
        lambda d, token: store.fail_if_owned(d, token, "no_audio", "No sound.", SEEN),
        State.FAILED,
        "no_audio",
        False,
    ),
    "canceled": (lambda d, token: canceled(d, token), State.CANCELED, "canceled", False),
    "put back": (
        lambda d, token: store.requeue_if_owned(d, token, Cause("engine_ended", "A neighbour hung."), SEEN),
        State.QUEUED,
        "engine_ended",
        False,
    ),
    "crashed": (
        lambda d, token: store.requeue_crashed_if_owned(d, token, "killed", "It was killed.", SEEN),
        State.QUEUED,
        "killed",
        True,
    ),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_an_end_says_what_the_job_s_row_says(database: Database, clock: Clock, name: str) -> None:  # noqa: F811
    change, state, cause, charged = ENDS[name]
    job_id = queued(database)
    attempt = claim(database)
    clock.now += 60
    job = change(database, attempt.token)
    record = only(database, job_id)
    assert job.state == record.outcome == state
    assert (record.ended_at, record.stage, record.peak_bytes, record.batch) == (clock.now, Stage.ALIGN, 1234, 4)
    assert (record.cause, record.charged) == (cause, charged)
    assert (record.sentence is None) == (cause is None)
    assert record.sentence == (job.error.message if job.error else record.sentence)


def requeue_silent(database: Database) -> list[Job]:
    """As if no worker had moved since the last look."""
    silent = store.stamps(database).items()
    return [job for token, stamp in silent for job in store.requeue_if_silent(database, token, stamp)]


RESCUES: dict[str, Callable[[Database], Any]] = {
    "at the start": store.requeue_all_running,
    "of a silent worker": requeue_silent,
}


@pytest.mark.parametrize("name", list(RESCUES))
def test_a_rescue_ends_the_try_where_the_last_heartbeat_found_it(
    database: Database,
    clock: Clock,  # noqa: F811
    name: str,
) -> None:
    job_id, waiting = queued(database), queued(database)
    store.renew_if_owned(database, [(claim(database).token, Stage.TRANSCRIBE, 0.5, 30.0)], 10)
    clock.now += 60
    RESCUES[name](database)
    record = only(database, job_id)
    assert (record.outcome, record.cause, record.charged) == (State.QUEUED, "worker_lost", False)
    assert (record.ended_at, record.stage) == (clock.now, Stage.TRANSCRIBE)
    assert record.sentence
    assert store.list_attempts(database, waiting) == []


@pytest.mark.parametrize("name", list(RESCUES))
def test_a_rescued_job_that_a_person_canceled_says_so(
    database: Database,
    clock: Clock,  # noqa: F811
    name: str,
) -> None:
    job_id = queued(database)
    claim(database)
    store.cancel(database, job_id)
    clock.now += 60
    RESCUES[name](database)
    record = only(database, job_id)
    assert (record.outcome, record.cause) == (State.CANCELED, "canceled")


def test_tries_are_numbered_also_those_without_charge(database: Database) -> None:
    job_id = queued(database)
    store.requeue_if_owned(database, claim(database).token)
    store.requeue_crashed_if_owned(database, claim(database).token, "hung", "It hung.")
    store.fail_if_owned(database, claim(database).token, "internal", "A bug.")
    store.retry(database, ROOMY, job_id)
    claim(database)
    told = [(r.number, r.outcome, r.charged) for r in store.list_attempts(database, job_id)]
    assert told == [(1, "queued", False), (2, "queued", True), (3, "failed", False), (4, None, False)]


def test_the_last_crash_tells_of_itself_and_the_job_of_all(database: Database) -> None:
    job_id = queued(database)
    for number in range(MAX_CRASHES):
        token = claim(database).token
        store.requeue_crashed_if_owned(database, token, "hung", f"It hung {number}.", final="It hung three times.")
    job = store.get(database, job_id)
    assert job is not None
    assert job.error is not None
    assert job.error.message == "It hung three times."
    records = store.list_attempts(database, job_id)
    assert [record.sentence for record in records] == ["It hung 0.", "It hung 1.", "It hung 2."]
    assert [record.outcome for record in records] == [State.QUEUED, State.QUEUED, State.FAILED]


@pytest.mark.parametrize("name", list(IF_OWNED))
def test_a_stale_token_writes_no_record(database: Database, name: str) -> None:
    queued(database)
    token = claim(database).token
    store.requeue_all_running(database)
    claim(database)
    before = everything(database)
    IF_OWNED[name](database, token)
    assert everything(database) == before


def test_a_job_that_loses_its_worker_again_and_again_is_not_tried_for_ever(
    database: Database,
    clock: Clock,  # noqa: F811
) -> None:
    """As where memory runs out and the kernel takes the whole container."""
    job_id, other = queued(database), queued(database)
    for _ in range(FORGIVEN_LOSSES):
        claim(database)
        store.requeue_all_running(database)
    job = store.get(database, job_id)
    assert job is not None
    assert (job.state, job.crashes) == (State.QUEUED, 0)
    for crashes in range(1, MAX_CRASHES):
        claim(database)
        clock.now += 60
        assert [job.crashes for job in requeue_silent(database)] == [crashes]
    claim(database)
    assert store.claim_next(database, ROOMY, "worker", 30) is None  # it runs alone
    assert store.requeue_all_running(database) == []
    job = store.get(database, job_id)
    assert job is not None
    assert job.error is not None
    assert (job.state, job.crashes, job.error.code) == (State.FAILED, MAX_CRASHES, "worker_lost")
    assert "again and again" in job.error.message
    assert store.list_attempts(database, job_id)[-1].charged
    assert store.list_attempts(database, other) == []


def test_tries_go_with_their_job(database: Database, clock: Clock) -> None:  # noqa: F811
    deleted, old, kept = queued(database), queued(database), queued(database)
    for _ in range(3):
        clock.now += 1
        store.finish_if_owned(database, claim(database).token, "r.json", 1.0, None)
    assert store.delete(database, deleted)
    assert [row.job for row in everything(database)] == [old, kept]
    assert store.delete_finished_before(database, clock.now, 10) == [old]
    assert [row.job for row in everything(database)] == [kept]
