"""All SQL about jobs: admission that never overshoots, claims in order, fencing, rescue, reading."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from support import change_limit
from test_jobs import DEMO, ROOMY, SOURCE, claim, job_in, queued, row

from tasks import store
from tasks.capacity import FIRST_GUESS_SECONDS, Limits, Load, Request
from tasks.config import Config
from tasks.db import Database, settings
from tasks.errors import StenoboxError
from tasks.jobs import MAX_CRASHES, Failure, Params, Source, Stage, State, is_id
from tasks.store.pace import LEAST_SECONDS

pytestmark = pytest.mark.usefixtures("journal")

ALONE = Limits(slots=1, queue_limit=100, max_bytes=10**9, max_seconds=3600)


class Clock:
    """The time that the store sees; stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("admission", "attempts", "occupancy", "reading"):
        monkeypatch.setattr(f"tasks.store.{module}.time", SimpleNamespace(time=clock.time))
    return clock


@pytest.fixture
def line(database: Database, clock: Clock) -> list[str]:
    """Three jobs in line, submitted a second apart."""
    ids = []
    for _ in range(3):
        ids.append(queued(database))
        clock.now += 1
    return ids


def get(database: Database, job_id: str) -> Any:
    job = store.get(database, job_id)
    assert job is not None
    return job


def in_line(database: Database) -> list[str]:
    return [job.id for job in store.list_active(database) if job.state is State.QUEUED]


def crash(database: Database, job_id: str, times: int = 1) -> None:
    """The job died that often before; it must be first in line."""
    for _ in range(times):
        attempt = claim(database)
        assert attempt.job.id == job_id
        store.requeue_crashed_if_owned(database, attempt.token, "engine_crashed", "It died.")


# Admission


def test_an_admitted_job_holds_a_place_and_what_is_known_of_its_source(database: Database, clock: Clock) -> None:
    job_id = store.admit(database, ROOMY, Request(7), Source("upload", "Grüße.wav", 7), "web")
    job = get(database, job_id)
    assert is_id(job_id)
    assert (job.kind, job.state, job.created_at) == ("transcription", State.RECEIVING, clock.now)
    assert job.source == Source("upload", "Grüße.wav", 7)
    assert job.params == Params(model="")
    assert (job.attempts, job.crashes, job.progress, job.queue_position) == (0, 0, 0.0, None)
    assert store.load(database) == Load(receiving=1, announced=7)


def test_a_full_box_refuses_and_writes_nothing(database: Database) -> None:
    full = Limits(1, 1, 10**9, 3600)
    ids = {store.admit(database, full, Request(), SOURCE, "web") for _ in range(2)}
    with pytest.raises(StenoboxError) as refusal:
        store.admit(database, full, Request(), SOURCE, "web")
    assert refusal.value.code == "queue_full"
    assert store.ids(database) == ids


