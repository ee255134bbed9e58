"""Undo: what was canceled or deleted on a page comes back for ten seconds, by a row that outlives every process."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from web_support import client_of, put_every_state, put_job

from tasks import backup, batches, media, recovery, retention, store, undo
from tasks.actions import Box
from tasks.config import Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, State
from tasks.queue import Queue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(undo.time, "monotonic", lambda: now[0])
    return now


def claim(box: Box) -> store.Attempt:
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    return attempt


def put_in_batch(box: Box, name: str, count: int) -> tuple[str, list[Job]]:
    jobs = []
    for number in range(count):
        with box.receive(f"{number}.mp3") as receiving:
            receiving.write(b"sound")
            batches.enter(box, receiving, name)
            jobs.append(receiving.queue(Params("demo")))
    assert jobs[0].batch
    return jobs[0].batch, jobs


def order(box: Box) -> list[str]:
    return [job.id for job in box.list_active()]


def too_late(box: Box, what: str) -> None:
    with pytest.raises(StenoboxError) as refusal:
        box.undo(what)
    assert refusal.value.code == "wrong_state"


def test_a_canceled_job_is_in_line_again_where_it_was(box: Box) -> None:
    first, second = put_job(box, State.QUEUED), put_job(box, State.QUEUED)
    box.cancel(first.id, undoable=True)
    assert [(one.id, one.action, one.name) for one in store.list_undos(box.database)] == [
        (first.id, "canceled", "talk.mp3")
    ]
    [back] = box.undo(first.id)
    assert (back.state, back.finished_at, back.attempts) == (State.QUEUED, None, 0)
    assert order(box) == [first.id, second.id]
    assert store.list_undos(box.database) == []
    too_late(box, first.id)


def test_a_running_job_that_was_canceled_goes_on_if_it_was_not_stopped_yet(box: Box) -> None:
    job = put_job(box, State.RUNNING)
    box.cancel(job.id, undoable=True)
    [back] = box.undo(job.id)
    assert (back.state, back.cancel_requested, back.attempts) == (State.RUNNING, False, 1)


def test_a_cancel_taken_back_while_it_is_carried_out_puts_the_job_back(box: Box) -> None:
    put_job(box, State.QUEUED)
    attempt = claim(box)
    box.cancel(attempt.job.id, undoable=True)
    assert list(store.renew_if_owned(box.database, [(attempt.token, attempt.job.stage, 0.5, 1.0)], 5).values()) == [
        True
    ]
    box.undo(attempt.job.id)
    settled = store.cancel_if_owned(box.database, attempt.token)
    assert settled is not None
    assert (settled.state, settled.attempts) == (State.QUEUED, 0)


def test_a_job_stopped_in_the_middle_goes_on_with_what_it_had(box: Box) -> None:
    put_job(box, State.QUEUED)
    attempt = claim(box)
    media.journal(box.config, attempt.job.id).write_text("words")
    box.cancel(attempt.job.id, undoable=True)
    stopped = store.cancel_if_owned(box.database, attempt.token)
    assert stopped is not None
    assert stopped.state == State.CANCELED
    [back] = box.undo(attempt.job.id)
    assert (back.state, back.attempts) == (State.QUEUED, 0)
    assert media.journal(box.config, back.id).read_text() == "words"
    assert claim(box).job.attempts == 1


def test_a_job_comes_back_into_a_box_that_others_have_filled(box: Box) -> None:
    jobs = [put_job(box, State.QUEUED) for _ in range(3)]
    box.cancel(jobs[0].id, undoable=True)
    put_job(box, State.QUEUED)
    box.undo(jobs[0].id)
    assert order(box)[0] == jobs[0].id
    with pytest.raises(StenoboxError, match="full"):
        box.admit(jobs[0].source, "", "")


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELED])
def test_a_deleted_job_is_gone_for_all_and_comes_back_as_it_was(box: Box, state: State) -> None:
    job = put_every_state(box)[state]
    tries = store.list_attempts(box.database, job.id)
    count = box.count_finished()
    box.delete(job.id, undoable=True)
    assert box.find(job.id) is None
    assert job.id not in [other.id for other in box.list_jobs(None, 100)]
    assert box.count_finished() == count - job.finished
    with pytest.raises(StenoboxError):
        box.retry(job.id)
    retention.sweep(box.config, box.database)
    recovery.rescue(box.config, box.database)
    assert media.source(box.config, job.id).is_file()
    [back] = box.undo(job.id)
    assert (back.source, back.params, back.error, back.result, back.created_at) == (
        job.source,
        job.params,
        job.error,
        job.result,
        job.created_at,
    )
    assert back.state == (State.QUEUED if state == State.RUNNING else state)
    assert len(store.list_attempts(box.database, job.id)) == len(tries)
    if state == State.COMPLETED:
        assert box.transcript(box.get(job.id))["text"] == "yes no"


def test_trying_again_takes_the_offer_away(box: Box) -> None:
    job = put_job(box, State.QUEUED)
    box.cancel(job.id, undoable=True)
    box.retry(job.id)
    too_late(box, job.id)
    assert box.get(job.id).state == State.QUEUED


def test_what_is_still_arriving_is_deleted_at_once(box: Box) -> None:
    job = put_job(box, State.RECEIVING)
    box.delete(job.id, undoable=True)
    assert store.list_undos(box.database) == []
    assert not media.folder(box.config, job.id).exists()


def test_after_ten_seconds_nothing_is_left(box: Box, clock: list[float]) -> None:
    deleted, canceled = put_job(box, State.COMPLETED), put_job(box, State.QUEUED)
    box.delete(deleted.id, undoable=True)
    box.cancel(canceled.id, undoable=True)
    box.undos.sweep()
    clock[0] += 9.9
    box.undos.sweep()
    assert media.source(box.config, deleted.id).is_file()
    clock[0] += 0.2
    box.undos.sweep()
    assert not media.folder(box.config, deleted.id).exists()
    assert store.list_attempts(box.database, deleted.id) == []
    for job in (deleted, canceled):
        too_late(box, job.id)
    assert box.get(canceled.id).state == State.CANCELED
    assert media.source(box.config, canceled.id).is_file()


def test_done_a_second_time_it_can_be_taken_back_for_ten_seconds_again(box: Box, clock: list[float]) -> None:
    job = put_job(box, State.QUEUED)
    box.cancel(job.id, undoable=True)
    box.undos.sweep()
    clock[0] += 9
    box.undo(job.id)
    box.cancel(job.id, undoable=True)
    box.undos.sweep()
    clock[0] += 9
    box.undos.sweep()
    box.undo(job.id)


def test_another_process_lets_go_of_what_a_killed_one_kept(box: Box, config: Config, clock: list[float]) -> None:
    job = put_job(box, State.COMPLETED)
    box.delete(job.id, undoable=True)
    database = open_database(config)
    queue = Queue(config.queue_db)
    other = Box(config, database, queue)
    other.undos.sweep()
    assert [one.id for one in store.list_undos(database)] == [job.id]
    clock[0] += 11
    other.undos.sweep()
    assert store.list_undos(database) == []
    assert not media.folder(config, job.id).exists()
    queue.close()
    database.close()


def test_nothing_is_read_while_there_is_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.undos.sweep()
    monkeypatch.setattr(store, "undo_marks", lambda _: pytest.fail("read"))
    box.undos.sweep()


def test_programs_cancel_and_delete_for_good(client: TestClient, behind: Box) -> None:
    jobs = [put_job(behind, State.QUEUED) for _ in range(2)]
    client.post(f"/api/v1/jobs/{jobs[0].id}/cancel")
    client.delete(f"/api/v1/jobs/{jobs[1].id}")
    assert store.list_undos(behind.database) == []
    assert not media.folder(behind.config, jobs[1].id).exists()


def test_a_canceled_batch_comes_back_as_one(box: Box) -> None:
    batch, jobs = put_in_batch(box, "Interviews", 3)
    box.cancel(jobs[0].id)
    batches.cancel(box, batch, undoable=True)
    assert [(one.id, one.name, one.jobs) for one in store.list_undos(box.database)] == [(batch, "Interviews", 2)]
    assert len(box.undo(batch)) == 2
    assert [job.state for job in batches.jobs_of(box, batches.get(box, batch))] == ["canceled", "queued", "queued"]


def test_a_batch_with_nothing_under_way_leaves_nothing_to_take_back(box: Box) -> None:
    batch, jobs = put_in_batch(box, "Interviews", 1)
    box.cancel(jobs[0].id)
    batches.cancel(box, batch, undoable=True)
    assert store.list_undos(box.database) == []


def test_a_deleted_batch_comes_back_with_its_jobs(box: Box, clock: list[float]) -> None:
    batch, jobs = put_in_batch(box, "Interviews", 2)
    batches.delete(box, batch, undoable=True)
    assert batches.listed(box, 10) == []
    assert box.list_active() == []
    [job.batch for job in box.undo(batch)]
    assert {job.id for job in batches.jobs_of(box, batches.get(box, batch))} == {job.id for job in jobs}
    batches.delete(box, batch, undoable=True)
    other, _ = put_in_batch(box, "Interviews", 1)
    assert {job.batch for job in box.undo(batch)} == {other}


def test_a_job_of_a_batch_that_has_gone_comes_back_alone(box: Box) -> None:
    batch, jobs = put_in_batch(box, "Interviews", 1)
    box.delete(jobs[0].id, undoable=True)
    batches.delete(box, batch)
    [back] = box.undo(jobs[0].id)
    assert back.batch is None


def test_jobs_of_a_batch_are_let_go_with_it(box: Box, clock: list[float]) -> None:
    batch, _ = put_in_batch(box, "Interviews", 2)
    box.undos.sweep()
    batches.cancel(box, batch, undoable=True)
    box.undos.sweep()
    clock[0] += 11
    box.undos.sweep()
    assert store.undo_marks(box.database) == []


def test_nobody_takes_back_what_is_anothers(box: Box) -> None:
    from tasks.principals import Principal, Scope

    job = put_job(box, State.QUEUED)
    box.cancel(job.id, undoable=True)
    stranger = box.seen_by(Principal("else", Scope.SUBMIT, "else"))
    too_late(stranger, job.id)
    assert store.list_undos(box.database, "else") == []


def test_a_backup_holds_nothing_of_what_was_deleted(box: Box, tmp_path: Any) -> None:
    job = put_job(box, State.COMPLETED, "a secret name.mp3")
    put_job(box, State.COMPLETED)
    box.delete(job.id, undoable=True)
    made = tmp_path / "box.tar"
    backup.backup(box.config, made, recordings=True)
    assert b"a secret name" not in made.read_bytes()


def test_pages_offer_it_without_scripts(config: Config) -> None:
    with client_of(config, follow_redirects=True) as client:
        box: Box = client.app.state.box  # type: ignore[attr-defined]
        job = put_job(box, State.QUEUED)
        page = client.post(f"/jobs/{job.id}/cancel")
        assert f"/jobs/{job.id}/undo" in page.text
        assert client.post(f"/jobs/{job.id}/undo").status_code == 200
        assert box.get(job.id).state == State.QUEUED
        page = client.post(f"/jobs/{job.id}/delete")
        assert page.url.path == "/"
        assert f"/jobs/{job.id}/undo" in page.text
        assert client.get(f"/jobs/{job.id}").status_code == 404
        assert client.post(f"/jobs/{job.id}/undo").url.path == f"/jobs/{job.id}"
        assert client.post(f"/jobs/{job.id}/undo").status_code == 409
