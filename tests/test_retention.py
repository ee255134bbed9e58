"""Finished jobs go when they are old enough; nothing else does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from web_support import LOST, put_every_state, put_job

from tasks import media, retention, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import jobs
from tasks.errors import StenoboxError
from tasks.jobs import Params, State
from tasks.retention import DAY, remove_old, remove_old_media, sweep, tidy


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


def test_old_recordings_go_and_transcripts_stay(box: Box) -> None:
    states = put_every_state(box)
    age(box, 3)
    assert remove_old_media(box.config, box.database, 2) == 3
    assert remove_old_media(box.config, box.database, 2) == 0, "once"
    for state, job in states.items():
        there = media.source(box.config, job.id).exists()
        assert there == (state in (State.RUNNING, State.QUEUED)), state
    completed = box.get(states[State.COMPLETED].id)
    assert box.transcript(completed)["text"] == "yes no"
    assert completed.media_removed_at is not None


def test_a_job_without_its_recording_is_not_tried_again(box: Box) -> None:
    job = put_job(box, State.FAILED)
    age(box, 3)
    remove_old_media(box.config, box.database, 1)
    with pytest.raises(StenoboxError, match="no longer on this box"):
        box.retry(job.id)
    assert box.get(job.id).state == State.FAILED


def test_a_young_recording_and_one_without_a_time_stay(box: Box) -> None:
    job = put_job(box, State.COMPLETED)
    age(box, 0.9)
    assert remove_old_media(box.config, box.database, 1) == 0
    assert remove_old_media(box.config, box.database, 0) == 0
    assert media.source(box.config, job.id).exists()


def test_a_recording_whose_removal_was_interrupted_goes_with_the_next_sweep(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put_job(box, State.COMPLETED)
    age(box, 3)
    store.note_media_removed_before(box.database, time.time(), 10)  # and then the power went
    assert media.source(box.config, job.id).exists()
    assert sweep(box.config, box.database) == 1
    assert not media.source(box.config, job.id).exists()
    assert sweep(box.config, box.database) == 0


def old(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left")
    os.utime(path, (0, 0))
    return path


def test_what_belongs_to_nobody_is_swept_and_nothing_else(box: Box) -> None:
    states = put_every_state(box)
    completed, running = states[State.COMPLETED], states[State.RUNNING]
    orphan = old(media.source(box.config, LOST))
    left = [old(media.folder(box.config, completed.id) / f"{LOST}{end}") for end in (".json", ".json.part", ".f32")]
    kept = [
        old(media.folder(box.config, running.id) / f"{LOST}.f32"),  # somebody works with it
        old(media.folder(box.config, completed.id) / "notes.txt"),  # not a name of ours
        media.transcript(box.config, completed.id, completed.result or ""),
        *(media.source(box.config, states[state].id) for state in State if state != State.RECEIVING),
    ]
    young = media.folder(box.config, completed.id) / "fresh.part"
    young.write_bytes(b"somebody writes it")
    assert sweep(box.config, box.database) == 4
    assert not orphan.parent.exists()
    assert [path for path in left if path.exists()] == []
    assert [path for path in [*kept, young] if not path.exists()] == []


def test_a_sweep_beside_uploads_takes_nothing_of_theirs(box: Box) -> None:
    stop, failed = threading.Event(), list[BaseException]()

    def upload() -> None:
        try:
            while not stop.is_set():
                with box.receive("talk.mp3") as receiving:
                    receiving.write(b"sound")
                    job = receiving.queue(Params("demo"))
                assert media.source(box.config, job.id).exists()
                box.delete(job.id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=upload) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        sweep(box.config, box.database)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert media.stray(box.config) == set()


def test_all_that_is_due_is_done_at_once(box: Box) -> None:
    put_job(box, State.COMPLETED)
    kept = put_job(box, State.FAILED)
    age(box, 3)
    orphan = old(media.source(box.config, LOST))
    tidy(box.config, box.database, msgspec.structs.replace(box.limits(), keep_media_days=1))
    assert len(store.ids(box.database)) == 2
    assert not orphan.exists()
    assert not media.source(box.config, kept.id).exists()
    tidy(box.config, box.database, msgspec.structs.replace(box.limits(), keep_days=1))
    assert store.ids(box.database) == set()


def test_one_file_that_can_not_be_removed_keeps_nothing_else(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An immutable file, a disk that turned read-only for one folder."""
    held, other = put_job(box, State.COMPLETED, "a.mp3"), put_job(box, State.COMPLETED, "b.mp3")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if held.id in str(path):
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    age(box, 8)
    tidy(box.config, box.database, msgspec.structs.replace(box.limits(), keep_media_days=7))
    assert media.source(box.config, held.id).exists()
    assert not media.source(box.config, other.id).exists()
    assert "leaves something" not in caplog.text


@pytest.mark.parametrize("step", ["remove_old", "remove_old_media", "sweep"])
def test_a_step_that_fails_keeps_no_other_from_being_done(box: Box, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    done: list[str] = []

    def note(name: str) -> None:
        done.append(name)
        if name == step:
            raise ValueError("a row from elsewhere")

    for name in ("remove_old", "remove_old_media", "sweep"):
        monkeypatch.setattr(retention, name, lambda *_, name=name: note(name))
    tidy(box.config, box.database, box.limits())
    assert done == ["remove_old", "remove_old_media", "sweep"]


def test_a_folder_that_goes_while_it_is_looked_at_is_no_matter(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    job = put_job(box, State.COMPLETED)
    listed = retention.media.os.listdir

    def gone(path: Path) -> list[str]:
        if Path(path).name == job.id:
            media.remove(box.config, job.id)
        return listed(path)

    monkeypatch.setattr(retention.media.os, "listdir", gone)
    assert sweep(box.config, box.database) == 0