def test_thirty_two_threads_never_overshoot(database: Database) -> None:
    cap = Limits(slots=2, queue_limit=5, max_bytes=10**9, max_seconds=3600)
    start, answers = threading.Barrier(32), []

    def submit() -> None:
        start.wait()
        try:
            answers.append(store.admit(database, cap, Request(), SOURCE, "web"))
        except StenoboxError as refusal:
            answers.append(refusal.code)

    threads = [threading.Thread(target=submit) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("queue_full") == 25
    assert store.ids(database) == {answer for answer in answers if answer != "queue_full"}
    assert len(store.ids(database)) == 7


SUBMIT = """
import sys, time
from pathlib import Path
from tasks import store
from tasks.capacity import Limits, Request
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.jobs import Source
path, me, cap = Path(sys.argv[1]), sys.argv[2], Limits(1, 19, 10**9, 3600)
database = Database(path)
accepted = 0
(path.parent / f"ready.{me}").touch()
deadline = time.monotonic() + 60
while len(list(path.parent.glob("ready.*"))) < 4:
    assert time.monotonic() < deadline, "the others never came"
    time.sleep(0.001)
for _ in range(15):
    try:
        store.admit(database, cap, Request(), Source("upload", me), me)
        accepted += 1
    except StenoboxError as refusal:
        assert refusal.code == "queue_full", refusal
database.close()
print(accepted)
"""


def test_four_processes_never_overshoot(config: Config, database: Database) -> None:
    submitters = [
        subprocess.Popen([sys.executable, "-c", SUBMIT, config.jobs_db, str(me)], stdout=subprocess.PIPE)
        for me in range(4)
    ]
    accepted = [submitter.communicate()[0] for submitter in submitters]
    assert [submitter.returncode for submitter in submitters] == [0] * 4
    assert sum(map(int, accepted)) == 20
    assert store.load(database) == Load(receiving=20)


def test_a_job_is_queued_with_its_final_source_and_params(database: Database, clock: Clock) -> None:
    job_id = store.admit(database, ROOMY, Request(), Source("upload", "?"), "web")
    clock.now += 5
    job = store.queue_if_receiving(database, job_id, Source("upload", "talk.wav", 44), Params("demo", "de"))
    assert job is not None
    assert job.state is State.QUEUED
    assert job.source == Source("upload", "talk.wav", 44)
    assert job.params == Params("demo", "de")
    assert (row(database, job_id)["queued_at"], row(database, job_id)["receiver"]) == (clock.now, None)


def test_a_job_that_was_deleted_while_it_arrived_is_not_queued(database: Database) -> None:
    job_id = store.admit(database, ROOMY, Request(), SOURCE, "web")
    store.delete(database, job_id)
    assert store.queue_if_receiving(database, job_id, SOURCE, DEMO) is None
    assert store.ids(database) == set()


@pytest.mark.parametrize("state", State)
def test_only_an_upload_is_dropped(database: Database, state: State) -> None:
    job_id, _ = job_in(database, state)
    store.drop_if_receiving(database, job_id)
    assert store.ids(database) == (set() if state is State.RECEIVING else {job_id})


def test_uploads_of_web_processes_that_are_gone_are_dropped_and_ours_stay(database: Database) -> None:
    waiting = queued(database)
    theirs = {store.admit(database, ROOMY, Request(), SOURCE, receiver) for receiver in ("old", "older")}
    ours = store.admit(database, ROOMY, Request(), SOURCE, "web")
    assert set(store.drop_receiving_of_others(database, "web")) == theirs
    assert store.ids(database) == {waiting, ours}


def test_a_changed_limit_wins_at_once_and_can_change_again(database: Database) -> None:
    first = Limits(slots=1, queue_limit=0, max_bytes=100, max_seconds=60)
    assert store.limits(database, first) == first
    change_limit(database, "queue_limit", 5)
    change_limit(database, "queue_limit", 1)
    change_limit(database, "max_seconds", 1.5)
    with database.write() as connection:
        connection.execute(sa.insert(settings).values(name="of another version", value=1, changed_at=0.0))
    assert store.limits(database, first) == Limits(slots=1, queue_limit=1, max_bytes=100, max_seconds=1.5)
    for _ in range(2):
        store.admit(database, first, Request(), SOURCE, "web")
    with pytest.raises(StenoboxError, match="room for 2"):
        store.admit(database, first, Request(), SOURCE, "web")


def test_changed_slots_are_obeyed_by_the_next_claim(database: Database, line: list[str]) -> None:
    assert store.claim_next(database, ALONE, "worker", 30)
    assert store.claim_next(database, ALONE, "worker", 30) is None
    change_limit(database, "slots", 2)
    assert store.claim_next(database, ALONE, "worker", 30)


def test_the_load_counts_states_and_the_mean_time_of_recent_completed_jobs(database: Database, clock: Clock) -> None:
    for number in range(22):  # the first two took an hour each and are too long ago to count
        queued(database)
        attempt = claim(database)
        clock.now += 3600 if number < 2 else number
        store.finish_if_owned(database, attempt.token, "r.json", 1.0, None)
    queued(database)
    attempt = claim(database)
    clock.now += 50
    store.fail_if_owned(database, attempt.token, "undecodable", "No.")
    for _ in range(3):
        queued(database)
    claim(database)
    store.admit(database, ROOMY, Request(), SOURCE, "web")
    mean = sum(range(2, 22)) / 20
    # Whose length is known counts with that: ten bytes of a WAV are no second's work.
    least = (LEAST_SECONDS,)
    assert store.load(database) == Load(1, 2, 1, mean, least, least * 2, slack=20 / mean, announced=10)


def test_counting_and_claiming_use_the_index_of_active_jobs(database: Database) -> None:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM jobs" in statement:
            seen.append((statement, parameters))

    queued(database)
    sa.event.listen(database.engine, "before_cursor_execute", note)
    for _ in range(3):
        queued(database)
    store.load(database, "somebody", 1)
    store.counts(database)
    store.first_in_line(database)
    store.count_waiting(database)
    store.oldest_wait(database)
    store.get(database, store.first_ids(database, 1)[0])
    store.claim_next(database, ROOMY, "worker", 30)
    store.claim_next(database, ROOMY, "worker", 30, light=True)
    store.claim_download(database, ROOMY, "worker", 30)
    store.list_active(database, limit=2, apart=True)
    store.work_of_batches(database, ["a"])
    store.admit(database, ROOMY, Request(7), SOURCE, "web", "somebody")
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert len(seen) >= 5
    with database.read() as connection:
        for statement, parameters in seen:
            plan = [step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            on_jobs = [step for step in plan if step.split()[1] in ("jobs", "other", "own", "line")]
            assert on_jobs
            assert [step for step in on_jobs if " INDEX " not in step] == [], statement
            if "count(" in statement or "sum(" in statement:  # over many rows: none of them is looked at
                # A claim also looks at the crashes of what runs: as many rows as there are slots.
                few = "crashes" in statement
                assert few or [step for step in on_jobs if " COVERING INDEX " not in step] == [], statement


# Trying again


def test_a_retried_job_goes_to_the_end_of_the_line_as_if_new(database: Database, clock: Clock, line: list[str]) -> None:
    crash(database, line[0], MAX_CRASHES)
    assert get(database, line[0]).state is State.FAILED
    job = store.retry(database, ROOMY, line[0])
    assert job is not None
    assert (job.state, job.crashes, job.error, job.finished_at, job.cancel_requested) == (
        State.QUEUED, 0, None, None, False,
    )  # fmt: skip
    assert job.params == DEMO
    assert job.attempts == MAX_CRASHES
    assert in_line(database) == [line[1], line[2], line[0]]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_a_full_box_refuses_a_retry_and_leaves_the_job_as_it_was(database: Database, state: State) -> None:
    job_id, _ = job_in(database, state)
    before = row(database, job_id)
    full = Limits(1, 0, 10**9, 3600)
    queued(database)
    with pytest.raises(StenoboxError) as refusal:
        store.retry(database, full, job_id)
    assert refusal.value.code == "queue_full"
    assert row(database, job_id) == before


@pytest.mark.parametrize("state", [State.RECEIVING, State.QUEUED, State.RUNNING, State.COMPLETED])
def test_a_job_that_can_not_be_retried_is_not_told_to_come_back_when_the_box_is_full(
    database: Database, state: State
) -> None:
    job_id, _ = job_in(database, state)
    before = row(database, job_id)
    queued(database)
    assert store.retry(database, Limits(1, 0, 10**9, 3600), job_id) is None
    assert row(database, job_id) == before


# Claims


def test_a_claim_writes_owner_token_lease_and_attempt(database: Database, clock: Clock, line: list[str]) -> None:
    attempt = store.claim_next(database, ROOMY, "worker", 30)
    assert attempt is not None
    job = attempt.job
    assert (job.id, job.state, job.stage, job.progress) == (line[0], State.RUNNING, Stage.DECODE, 0.0)
    assert (job.attempts, job.started_at) == (1, clock.now)
    written = row(database, line[0])
    assert (written["token"], written["worker"]) == (attempt.token, "worker")
    assert written["lease_until"] == clock.now + 30


def test_jobs_are_claimed_in_the_order_they_were_queued(database: Database, line: list[str]) -> None:
    assert [claim(database).job.id for _ in range(3)] == line
    assert store.claim_next(database, ROOMY, "worker", 30) is None


def test_jobs_queued_in_the_same_instant_have_one_order_everywhere(database: Database, clock: Clock) -> None:
    ids = [queued(database) for _ in range(4)]
    assert in_line(database) == ids
    assert [get(database, job_id).queue_position for job_id in ids] == [1, 2, 3, 4]
    assert [claim(database).job.id for _ in range(4)] == ids


def test_an_upload_that_began_first_does_not_hold_up_the_line(database: Database, clock: Clock) -> None:
    store.admit(database, ROOMY, Request(), SOURCE, "web")
    clock.now += 1
    waiting = queued(database)
    assert claim(database).job.id == waiting


@pytest.mark.parametrize(
    "put_back",
    [
        lambda d, token: store.requeue_if_owned(d, token),
        lambda d, token: store.requeue_crashed_if_owned(d, token, "engine_crashed", "Died."),
        lambda d, token: store.requeue_all_running(d),
    ],
    ids=["interrupted", "crashed", "rescued"],
)
def test_a_job_put_back_keeps_its_place(
    database: Database, clock: Clock, line: list[str], put_back: Callable[[Database, str], Any]
) -> None:
    attempt = claim(database)
    clock.now += 100
    late = queued(database)
    put_back(database, attempt.token)
    assert in_line(database) == [*line, late]
    assert get(database, line[0]).queue_position == 1
    assert claim(database).job.id == line[0]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_no_more_jobs_run_than_there_are_slots(database: Database, line: list[str], slots: int) -> None:
    limits = Limits(slots, 100, 10**9, 3600)
    claims = [store.claim_next(database, limits, "worker", 30) for _ in range(4)]
    assert [attempt is not None for attempt in claims] == [True] * slots + [False] * (4 - slots)
    assert store.load(database).running == slots


def test_sixteen_threads_claim_every_job_once_and_only_into_slots(database: Database) -> None:
    for _ in range(6):
        queued(database)
    start, claims = threading.Barrier(16), []

    def work() -> None:
        start.wait()
        claims.append(store.claim_next(database, ROOMY, "worker", 30))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [attempt for attempt in claims if attempt]
    assert (
        len({attempt.job.id for attempt in won}) == len({attempt.token for attempt in won}) == len(won) == ROOMY.slots
    )


# Crashes


def test_a_job_with_a_crash_on_record_runs_alone(database: Database, line: list[str]) -> None:
    crash(database, line[0])
    suspect = claim(database)
    assert suspect.job.id == line[0]
    assert store.claim_next(database, ROOMY, "worker", 30) is None  # nothing starts beside it
    store.finish_if_owned(database, suspect.token, "r.json", 1.0, None)
    assert [claim(database).job.id for _ in range(2)] == line[1:]


def test_a_suspect_at_the_head_of_the_line_waits_for_what_runs_and_is_not_overtaken(
    database: Database, line: list[str]
) -> None:
    first, second = claim(database), claim(database)
    store.requeue_crashed_if_owned(database, first.token, "engine_crashed", "Died.")
    assert store.claim_next(database, ROOMY, "worker", 30) is None
    store.finish_if_owned(database, second.token, "r.json", 1.0, None)
    assert claim(database).job.id == line[0]
    assert store.claim_next(database, ROOMY, "worker", 30) is None


def test_the_last_allowed_crash_fails_the_job_with_its_sentence(database: Database) -> None:
    job_id = queued(database)
    for number in range(1, MAX_CRASHES):
        crash(database, job_id)
        job = get(database, job_id)
        assert (job.state, job.crashes, job.attempts, job.error) == (State.QUEUED, number, number, None)
    attempt = claim(database)
    job = store.requeue_crashed_if_owned(database, attempt.token, "engine_crashed", "It died.")
    assert job is not None
    assert (job.state, job.crashes, job.stage) == (State.FAILED, MAX_CRASHES, None)
    assert job.error == Failure("engine_crashed", "It died.", retryable=True)
    assert job.finished_at is not None
    assert store.claim_next(database, ROOMY, "worker", 30) is None


def test_a_completed_job_shows_no_error_of_an_earlier_crash(database: Database) -> None:
    job_id = queued(database)
    crash(database, job_id)
    store.finish_if_owned(database, claim(database).token, "r.json", 1.0, None)
    job = get(database, job_id)
    assert (job.state, job.error, job.crashes) == (State.COMPLETED, None, 1)


def test_an_interruption_is_not_charged(database: Database) -> None:
    job_id = queued(database)
    job = store.requeue_if_owned(database, claim(database).token)
    assert job is not None
    assert (job.state, job.attempts, job.crashes, job.started_at) == (State.QUEUED, 0, 0, None)
    written = row(database, job_id)
    assert (written["token"], written["worker"], written["lease_until"]) == (None, None, None)


# Ends


def test_a_finish_writes_result_length_and_note(database: Database, clock: Clock) -> None:
    queued(database)
    attempt = claim(database)
    clock.now += 2
    job = store.finish_if_owned(database, attempt.token, "token.json", 4.0, "No speech was found.", work=2.0)
    assert job is not None
    assert (job.state, job.progress, job.stage, job.finished_at) == (State.COMPLETED, 1.0, None, clock.now)
    assert (job.result, job.source.seconds, job.note) == ("token.json", 4.0, "No speech was found.")
    assert job.realtime_factor == 0.5


def test_a_failure_writes_its_code_and_sentence(database: Database, clock: Clock) -> None:
    queued(database)
    job = store.fail_if_owned(database, claim(database).token, "undecodable", "It is no recording.")
    assert job is not None
    assert (job.state, job.finished_at, job.result) == (State.FAILED, clock.now, None)
    assert job.error == Failure("undecodable", "It is no recording.", retryable=False)


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELED])
def test_a_finished_job_has_no_owner(database: Database, state: State) -> None:
    job_id, token = job_in(database, state)
    assert token
    written = row(database, job_id)
    assert (written["token"], written["worker"], written["lease_until"]) == (None, None, None)


