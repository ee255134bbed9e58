"""What people and programs can do to a box: take it in, stop it, try again, remove it, read it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import change_limit, wait_until
from test_jobs import claim, job_in, queued, row

from tasks import actions, media, models, store
from tasks.actions import Box
from tasks.capacity import Limits, Load
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import Params, Source, State, new_id
from tasks.models import LANGUAGES

DEMO = Params("demo")
UNKNOWN = "0" * 32


def messages(box: Box) -> list[list[str]]:
    """What is in the queue: [task, job id]."""
    return [json.loads(bytes(data)) for data in box.queue.huey.storage.enqueued_items()]


def files(box: Box) -> set[str]:
    return {str(path.relative_to(box.config.media)) for path in box.config.media.rglob("*") if path.is_file()}


def refusal_of(act: Callable[[], Any]) -> StenoboxError:
    with pytest.raises(StenoboxError) as refusal:
        act()
    return refusal.value


def submit(box: Box, name: str = "talk.wav", data: bytes = b"RIFF", params: Params = DEMO) -> str:
    with box.receive(name) as receiving:
        receiving.write(data)
        return receiving.queue(params).id


# Taking a recording in


def test_a_received_recording_is_queued_and_the_worker_woken(box: Box) -> None:
    with box.receive("talk.wav", 8, submitter="me") as receiving:
        assert store.load(box.database) == Load(receiving=1, announced=8)
        receiving.write(b"RIFF")
        receiving.write(bytearray(b"WAVE"))
        job = receiving.queue(Params("demo", "de"))
    assert (job.state, job.source, job.params) == (
        State.QUEUED,
        Source("upload", "talk.wav", 8, sha256=hashlib.sha256(b"RIFFWAVE").hexdigest()),
        Params("demo", "de"),
    )
    assert media.source(box.config, job.id).read_bytes() == b"RIFFWAVE"
    assert files(box) == {f"{job.id}/source"}
    assert messages(box) == [["warm_engine", job.id], ["run_job", job.id]]
    assert box.get(job.id).queue_position == 1


def test_the_size_that_counts_is_that_of_the_bytes_and_the_name_may_come_last(box: Box) -> None:
    with box.receive("upload", 999, submitter="me") as receiving:
        receiving.write(b"x")
        job = receiving.queue(DEMO, "C:\\fakepath\\late.mp3")
    assert job.source == Source("upload", "late.mp3", 1, sha256=hashlib.sha256(b"x").hexdigest())


def test_a_box_receives_under_its_own_name(box: Box) -> None:
    with box.receive("a.wav") as receiving:
        assert row(box.database, receiving.job_id)["receiver"] == box.receiver
        assert store.drop_receiving_of_others(box.database, box.receiver) == []


def leave(box: Box) -> None:
    with box.receive("talk.wav") as receiving:
        receiving.write(b"half")


def break_off(box: Box) -> None:
    with box.receive("talk.wav") as receiving:
        receiving.write(b"half")
        raise ConnectionResetError


def send_nothing(box: Box) -> None:
    with box.receive("talk.wav") as receiving:
        receiving.queue(DEMO)


def send_too_much(box: Box) -> None:
    with box.receive("talk.wav") as receiving:
        receiving.write(b"x" * 90)
        receiving.write(b"x" * 11)


def send_too_much_at_once(box: Box) -> None:
    with box.receive("talk.wav") as receiving:
        receiving.write(b"x" * 101)


@pytest.mark.parametrize(
    ("upload", "error", "code"),
    [
        (leave, None, None),
        (break_off, ConnectionResetError, None),
        (send_nothing, StenoboxError, "empty_file"),
        (send_too_much, StenoboxError, "too_large"),
        (send_too_much_at_once, StenoboxError, "too_large"),
    ],
)
def test_an_upload_that_comes_to_nothing_gives_its_place_back(
    box: Box, upload: Callable[[Box], None], error: type[Exception] | None, code: str | None
) -> None:
    change_limit(box.database, "max_bytes", 100)
    if error is None:
        upload(box)
    else:
        with pytest.raises(error) as raised:
            upload(box)
        assert getattr(raised.value, "code", None) == code
    assert store.load(box.database) == Load()
    assert store.ids(box.database) == set()
    assert list(box.config.media.iterdir()) == []


def test_exactly_the_largest_size_is_taken(box: Box) -> None:
    change_limit(box.database, "max_bytes", 100)
    assert box.get(submit(box, data=b"x" * 100)).source.bytes == 100


def test_a_disk_that_takes_no_folder_gives_the_place_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    assert refusal_of(lambda: submit(box)).code == "disk_full"
    assert store.ids(box.database) == set()
    assert messages(box) == []


def test_a_disk_that_fills_up_at_the_end_is_said_and_gives_the_place_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def upload() -> None:
        with box.receive("talk.wav") as receiving:
            receiving.write(b"all")
            monkeypatch.setattr(os, "fsync", full)
            receiving.queue(DEMO)

    assert refusal_of(upload).code == "disk_full"
    assert store.ids(box.database) == set()
    assert list(box.config.media.iterdir()) == []


def test_a_recording_whose_job_was_deleted_while_it_arrived_is_not_found_and_leaves_nothing(box: Box) -> None:
    def upload() -> None:
        with box.receive("talk.wav") as receiving:
            receiving.write(b"half")
            box.delete(receiving.job_id)
            receiving.write(b"rest")
            receiving.queue(DEMO)

    assert refusal_of(upload).code == "not_found"
    assert store.ids(box.database) == set()
    assert list(box.config.media.iterdir()) == []


def test_a_row_that_vanished_at_the_last_moment_is_not_found(box: Box) -> None:
    def upload() -> None:
        with box.receive("talk.wav") as receiving:
            receiving.write(b"all")
            store.delete(box.database, receiving.job_id)
            receiving.queue(DEMO)

    assert refusal_of(upload).code == "not_found"
    assert list(box.config.media.iterdir()) == []


def test_a_full_box_refuses_before_and_while_taking_a_place(box: Box) -> None:
    ids = {submit(box) for _ in range(3)}
    early, late = refusal_of(lambda: box.lookout.check(None)), refusal_of(lambda: submit(box))
    assert (early.code, late.code) == ("queue_full", "queue_full")
    assert early.retry_after is not None
    assert late.retry_after == 2 * early.retry_after  # of a place of its own
    assert store.ids(box.database) == ids
    assert {path.name for path in box.config.media.iterdir()} == ids


@pytest.mark.parametrize(("size", "code"), [(None, None), (100, None), (101, "too_large")])
def test_an_announced_size_is_checked_before_a_byte_is_read(box: Box, size: int | None, code: str | None) -> None:
    change_limit(box.database, "max_bytes", 100)
    if code is None:
        box.lookout.check(size)
        return
    assert refusal_of(lambda: box.lookout.check(size)).code == code
    assert refusal_of(lambda: box.receive("a.wav", size).__enter__()).code == code
    assert store.ids(box.database) == set()


def test_the_limits_are_the_operators_until_a_person_changes_them(box: Box) -> None:
    assert box.limits() == Limits(1, 2, box.config.max_bytes, box.config.max_seconds)
    change_limit(box.database, "queue_limit", 0)
    assert box.limits().queue_limit == 0
    submit(box)
    assert refusal_of(lambda: submit(box)).code == "queue_full"


def test_the_sample_is_submitted_like_any_recording(box: Box) -> None:
    job = box.submit_sample()
    assert (job.source.type, job.source.name) == ("sample", "Sample recording.flac")
    assert job.params == DEMO
    assert media.source(box.config, job.id).read_bytes() == models.SAMPLE.read_bytes()


def test_a_sample_with_a_wrong_model_takes_no_place(box: Box) -> None:
    assert refusal_of(lambda: box.submit_sample("huge")).code == "unknown_model"
    assert store.ids(box.database) == set()


# What was asked for


@pytest.mark.parametrize(
    ("model", "language", "params"),
    [
        (None, None, Params("demo")),
        ("", "", Params("demo")),
        ("demo", "en", Params("demo", "en")),
        (None, "DE", Params("demo", "de")),
        (None, " german ", Params("demo", "de")),
        (None, "auto", Params("demo")),
        (None, " AUTO ", Params("demo")),
        ("tiny", "haitian creole", Params("tiny", "ht")),
        ("large-v3", "yue", Params("large-v3", "yue")),
        ("tiny.en", None, Params("tiny.en")),
        ("tiny.en", "English", Params("tiny.en", "en")),
    ],
)
def test_good_parameters_are_taken_by_code_or_name(
    box: Box, model: str | None, language: str | None, params: Params
) -> None:
    assert box.params(model, language) == params


@pytest.mark.parametrize(
    ("model", "language", "code", "param"),
    [
        ("huge", None, "unknown_model", "model"),
        ("TINY", None, "unknown_model", "model"),
        ("Systran/faster-whisper-tiny", None, "unknown_model", "model"),
        ("../../etc", None, "unknown_model", "model"),
        ("/data/models/mine", None, "unknown_model", "model"),
        ("tiny\x00", None, "unknown_model", "model"),
        (".", None, "unknown_model", "model"),
        ("tiny.partial", None, "unknown_model", "model"),
        ("x" * 5000, None, "unknown_model", "model"),
        (None, "xx", "unknown_language", "language"),
        (None, " ", "unknown_language", "language"),
        (None, "e" * 5000, "unknown_language", "language"),
        (None, "<script>", "unknown_language", "language"),
        ("demo", "fr", "unknown_language", "language"),
        ("tiny.en", "de", "unknown_language", "language"),
        ("small", "yue", "unknown_language", "language"),
        ("huge", "xx", "unknown_model", "model"),
    ],
)
def test_wrong_parameters_are_refused_with_the_field_and_a_short_sentence(
    box: Box, model: str | None, language: str | None, code: str, param: str
) -> None:
    refusal = refusal_of(lambda: box.params(model, language))
    assert (refusal.code, refusal.param) == (code, param)
    assert len(refusal.message) < 400
    assert refusal.message.endswith(".")


def test_a_language_that_the_model_lacks_is_told_with_those_it_has(box: Box) -> None:
    message = refusal_of(lambda: box.params("demo", "fr")).message
    assert message == "The model demo does not know French. It knows English, German. Choose another model."


def test_the_operators_model_is_the_default_and_may_be_their_own(box: Box, config: Config) -> None:
    folder = config.models / "mine"
    folder.mkdir()
    assert refusal_of(lambda: box.params("mine", None)).code == "unknown_model"
    for name in ("model.bin", "config.json"):
        (folder / name).touch()
    own = Box(Config(data=config.data, model="mine"), box.database, box.queue)
    assert own.params(None, "fr") == Params("mine", "fr")
    assert "fr" in LANGUAGES


def test_a_hostile_name_is_data_and_never_a_path(box: Box) -> None:
    job = box.get(submit(box, "../../<b>" + "x" * 300 + "\x00.mp3"))
    assert job.source.name == "<b>" + "x" * 247 + "….mp3"
    assert files(box) == {f"{job.id}/source"}


# One job


@pytest.mark.parametrize("job_id", [UNKNOWN, "", "..", "../" + "0" * 29, UNKNOWN.upper() + "A", "x" * 32, "1" * 5000])
@pytest.mark.parametrize("act", ["get", "cancel", "retry", "delete"])
def test_an_unknown_or_malformed_id_is_not_found(box: Box, act: str, job_id: str) -> None:
    refusal = refusal_of(lambda: getattr(box, act)(job_id))
    assert (refusal.code, refusal.message) == ("not_found", "There is no such job. It may have been deleted.")


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.RECEIVING, "wrong_state"),
        (State.QUEUED, State.CANCELED),
        (State.RUNNING, State.RUNNING),
        (State.COMPLETED, "wrong_state"),
        (State.FAILED, "wrong_state"),
        (State.CANCELED, "wrong_state"),
    ],
)
def test_what_waits_or_runs_can_be_canceled(box: Box, state: State, after: str) -> None:
    job_id, _ = job_in(box.database, state)
    if after == "wrong_state":
        refusal = refusal_of(lambda: box.cancel(job_id))
        assert (refusal.code, refusal.message) == ("wrong_state", f"This job is {state} and can't be canceled.")
        return
    job = box.cancel(job_id)
    assert job.state == after
    assert job.cancel_requested == (state is State.RUNNING)


@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
@pytest.mark.parametrize("state", State)
def test_only_what_failed_or_was_canceled_can_be_tried_again_and_needs_a_place(
    box: Box, state: State, full: bool
) -> None:
    job_id, _ = job_in(box.database, state)
    if full:
        change_limit(box.database, "queue_limit", 0)
        queued(box.database)
    if state not in (State.FAILED, State.CANCELED):
        refusal = refusal_of(lambda: box.retry(job_id))
        assert (refusal.code, refusal.message) == ("wrong_state", f"This job is {state} and can't be tried again.")
    elif full:
        assert refusal_of(lambda: box.retry(job_id)).code == "queue_full"
        assert box.get(job_id).state is state
    else:
        job = box.retry(job_id)
        assert (job.state, job.params, job.error) == (State.QUEUED, DEMO, None)
        assert messages(box) == [["run_job", job_id]]


@pytest.mark.parametrize("act", ["cancel", "retry", "delete"])
def test_a_job_that_vanishes_in_between_is_not_found(box: Box, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, _ = job_in(box.database, State.COMPLETED)
    store_act = getattr(store, act)

    def late(*arguments: Any, **options: Any) -> Any:
        with box.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM jobs")
        return store_act(*arguments, **options)

    monkeypatch.setattr(store, act, late)
    assert refusal_of(lambda: getattr(box, act)(job_id)).code == "not_found"


@pytest.mark.parametrize("state", State)
def test_a_job_is_deleted_with_its_files_in_any_state(box: Box, state: State) -> None:
    job_id, _ = job_in(box.database, state)
    other = new_id()
    for name in (job_id, other):
        media.folder(box.config, name).mkdir()
        media.source(box.config, name).write_bytes(b"x")
    box.delete(job_id)
    assert files(box) == {f"{other}/source"}
    assert refusal_of(lambda: box.get(job_id)).code == "not_found"
    assert refusal_of(lambda: box.delete(job_id)).code == "not_found"


# Transcripts

SAID = {"language": "en", "seconds": 1.0, "text": "Hi.", "segments": []}


def completed(box: Box) -> str:
    job_id = submit(box)
    attempt = claim(box.database)
    path = media.transcript(box.config, job_id, f"{attempt.token}.json")
    media.write_durably(path, json.dumps(SAID).encode())
    assert store.finish_if_owned(box.database, attempt.token, path.name, 1.0, None)
    return job_id


def test_a_completed_job_has_its_transcript(box: Box) -> None:
    assert box.transcript(box.get(completed(box))) == SAID


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.RECEIVING, "This job has not finished yet. Ask again when its state is completed."),
        (State.QUEUED, "This job has not finished yet. Ask again when its state is completed."),
        (State.RUNNING, "This job has not finished yet. Ask again when its state is completed."),
        (State.FAILED, "This job failed, so it has no transcript. Its error says why."),
        (State.CANCELED, "This job was canceled, so it has no transcript. Try it again to get one."),
    ],
)
def test_any_other_job_says_why_it_has_none(box: Box, state: State, sentence: str) -> None:
    job_id, _ = job_in(box.database, state)
    refusal = refusal_of(lambda: box.transcript(box.get(job_id)))
    assert (refusal.code, refusal.message) == ("not_finished", sentence)


def test_a_transcript_that_vanished_is_not_found(box: Box) -> None:
    job = box.get(completed(box))
    media.transcript(box.config, job.id, job.result or "").unlink()
    refusal = refusal_of(lambda: box.transcript(job))
    assert (refusal.code, refusal.message) == ("not_found", "The transcript was deleted.")


def test_a_place_that_a_busy_database_kept_is_given_back_with_the_next_upload(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StenoboxError("database_busy", "busy")

    with monkeypatch.context() as patch:
        patch.setattr(store, "drop_if_receiving", busy)
        with pytest.raises(ZeroDivisionError), box.receive("talk.mp3") as broken:
            raise ZeroDivisionError
    assert store.get(box.database, broken.job_id)
    with box.receive("next.mp3"):
        assert store.get(box.database, broken.job_id) is None
        assert not media.folder(box.config, broken.job_id).exists()


def test_a_place_that_a_busy_database_kept_is_given_back_without_another_upload(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box that this place fills would let nobody in whose upload could give it back."""
    real, calls = store.drop_if_receiving, []

    def full(*arguments: Any) -> None:
        calls.append(media.folder(box.config, arguments[1]).exists())
        if len(calls) == 1:
            raise StenoboxError("disk_full", "full")
        real(*arguments)

    monkeypatch.setattr(store, "drop_if_receiving", full)
    monkeypatch.setattr(actions, "GIVE_BACK_SECONDS", 0.02)
    with pytest.raises(ZeroDivisionError), box.receive("talk.mp3"):
        raise ZeroDivisionError
    wait_until(lambda: store.load(box.database).active == 0, 10)
    assert calls == [False, False]  # the disk has its room back before anything is written


def test_a_job_can_be_canceled_while_the_disk_is_read_only(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with box.receive("talk.mp3") as receiving:
        receiving.write(b"sound")
        job = receiving.queue(Params("demo"))
    media.journal(box.config, job.id).write_bytes(b"x")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert box.cancel(job.id).state == State.CANCELED
