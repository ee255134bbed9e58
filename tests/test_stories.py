"""The tries at a job, told to people and to programs: from real rows, through the page and the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from web_support import LOST, client_of

from tasks import causes, store
from tasks.actions import Box
from tasks.jobs import MAX_CRASHES, Job, Params, Stage, State
from tasks.store import Cause, Seen
from webapp.stories import MOST_TOLD, Told, in_short, tell

GIB = 2**30
OOM = "The engine ran out of memory while transcribing, and the system ended it."


def queued(box: Box) -> str:
    with box.receive("talk.mp3") as receiving:
        receiving.write(b"sound")
        return receiving.queue(Params("demo")).id


def claim(box: Box) -> str:
    attempt = store.claim_next(box.database, box.planner.first(), "worker", 60)
    assert attempt is not None
    return attempt.token


def run_out(box: Box, batch: int) -> Job | None:
    seen = Seen(Stage.TRANSCRIBE, 5 * GIB, batch)
    return store.requeue_crashed_if_owned(
        box.database, claim(box), "out_of_memory", OOM, seen, final="Tried 3 times. " + OOM
    )


def complete(box: Box) -> Job | None:
    return store.finish_if_owned(box.database, claim(box), "r.json", 4.0, None, seen=Seen(Stage.SAVE, GIB, 2))


def told(box: Box, job_id: str) -> list[Told]:
    return tell(box.get(job_id), store.list_attempts(box.database, job_id))


def titles_and_sentences(box: Box, job_id: str) -> list[tuple[str, str]]:
    return [(one.title, one.sentence) for one in told(box, job_id)]


@pytest.mark.parametrize("end", ["waits", "runs", "completes", "is canceled"])
def test_a_job_that_goes_well_at_once_has_nothing_to_explain(box: Box, end: str) -> None:
    job_id = queued(box)
    if end == "runs":
        claim(box)
    elif end == "completes":
        complete(box)
    elif end == "is canceled":
        token = claim(box)
        store.cancel(box.database, job_id)
        store.cancel_if_owned(box.database, token)
    assert told(box, job_id) == []


def test_memory_ran_out_and_then_it_went_through(box: Box) -> None:
    job_id = queued(box)
    run_out(box, 4)
    assert titles_and_sentences(box, job_id) == [("First try", f"{OOM} It will be tried again, alone.")]
    token = claim(box)
    assert titles_and_sentences(box, job_id) == [
        ("First try", f"{OOM} It was tried again alone."),  # how much at a time is not known yet
        ("Second try", "Running now."),
    ]
    store.finish_if_owned(box.database, token, "r.json", 4.0, None, seen=Seen(Stage.SAVE, GIB, 2))
    first, second = told(box, job_id)
    assert first.sentence == f"{OOM} It was tried again alone, with less of it at a time."
    assert (first.stage, first.peak) == (None, 5 * GIB)  # its sentence says where
    assert first.seconds is not None
    assert (second.sentence, second.stage, second.peak) == ("It went through.", None, GIB)


def test_it_was_given_up(box: Box) -> None:
    job_id = queued(box)
    for batch in (4, 2, 1):
        run_out(box, batch)
    assert box.get(job_id).state == State.FAILED
    less = f"{OOM} It was tried again alone, with less of it at a time."
    assert titles_and_sentences(box, job_id) == [("First try", less), ("Second try", less), ("Third try", "")]


def test_a_failure_is_not_told_twice(box: Box) -> None:
    job_id = queued(box)
    store.fail_if_owned(box.database, claim(box), "undecodable", "It is no recording.", Seen(Stage.DECODE))
    (one,) = told(box, job_id)
    assert (one.sentence, one.stage) == ("", Stage.DECODE)


def test_what_was_not_its_fault_kept_its_place(box: Box) -> None:
    job_id = queued(box)
    store.requeue_if_owned(box.database, claim(box), Cause("engine_ended", "A neighbour hung."))
    assert titles_and_sentences(box, job_id) == [("First try", "A neighbour hung. It kept its place in line.")]


def test_a_job_that_was_canceled_while_it_waited_will_not_be_tried_again(box: Box) -> None:
    job_id = queued(box)
    run_out(box, 4)
    box.cancel(job_id)
    assert titles_and_sentences(box, job_id) == [("First try", OOM)]


def test_of_many_tries_the_last_are_told(box: Box) -> None:
    job_id = queued(box)
    for _ in range(11):
        store.requeue_all_running(box.database)
        claim(box)
    titles = [one.title for one in told(box, job_id)]
    assert len(titles) == MOST_TOLD
    assert titles[-2:] == ["Tenth try", "Try 11"]


def test_a_clock_that_was_set_back_gives_no_negative_times(box: Box) -> None:
    job_id = queued(box)
    run_out(box, 4)
    (record,) = store.list_attempts(box.database, job_id)
    (one,) = tell(box.get(job_id), [replace(record, ended_at=record.started_at - 7200)])
    assert one.seconds == 0.0


def test_the_page_and_the_api_tell_the_same(box: Box) -> None:
    job_id = queued(box)
    run_out(box, 4)
    complete(box)
    with client_of(box.config) as client:
        page = client.get(f"/jobs/{job_id}").text
        answer = client.get(f"/api/v1/jobs/{job_id}/attempts")
        assert client.get(f"/api/v1/jobs/{LOST}/attempts").json()["error"]["code"] == "not_found"
    assert f"{OOM} It was tried again alone, with less of it at a time." in page
    assert "5.0 GiB of memory" in page
    assert answer.status_code == 200
    first, second = answer.json()["attempts"]
    times = {name: first.pop(name) for name in ("started_at", "ended_at", "seconds")}
    assert times["started_at"].endswith("Z")
    assert times["started_at"] <= times["ended_at"]
    assert 0 <= times["seconds"] < 60
    expected: dict[str, Any] = {
        "number": 1,
        "stage": "transcribe",
        "outcome": "requeued",
        "cause": {"code": "out_of_memory", "message": OOM},
        "charged": True,
        "peak_bytes": 5 * GIB,
        "batch": 4,
        "worker": "worker",
        "crash": None,
    }
    assert first == expected
    assert (second["number"], second["outcome"], second["cause"], second["charged"]) == (2, "completed", None, False)


def test_a_try_that_runs_has_no_end(box: Box) -> None:
    job_id = queued(box)
    claim(box)
    with client_of(box.config) as client:
        (one,) = client.get(f"/api/v1/jobs/{job_id}/attempts").json()["attempts"]
    assert (one["ended_at"], one["seconds"], one["outcome"], one["cause"]) == (None, None, None, None)


def test_crashes_that_are_charged_end_a_job(box: Box) -> None:
    """What `charged` means."""
    job_id = queued(box)
    for _ in range(MAX_CRASHES):
        run_out(box, 1)
    charged = [record.charged for record in store.list_attempts(box.database, job_id)]
    assert charged == [True] * MAX_CRASHES
    assert box.get(job_id).crashes == MAX_CRASHES


def short(box: Box, job_id: str) -> str:
    return in_short(box.get(job_id), store.list_attempts(box.database, job_id))


def test_what_was_nobodys_fault_and_ended_well_is_one_line(box: Box) -> None:
    job_id = queued(box)
    claim(box)
    store.requeue_all_running(box.database)
    assert short(box, job_id) == "It goes on in a moment: Stenobox was restarted once."
    claim(box)
    store.requeue_all_running(box.database)
    token = claim(box)
    assert short(box, job_id) == "This is try 3: Stenobox was restarted twice."
    store.requeue_if_owned(box.database, token, causes.PRESSURE)
    complete(box)
    assert short(box, job_id) == "It took 4 tries: Stenobox was restarted twice and memory was short once."


def test_a_story_with_a_crash_or_a_bad_end_stays_whole(box: Box) -> None:
    job_id = queued(box)
    token = claim(box)
    store.requeue_crashed_if_owned(box.database, token, "killed", "The engine was killed.")
    assert short(box, job_id) == ""
    store.fail_if_owned(box.database, claim(box), "no_audio", "There is no sound in it.")
    assert short(box, job_id) == ""


def test_a_job_that_went_well_at_once_has_no_line(box: Box) -> None:
    job_id = queued(box)
    assert short(box, job_id) == ""
    complete(box)
    assert short(box, job_id) == ""