# Fencing

IF_OWNED: dict[str, Callable[[Database, str], Any]] = {
    "renew_if_owned": lambda d, token: store.renew_if_owned(d, [(token, Stage.SAVE, 0.9, 1.0)], 999) or None,
    "finish_if_owned": lambda d, token: store.finish_if_owned(d, token, "stale.json", 9.0, "stale"),
    "fetched_if_owned": lambda d, token: store.fetched_if_owned(d, token, "stale", 9, {}),
    "note_download_if_owned": lambda d, token: store.note_download_if_owned(d, token, 9, {"stale": True}),
    "note_media_if_owned": lambda d, token: store.note_media_if_owned(d, token, 9.0, {"codec": "flac"}),
    "fail_if_owned": lambda d, token: store.fail_if_owned(d, token, "internal", "stale"),
    "cancel_if_owned": lambda d, token: store.cancel_if_owned(d, token),
    "requeue_if_owned": lambda d, token: store.requeue_if_owned(d, token),
    "requeue_crashed_if_owned": lambda d, token: store.requeue_crashed_if_owned(d, token, "engine_crashed", "stale"),
}


def reclaimed(database: Database, job_id: str, token: str) -> None:
    store.requeue_all_running(database)
    assert claim(database).job.id == job_id


def finished(database: Database, job_id: str, token: str) -> None:
    store.finish_if_owned(database, token, "mine.json", 4.0, None)


