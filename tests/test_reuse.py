"""The same recording again: its finished transcript at once, never across submitters, each job on its own."""

from __future__ import annotations

import hashlib

import pytest
from web_support import TRANSCRIPT

from tasks import media, resumable, reuse, store
from tasks.actions import Box, Receiving
from tasks.capacity import Load
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, State
from tasks.transcripts import as_json

DEMO = Params("demo")


def send(box: Box, data: bytes = b"sound", submitter: str = "me", params: Params = DEMO) -> Job:
    with box.receive("talk.mp3", submitter=submitter) as receiving:
        receiving.write(data)
        return receiving.queue(params)


def finish(box: Box, note: str | None = None) -> None:
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    path = media.transcript(box.config, attempt.job.id, f"{attempt.token}.json")
    media.write_durably(path, as_json(TRANSCRIPT).encode())
    store.finish_if_owned(box.database, attempt.token, path.name, 2.5, note, work=1.0)


def test_the_same_recording_is_completed_at_once_by_its_transcript(box: Box) -> None:
    first = send(box)
    finish(box, "No speech found in the second half.")
    again = send(box)
    assert (again.state, again.id != first.id) == (State.COMPLETED, True)
    assert again.note == f"{reuse.SENTENCE} No speech found in the second half."
    assert box.transcript(again) == TRANSCRIPT
    assert (again.source.bytes, again.source.seconds) == (5, 2.5)
    assert again.source.sha256 == hashlib.sha256(b"sound").hexdigest()
    assert (again.attempts, again.realtime_factor, again.started_at) == (0, None, None)
    assert box.load() == Load(job_seconds=1.0), "no place is held, and nothing is learnt from it"
    assert send(box).note == again.note, "once, however often"


def test_bytes_that_nobody_will_compare_are_not_counted(box: Box) -> None:
    job = send(box, submitter="")
    assert job.source.sha256 is None
    box.delete(job.id)
    with box.receive("talk.mp3", submitter="", key="monday") as receiving:
        receiving.write(b"sound")
        job = receiving.queue(DEMO)
    assert job.source.sha256 == hashlib.sha256(b"sound").hexdigest()
    box.delete(job.id)
    for submitter, counted in (("", None), ("me", hashlib.sha256(b"sound").hexdigest())):
        upload = resumable.begin(box, "talk.mp3", 5, (DEMO, "", False), submitter)
        with resumable.receive(box, upload) as piece:
            piece.write(b"sound")
        assert resumable.submit(box, upload, DEMO).source.sha256 == counted
        box.delete(upload.id)


def test_each_is_deleted_alone(box: Box) -> None:
    first = send(box)
    finish(box)
    again = send(box)
    box.delete(first.id)
    assert box.transcript(box.get(again.id)) == TRANSCRIPT
    assert media.source(box.config, again.id).read_bytes() == b"sound"
    third = send(box)
    box.delete(again.id)
    assert box.transcript(third) == TRANSCRIPT


@pytest.mark.parametrize(
    ("data", "submitter", "params"),
    [
        (b"noise", "me", DEMO),
        (b"sound", "you", DEMO),
        (b"sound", "", DEMO),
        (b"sound", "me", Params("demo", "en")),
        (b"sound", "me", Params("tiny")),
    ],
)
def test_what_differs_is_transcribed(box: Box, data: bytes, submitter: str, params: Params) -> None:
    send(box)
    finish(box)
    assert send(box, data, submitter, params).state == State.QUEUED


def test_without_a_key_nobody_knows_whose_a_recording_is(box: Box) -> None:
    send(box, submitter="")
    finish(box)
    assert send(box, submitter="").state == State.QUEUED


def test_only_a_finished_transcript_is_reused(box: Box) -> None:
    send(box)
    assert send(box).state == State.QUEUED
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    store.fail_if_owned(box.database, attempt.token, "no_audio", "There is no sound in it.")
    assert send(box).state == State.QUEUED


def test_it_can_be_switched_off(box: Box) -> None:
    send(box)
    finish(box)
    box.change_settings({"reuse": False}, "test")
    assert send(box).state == State.QUEUED


def test_a_transcript_that_is_gone_is_made_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    first = box.get(send(box).id)
    finish(box)
    done = box.get(first.id)

    def full(*_: object) -> None:
        raise StenoboxError("disk_full", "The disk of this box is full.")

    with monkeypatch.context() as patch:
        patch.setattr(media, "write_durably", full)
        second = send(box)
        assert second.state == State.QUEUED
    media.transcript(box.config, first.id, done.result or "").unlink()
    box.delete(second.id)
    assert send(box).state == State.QUEUED


def test_a_repeat_by_key_of_a_reused_job_is_that_job(box: Box) -> None:
    send(box)
    finish(box)
    jobs = []
    for _ in range(2):
        with box.receive("talk.mp3", submitter="me", key="one") as receiving:
            receiving.write(b"sound")
            jobs.append(receiving.queue(DEMO))
    assert jobs[0] == jobs[1]
    assert jobs[0].state == State.COMPLETED


def test_a_job_deleted_meanwhile_is_told_so(box: Box) -> None:
    send(box)
    finish(box)
    with box.receive("talk.mp3", submitter="me") as receiving:
        assert isinstance(receiving, Receiving)
        receiving.write(b"sound")
        store.delete(box.database, receiving.job_id)
        with pytest.raises(StenoboxError, match="was deleted"):
            receiving.queue(DEMO)


def test_bytes_that_were_not_counted_match_nothing(box: Box) -> None:
    from tasks.jobs import Source

    assert reuse.complete(box.config, box.database, "0" * 32, Source("upload", "talk.mp3", 5), DEMO) is None


def test_a_damaged_transcript_is_not_copied(box: Box) -> None:
    twin = send(box)
    finish(box)
    twin = box.get(twin.id)
    media.transcript(box.config, twin.id, twin.result or "").write_bytes(b"\0" * 50)
    assert send(box).state == State.QUEUED
