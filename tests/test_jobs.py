"""The table of transitions, held against the real functions that make them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from tasks import store
from tasks.capacity import Limits, Request
from tasks.db import Database, jobs
from tasks.jobs import (
    ACTIVE,
    FINISHED,
    MAX_CRASHES,
    TRANSITIONS,
    Job,
    Params,
    Source,
    Stage,
    State,
    is_id,
    new_id,
)

ROOMY = Limits(slots=4, queue_limit=100, max_bytes=10**9, max_seconds=3600)
SOURCE = Source("upload", "talk.wav", 10)
DEMO = Params("demo")


def queued(database: Database, name: str = "talk.wav") -> str:
    """A job that waits in line; its id."""
    source = Source("upload", name, 10)
    job_id = store.admit(database, ROOMY, Request(10), source, "web")
    assert store.queue_if_receiving(database, job_id, source, DEMO)
    return job_id


def claim(database: Database, lease: float = 30.0) -> store.Attempt:
    attempt = store.claim_next(database, ROOMY, "worker", lease)
    assert attempt is not None
    return attempt


def job_in(database: Database, state: State) -> tuple[str, str]:
    """A job brought to that state by the functions of the product: (its id, the token of its last attempt).

    Nothing else may wait in line.
    """
    if state is State.RECEIVING:
        return store.admit(database, ROOMY, Request(10), SOURCE, "web"), "no token yet"
    job_id = queued(database)
    if state is State.QUEUED:
        return job_id, "no token yet"
    attempt = claim(database)
    assert attempt.job.id == job_id
    match state:
        case State.COMPLETED:
            store.finish_if_owned(database, attempt.token, "result.json", 4.0, None)
        case State.FAILED:
            store.fail_if_owned(database, attempt.token, "undecodable", "No.")
        case State.CANCELED:
            cancel_and_obey(database, job_id, attempt.token)
    return job_id, attempt.token


def row(database: Database, job_id: str) -> dict[str, Any]:
    """Everything the table knows of a job."""
    with database.read() as connection:
        return dict(connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one())


Move = Callable[[Database, str, str], Any]


def crash_for_good(database: Database, job_id: str, token: str) -> None:
    with database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.token == token).values(crashes=MAX_CRASHES - 1))
    store.requeue_crashed_if_owned(database, token, "engine_crashed", "Died.")


def cancel_and_obey(database: Database, job_id: str, token: str) -> None:
    if row(database, job_id)["state"] == State.RUNNING:
        store.cancel(database, job_id)
        store.cancel_if_owned(database, token)


def cancel_and_rescue(database: Database, job_id: str, token: str) -> None:
    if store.get(database, job_id).state is State.RUNNING:  # type: ignore[union-attr]
        store.cancel(database, job_id)
    store.requeue_all_running(database)


MOVES: dict[State, dict[str, Move]] = {
    State.RECEIVING: {"admit": lambda d, _i, _t: store.admit(d, ROOMY, Request(), SOURCE, "web")},
    State.QUEUED: {
        "queue_if_receiving": lambda d, i, _t: store.queue_if_receiving(d, i, SOURCE, DEMO),
        "retry": lambda d, i, _t: store.retry(d, ROOMY, i),
        "requeue_if_owned": lambda d, _i, t: store.requeue_if_owned(d, t),
        "requeue_crashed_if_owned": lambda d, _i, t: store.requeue_crashed_if_owned(d, t, "engine_crashed", "Died."),
        "requeue_all_running": lambda d, _i, _t: store.requeue_all_running(d),
    },
    State.RUNNING: {"claim_next": lambda d, _i, _t: store.claim_next(d, ROOMY, "other", 30)},
    State.COMPLETED: {
        "finish_if_owned": lambda d, _i, t: store.finish_if_owned(d, t, "mine.json", 1.0, None),
        "complete_if_receiving": lambda d, i, _t: store.complete_if_receiving(d, i, SOURCE, DEMO, "mine.json", "Same."),
    },
    State.FAILED: {
        "fail_if_owned": lambda d, _i, t: store.fail_if_owned(d, t, "internal", "Oh."),
        "requeue_crashed_if_owned for the last time": crash_for_good,
    },
    State.CANCELED: {
        "cancel": lambda d, i, _t: store.cancel(d, i),
        "cancel_if_owned": cancel_and_obey,
        "rescue of a job that is to be canceled": cancel_and_rescue,
    },
}
"""For each state, every function that can bring a job there."""


@pytest.mark.parametrize(("state", "target"), list(product(State, State)))
def test_a_job_takes_the_arrows_of_the_table_and_no_other(database: Database, state: State, target: State) -> None:
    arrived = []
    for name, move in MOVES[target].items():
        if state is State.RUNNING and arrived:
            store.requeue_all_running(database)
        job_id, token = job_in(database, state)
        before = row(database, job_id)
        move(database, job_id, token)
        after = row(database, job_id)
        if after["state"] == target != state:
            arrived.append(name)
        if target not in TRANSITIONS[state]:
            assert after == before, name
        store.delete(database, job_id)
    assert bool(arrived) == (target in TRANSITIONS[state])


def test_every_state_has_its_row_and_the_final_one_no_way_out() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.COMPLETED] == frozenset()


def test_every_state_can_be_reached_from_the_first() -> None:
    reached, edge = {State.RECEIVING}, {State.RECEIVING}
    while edge:
        edge = set().union(*(TRANSITIONS[state] for state in edge)) - reached
        reached |= edge
    assert reached == set(State)


def test_a_state_holds_a_place_or_is_finished() -> None:
    assert set(ACTIVE) | set(FINISHED) == set(State)
    assert not set(ACTIVE) & set(FINISHED)


@pytest.mark.parametrize("state", State)
def test_every_state_says_by_name_what_the_table_stores(state: State) -> None:
    assert state == state.name.lower()
    assert len(state) <= jobs.c.state.type.length  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", State)
def test_a_job_knows_whether_it_is_finished(database: Database, state: State) -> None:
    job = store.get(database, job_in(database, state)[0])
    assert job is not None
    assert job.state is state
    assert job.finished == (state in FINISHED)
    assert (job.finished_at is not None) == job.finished


def test_new_ids_are_ids_and_all_different() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(map(is_id, ids))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "0" * 31,
        "0" * 33,
        "A" * 32,
        "g" * 32,
        "0" * 32 + "\n",
        "\n" + "0" * 32,
        "../" + "0" * 29,
        "٣" * 32,
        "0" * 31 + "/",
    ],
)
def test_what_could_be_a_path_or_anything_else_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize(
    ("state", "seconds", "started_at", "finished_at", "factor"),
    [
        (State.COMPLETED, 10.0, 100.0, 105.0, 0.5),
        (State.COMPLETED, 10.0, 100.0, 120.0, 2.0),
        (State.COMPLETED, None, 100.0, 105.0, None),
        (State.COMPLETED, 0.0, 100.0, 105.0, None),
        (State.COMPLETED, 10.0, None, 105.0, None),
        (State.COMPLETED, 10.0, 100.0, None, None),
        (State.FAILED, 10.0, 100.0, 105.0, None),
        (State.RUNNING, 10.0, 100.0, None, None),
    ],
)
def test_the_realtime_factor_is_known_of_completed_jobs_with_sound(
    state: State, seconds: float | None, started_at: float | None, finished_at: float | None, factor: float | None
) -> None:
    job = Job(
        id=new_id(),
        kind="transcription",
        state=state,
        source=Source("upload", "a.wav", 1, seconds),
        params=DEMO,
        created_at=90.0,
        stage=Stage.SAVE,
        started_at=started_at,
        finished_at=finished_at,
        work_seconds=None if started_at is None or finished_at is None else finished_at - started_at,
    )
    assert job.realtime_factor == factor
