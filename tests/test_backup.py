"""Backup and restore: one file made while the box works, and a box that goes on from it."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support import wait_until
from web_support import TRANSCRIPT, put_every_state, put_job

from tasks import backup as backups
from tasks import media, recovery, store
from tasks.actions import Box
from tasks.backup import BackupError, backup, restore
from tasks.config import Config
from tasks.db import open_database
from tasks.decode import forms
from tasks.jobs import Job, JobKind, Params, State
from tasks.queue import Queue
from tasks.recovery import AlreadyRunning, rescue, take_data_folder
from tasks.sqlite import driver as sqlite


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", slots=3, queue_limit=1000)


@pytest.fixture
def empty(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "restored", slots=3, queue_limit=1000)


def names(file: Path) -> list[str]:
    with tarfile.open(file) as tar:
        return tar.getnames()


def test_a_restored_box_goes_on(box: Box, empty: Config, tmp_path: Path) -> None:
    states, file = put_every_state(box), tmp_path / "box.tar"
    made = backup(box.config, file)
    assert (made.jobs, made.recordings, made.transcripts, made.missing) == (6, 2, 1, 0)
    restored = restore(empty, file)
    assert (restored.jobs, restored.recordings, restored.transcripts) == (6, 2, 1)
    database = open_database(empty)
    try:
        rescue(empty, database)
        new = Box(empty, database, Queue(empty.queue_db))
        store.drop_receiving_of_others(database, new.receiver)
        found = {job.id: job.state for job in store.list_jobs(database, None, 100)}
        wanted = {job.id: state for state, job in states.items() if state != State.RECEIVING}
        assert found == wanted | {states[State.RUNNING].id: State.QUEUED}
        assert new.transcript(new.get(states[State.COMPLETED].id)) == TRANSCRIPT
        for state in (State.QUEUED, State.RUNNING):
            assert media.source(empty, states[state].id).read_bytes() == b"sound"
        assert not (empty.data / "restore.part").exists()
        new.queue.close()
    finally:
        database.close()


def test_recordings_of_finished_jobs_come_when_asked_for(box: Box, empty: Config, tmp_path: Path) -> None:
    job, file = put_job(box, State.COMPLETED), tmp_path / "box.tar"
    assert backup(box.config, file).recordings == 0
    assert backup(box.config, file, recordings=True).recordings == 1
    restore(empty, file)
    assert media.source(empty, job.id).read_bytes() == b"sound"


def test_a_backup_is_whole_while_the_box_works(box: Box, empty: Config, tmp_path: Path) -> None:
    """Every job that was acknowledged before it began is in it, with its recording; nothing is refused meanwhile."""
    stop, accepted, failed = threading.Event(), list[str](), list[BaseException]()

    def work() -> None:
        try:
            for number in itertools.count():
                if stop.is_set():
                    return
                with box.receive("talk.mp3") as receiving:
                    receiving.write(b"x" * 10_000)
                    accepted.append(job_id := receiving.queue(Params("demo")).id)
                if number % 3 == 2:
                    box.delete(job_id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(accepted) > 10 or failed)
        for number in range(3):
            before = {job.id for job in store.list_active(box.database) if job.state == State.QUEUED}
            backup(box.config, tmp_path / f"{number}.tar")
            kept = before & store.ids(box.database)  # no worker runs: what is still there has waited all along
            assert {f"media/{job_id}/source" for job_id in kept} <= set(names(tmp_path / f"{number}.tar"))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failed == []
    restored = restore(empty, tmp_path / "2.tar")
    assert restored.jobs > 5


def test_what_was_removed_meanwhile_is_left_out_and_counted(box: Box, tmp_path: Path) -> None:
    job = put_job(box, State.COMPLETED)
    media.transcript(box.config, job.id, job.result or "").unlink()
    made = backup(box.config, tmp_path / "box.tar")
    assert (made.transcripts, made.missing) == (0, 1)
    assert "1 files that were not there" in str(made)


def test_a_backup_replaces_the_last_one_only_when_it_is_whole(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "box.tar"
    file.write_bytes(b"the last one")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups.os, "fsync", full)
    with pytest.raises(BackupError, match="No space left on device"):
        backup(box.config, file)
    assert file.read_bytes() == b"the last one"
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["box.tar"]


def test_there_must_be_a_box(empty: Config, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="There is no box in"):
        backup(empty, tmp_path / "box.tar")


def test_a_damaged_database_is_not_backed_up_in_silence(box: Box, tmp_path: Path) -> None:
    box.config.jobs_db.write_bytes(b"not a database" * 100)
    with pytest.raises(BackupError, match="doctor"):
        backup(box.config, tmp_path / "box.tar")
    assert not (tmp_path / "box.tar").exists()


def test_nothing_is_restored_over_a_box(box: Box, tmp_path: Path) -> None:
    put_job(box, State.QUEUED)
    backup(box.config, tmp_path / "box.tar")
    before = box.config.jobs_db.read_bytes()
    with pytest.raises(BackupError, match="already, and a backup replaces nothing"):
        restore(box.config, tmp_path / "box.tar")
    assert box.config.jobs_db.read_bytes() == before


@pytest.mark.parametrize("name", ["web", "worker"])
def test_nothing_is_restored_under_a_running_box(
    box: Box, empty: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(recovery, "LOCK_SECONDS", 0.0)
    backup(box.config, tmp_path / "box.tar")
    with take_data_folder(empty, name), pytest.raises(AlreadyRunning):
        restore(empty, tmp_path / "box.tar")


def rewrite(source: Path, target: Path, change: Any) -> None:
    """The same backup with other members: change(name, bytes) gives the new list of (name, bytes)."""
    with tarfile.open(source) as tar, tarfile.open(target, "w") as out:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            for name, data in change(member.name, content.read()):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))


def newer(name: str, data: bytes) -> list[tuple[str, bytes]]:
    return [(name, json.dumps(json.loads(data) | {"schema": "9999"}).encode() if name == "manifest.json" else data)]


def damaged(name: str, data: bytes) -> list[tuple[str, bytes]]:
    return [(name, data[:4096] + b"\xff" * (len(data) - 4096) if name == "jobs.db" else data)]


CHANGES: dict[str, tuple[Any, str]] = {
    "cut": (lambda name, data: [] if name == "manifest.json" else [(name, data)], "its end is missing"),
    "a file is missing": (lambda name, data: [] if name.endswith("/source") else [(name, data)], "its end is missing"),
    "a way out": (lambda name, data: [("media/../../x", data), (name, data)], "no backup of Stenobox"),
    "another name": (lambda name, data: [("media/" + "0" * 32 + "/x.sh", data), (name, data)], "no backup of Stenobox"),
    "newer": (newer, "newer Stenobox"),
    "damaged": (damaged, "damaged|can't be read"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(
    box: Box, empty: Config, tmp_path: Path, case: str
) -> None:
    put_job(box, State.QUEUED)
    backup(box.config, tmp_path / "box.tar")
    change, words = CHANGES[case]
    rewrite(tmp_path / "box.tar", tmp_path / "other.tar", change)
    with pytest.raises(BackupError, match=words):
        restore(empty, tmp_path / "other.tar")
    assert not empty.jobs_db.exists()
    assert list(empty.media.iterdir()) == []
    assert not (empty.data / "restore.part").exists()
    restore(empty, tmp_path / "box.tar")


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 1000])
def test_another_file_is_no_backup(empty: Config, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "box.tar").write_bytes(data)
    with pytest.raises(BackupError, match=r"box\.tar"):
        restore(empty, tmp_path / "box.tar")
    with pytest.raises(BackupError, match="No such file"):
        restore(empty, tmp_path / "none.tar")


def test_an_older_versions_backup_is_upgraded(box: Box, empty: Config, tmp_path: Path) -> None:
    """The tables of before, as their migration made them."""
    from alembic import command
    from alembic.config import Config as Alembic

    old = Config(data=tmp_path / "old")
    open_database(old).close()
    old.jobs_db.unlink()
    alembic = Alembic()
    alembic.set_main_option("script_location", "tasks:migrations")
    engine = sa.create_engine(f"sqlite:///{old.jobs_db}", module=sqlite)
    with engine.begin() as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "0001")
    engine.dispose()
    backup(old, tmp_path / "box.tar")
    assert restore(empty, tmp_path / "box.tar").jobs == 0
    open_database(empty).close()


MADE = {JobKind.TRANSCRIPTION: "json", JobKind.EXTRACTION: "mp3"}
"""How the file ends that a job of this kind makes; a download's is the recording itself."""