def failed_for_good(database: Database, job_id: str, token: str) -> None:
    store.fail_if_owned(database, token, "undecodable", "No.")


def back_in_line(database: Database, job_id: str, token: str) -> None:
    store.requeue_if_owned(database, token)


def canceled(database: Database, job_id: str, token: str) -> None:
    store.cancel(database, job_id)
    store.cancel_if_owned(database, token)


def test_every_function_that_needs_the_owner_is_fenced_here() -> None:
    assert set(IF_OWNED) == {name for name in store.__all__ if name.endswith("_if_owned")}


@pytest.mark.parametrize("lost", [reclaimed, finished, failed_for_good, back_in_line, canceled])
@pytest.mark.parametrize("name", list(IF_OWNED))
def test_a_stale_token_changes_nothing(
    database: Database, name: str, lost: Callable[[Database, str, str], None]
) -> None:
    job_id, token = job_in(database, State.RUNNING)
    lost(database, job_id, token)
    before = row(database, job_id)
    assert IF_OWNED[name](database, token) is None
    assert row(database, job_id) == before


@pytest.mark.parametrize("name", list(IF_OWNED))
def test_the_token_of_a_deleted_job_changes_nothing(database: Database, name: str) -> None:
    job_id, token = job_in(database, State.RUNNING)
    other = queued(database)
    store.delete(database, job_id)
    before = row(database, other)
    assert IF_OWNED[name](database, token) is None
    assert store.ids(database) == {other}
    assert row(database, other) == before


# Leases


def test_renewing_moves_the_lease_and_writes_progress_of_what_is_still_owned(
    database: Database, clock: Clock, line: list[str]
) -> None:
    first, second, third = claim(database), claim(database), claim(database)
    store.cancel(database, second.job.id)
    store.delete(database, third.job.id)
    clock.now += 10
    owned = store.renew_if_owned(
        database,
        [
            (first.token, Stage.TRANSCRIBE, 0.4, 1.0),
            (second.token, Stage.ALIGN, 0.8, 1.0),
            (third.token, Stage.SAVE, 0.9, 1.0),
        ],
        30,
    )
    assert owned == {first.token: False, second.token: True}
    job = get(database, first.job.id)
    assert (job.stage, job.progress) == (Stage.TRANSCRIBE, 0.4)
    assert row(database, first.job.id)["lease_until"] == clock.now + 30


def test_only_an_attempt_that_still_says_what_it_said_is_rescued(database: Database, line: list[str]) -> None:
    silent, alive = claim(database), claim(database)
    assert store.stamps(database) == {silent.token: 0.0, alive.token: 0.0}
    store.renew_if_owned(database, [(alive.token, Stage.DECODE, 0.0, 1.5)], 10)
    assert store.stamps(database) == {silent.token: 0.0, alive.token: 1.5}
    assert store.requeue_if_silent(database, alive.token, 0.0) == []
    assert [job.id for job in store.requeue_if_silent(database, silent.token, 0.0)] == [silent.job.id]
    assert get(database, silent.job.id).state is State.QUEUED
    assert get(database, alive.job.id).state is State.RUNNING
    assert store.stamps(database) == {alive.token: 1.5}