def put_kind(box: Box, kind: JobKind, *, finished: bool) -> Job:
    """A job of this kind that waits, or has ended well with what it has made."""
    with box.receive("talk.mp3", warm=False) as receiving:
        receiving.write(b"sound")
        job = receiving.queue(Params("demo", kind=kind, format="mp3" if kind == JobKind.EXTRACTION else None))
    if not finished:
        return job
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600, light=kind.light)
    assert attempt is not None
    result = f"{attempt.token}.{MADE[kind]}" if kind in MADE else "source"
    if kind in MADE:
        media.write_durably(media.result(box.config, job.id, result), b"{}")
    store.finish_if_owned(box.database, attempt.token, result, 2.5, None, work=1.0)
    return box.get(job.id)


def test_names_of_results_are_those_that_jobs_give() -> None:
    assert set(media.FORMS) == {"json", *forms.FORMS}


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "waiting"])
@pytest.mark.parametrize("recordings", [True, False], ids=["recordings", "none"])
def test_every_kind_of_job_comes_back(
    box: Box, empty: Config, tmp_path: Path, kind: JobKind, finished: bool, recordings: bool
) -> None:
    job, file = put_kind(box, kind, finished=finished), tmp_path / "box.tar"
    made = backup(box.config, file, recordings=recordings)
    assert made.missing == 0
    assert len(names(file)) == len(set(names(file)))
    restored = restore(empty, file)
    assert (restored.jobs, restored.recordings, restored.transcripts) == (1, made.recordings, made.transcripts)
    if recordings or not finished or kind == JobKind.DOWNLOAD:
        assert media.source(empty, job.id).read_bytes() == b"sound"
    if finished:
        assert job.result is not None
        kept = media.result(empty, job.id, job.result).read_bytes()
        assert kept == media.result(box.config, job.id, job.result).read_bytes()


def test_one_of_an_earlier_version_that_holds_a_file_twice_comes_back(box: Box, empty: Config, tmp_path: Path) -> None:
    job = put_kind(box, JobKind.DOWNLOAD, finished=True)
    backup(box.config, tmp_path / "box.tar")
    rewrite(
        tmp_path / "box.tar",
        tmp_path / "old.tar",
        lambda name, data: [(name, data)] * (2 if name.endswith("/source") else 1),
    )
    restore(empty, tmp_path / "old.tar")
    assert media.source(empty, job.id).read_bytes() == b"sound"


@pytest.mark.parametrize("manifest", [b"{", b"[]", b'{"files": {}}', b'{"files": 1, "format": "x"}'])
def test_a_manifest_that_says_nothing_is_a_sentence(box: Box, empty: Config, tmp_path: Path, manifest: bytes) -> None:
    backup(box.config, tmp_path / "box.tar")
    rewrite(
        tmp_path / "box.tar",
        tmp_path / "other.tar",
        lambda name, data: [(name, manifest if name == "manifest.json" else data)],
    )
    with pytest.raises(BackupError, match="is not whole"):
        restore(empty, tmp_path / "other.tar")