def test_the_only_worker_rescues_every_running_job_at_once_and_keeps_the_attempt(
    database: Database, line: list[str]
) -> None:
    claim(database)
    claim(database)
    assert {job.id for job in store.requeue_all_running(database)} == set(line[:2])
    assert in_line(database) == line
    assert [get(database, job_id).attempts for job_id in line] == [1, 1, 0]
    assert get(database, line[0]).crashes == 0


INTERRUPTIONS: dict[str, Callable[[Database, str], Any]] = {
    "requeue_all_running": lambda d, _token: store.requeue_all_running(d),
    "requeue_if_silent": lambda d, token: store.requeue_if_silent(d, token, 0.0),
    "requeue_if_owned": lambda d, token: store.requeue_if_owned(d, token),
    "requeue_crashed_if_owned": lambda d, token: store.requeue_crashed_if_owned(d, token, "engine_crashed", "Died."),
}


@pytest.mark.parametrize("name", list(INTERRUPTIONS))
def test_a_persons_cancel_outlives_whatever_interrupts_the_job(database: Database, clock: Clock, name: str) -> None:
    job_id = queued(database)
    attempt = claim(database)
    store.cancel(database, job_id)
    clock.now += 1000
    INTERRUPTIONS[name](database, attempt.token)
    job = get(database, job_id)
    assert (job.state, job.finished_at, job.stage) == (State.CANCELED, clock.now, None)
    written = row(database, job_id)
    assert (written["token"], written["worker"], written["lease_until"]) == (None, None, None)
    assert store.claim_next(database, ROOMY, "worker", 30) is None


def test_a_rescue_tells_only_what_is_back_in_line(database: Database, line: list[str]) -> None:
    first, second = claim(database), claim(database)
    store.cancel(database, first.job.id)
    assert store.requeue_if_silent(database, first.token, 0.0) == []
    assert [job.id for job in store.requeue_all_running(database)] == [second.job.id]


# What a person does


def test_a_cancel_ends_a_job_in_line_and_asks_for_the_end_of_one_that_runs(database: Database, clock: Clock) -> None:
    running, _ = job_in(database, State.RUNNING)
    waiting = queued(database)
    job = store.cancel(database, waiting)
    assert job is not None
    assert (job.state, job.finished_at) == (State.CANCELED, clock.now)
    job = store.cancel(database, running)
    assert job is not None
    assert (job.state, job.cancel_requested) == (State.RUNNING, True)


def test_a_retried_job_has_forgotten_the_cancel(database: Database) -> None:
    job_id, token = job_in(database, State.RUNNING)
    store.cancel(database, job_id)
    store.cancel_if_owned(database, token)
    store.retry(database, ROOMY, job_id)
    attempt = claim(database)
    assert not attempt.job.cancel_requested
    assert store.renew_if_owned(database, [(attempt.token, Stage.DECODE, 0.0, 0.0)], 30) == {attempt.token: False}


@pytest.mark.parametrize("state", State)
def test_a_job_is_deleted_in_any_state_once(database: Database, state: State) -> None:
    job_id, _ = job_in(database, state)
    assert store.delete(database, job_id)
    assert not store.delete(database, job_id)
    assert store.get(database, job_id) is None
    assert store.load(database).active == 0


def test_an_unknown_job_is_none(database: Database) -> None:
    assert store.get(database, "0" * 32) is None
    assert store.cancel(database, "0" * 32) is None
    assert store.retry(database, ROOMY, "0" * 32) is None


# Lists


def test_queue_positions_count_from_the_next_to_start_and_only_for_queued_jobs(
    database: Database, line: list[str]
) -> None:
    assert [get(database, job_id).queue_position for job_id in line] == [1, 2, 3]
    claim(database)
    assert [get(database, job_id).queue_position for job_id in line] == [None, 1, 2]
    assert {job.id: job.queue_position for job in store.list_jobs(database, None, 9)} == dict(
        zip(line, [None, 1, 2], strict=True)
    )
    assert [job.queue_position for job in store.list_active(database)] == [None, 1, 2]
    store.cancel(database, line[1])
    assert get(database, line[2]).queue_position == 1


def test_active_jobs_are_listed_as_they_will_finish(database: Database, clock: Clock) -> None:
    uploads = [store.admit(database, ROOMY, Request(), SOURCE, "web")]
    waiting = []
    for _ in range(5):
        clock.now += 1
        waiting.append(queued(database))
    clock.now += 1
    uploads.append(store.admit(database, ROOMY, Request(), SOURCE, "web"))
    running = []
    for _ in range(2):
        clock.now += 1
        running.append(claim(database).job.id)
    store.cancel(database, waiting[3])
    assert running == waiting[:2]
    assert [job.id for job in store.list_active(database)] == [*running, waiting[2], waiting[4], *uploads]


@pytest.fixture
def dozen(database: Database, clock: Clock) -> list[str]:
    """Jobs of all kinds, newest first; some were created in the same instant."""
    ids = []
    for number in range(12):
        job_id = queued(database)
        if number % 3 == 0:
            store.cancel(database, job_id)
        ids.append((clock.now, job_id))
        clock.now += number % 2
    return [job_id for _, job_id in sorted(ids, reverse=True)]


def pages(fetch: Callable[[Any], list[Any]], last: Callable[[Any], Any]) -> list[str]:
    found: list[str] = []
    after = None
    while page := fetch(after):
        found += [job.id for job in page]
        after = last(page[-1])
    return found


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 50])
def test_pages_of_jobs_hold_every_job_once_newest_first(database: Database, dozen: list[str], limit: int) -> None:
    def fetch(after: str | None) -> list[Any]:
        page = store.list_jobs(database, None, limit, after)
        assert len(page) <= limit
        return page

    assert pages(fetch, lambda job: job.id) == dozen


def test_pages_of_one_state_hold_only_that(database: Database, dozen: list[str]) -> None:
    found = pages(lambda after: store.list_jobs(database, State.CANCELED, 2, after), lambda job: job.id)
    assert found == [job_id for job_id in dozen if get(database, job_id).state is State.CANCELED]
    assert len(found) == 4


def test_a_page_after_a_job_that_was_deleted_is_refused_and_not_empty(database: Database, dozen: list[str]) -> None:
    last = store.list_jobs(database, None, 2)[-1].id
    store.delete(database, last)
    with pytest.raises(StenoboxError, match="deleted") as refusal:
        store.list_jobs(database, None, 2, last)
    assert (refusal.value.code, refusal.value.param) == ("invalid_value", "after")


def test_finished_jobs_are_listed_newest_first_in_pages_and_counted(database: Database, clock: Clock) -> None:
    queued_first = [queued(database) for _ in range(7)]
    for number, job_id in enumerate(queued_first):
        store.cancel(database, job_id)
        clock.now += number % 2
    queued(database)
    expected = sorted(
        (job for job in store.list_jobs(database, None, 99) if job.finished),
        key=lambda job: (job.finished_at, job.id),
        reverse=True,
    )
    found = pages(lambda before: store.list_finished(database, 2, before), lambda job: (job.finished_at, job.id))
    assert found == [job.id for job in expected]
    assert store.count_finished(database) == 7


def test_an_empty_box_has_empty_lists(database: Database) -> None:
    assert store.list_active(database) == store.list_jobs(database, None, 5) == store.list_finished(database, 5) == []
    assert store.count_finished(database) == 0
    assert store.ids(database) == set()
    assert store.load(database) == Load()
    assert store.claim_next(database, ROOMY, "worker", 30) is None
    assert store.requeue_all_running(database) == []


def test_names_and_parameters_survive_whatever_characters_they_hold(database: Database) -> None:
    name = "\"'; DROP TABLE jobs; -- \u202e\U0001f600\u4f60%s{}<b>"
    job_id = store.admit(database, ROOMY, Request(), Source("upload", name), "web")
    store.queue_if_receiving(database, job_id, Source("upload", name, 1), Params(name, name))
    job = get(database, job_id)
    assert job.source.name == job.params.model == job.params.language == name


def test_a_long_job_s_own_pace_is_counted_by_the_worker_s_clock_and_without_what_earlier_attempts_did(
    database: Database, clock: Clock
) -> None:
    queued(database)
    attempt = claim(database)

    def left(progress: float, elapsed: float) -> float:
        store.renew_if_owned(database, [(attempt.token, Stage.TRANSCRIBE, progress, elapsed)], 30)
        clock.now += 86_400  # whatever the time of day
        return store.load(database).remaining[0]

    assert left(0.5, 100) == pytest.approx(100)
    store.note_media_if_owned(database, attempt.token, 3600.0, {}, resumed=0.5)
    assert left(0.5, 100) == pytest.approx(FIRST_GUESS_SECONDS * 0.5)  # it has shown no pace of its own yet
    assert left(0.75, 100) == pytest.approx(100)
    store.requeue_if_owned(database, attempt.token)
    again = row(database, attempt.job.id)
    assert (again["resumed"], again["elapsed"], again["progress"]) == (0, 0, 0)


def test_what_the_guard_said_before_the_clock_was_set_back_does_not_count(database: Database, clock: Clock) -> None:
    store.add_sample(database, store.Sample(clock.now, 1, 2, 0, None, 0.0, None, 0, 0, 0, "hold"))
    assert store.guard(database) == "hold"
    clock.now -= 86_400
    assert store.guard(database) == "calm"
    store.add_sample(database, store.Sample(clock.now, 1, 2, 0, None, 0.0, None, 0, 0, 0, "calm"))
    assert [sample.at for sample in store.list_samples(database, 0)] == [clock.now]


def test_who_comes_after_the_clock_was_set_back_still_comes_after(database: Database, clock: Clock) -> None:
    early = [queued(database)]
    for _ in range(3):
        clock.now -= 7200
        early.append(queued(database))
    assert in_line(database) == early
    clock.now -= 7200
    store.fail_if_owned(database, claim(database).token, "internal", "x")
    store.retry(database, ROOMY, early[0])
    assert in_line(database) == [*early[1:], early[0]]
    assert store.load(database).job_seconds is None


def test_a_job_that_ended_before_it_began_took_no_time(database: Database, clock: Clock) -> None:
    queued(database)
    token = claim(database).token
    clock.now -= 86_400
    store.finish_if_owned(database, token, "x.json", 5.0, None)
    assert store.load(database).job_seconds == 0
