"""What a worker does before it starts: one owner of the data folder, nothing left running, nothing left over."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from test_jobs import ROOMY, SOURCE, claim, queued

from tasks import media, recovery, scratch, store
from tasks.capacity import Request
from tasks.config import Config
from tasks.db import Database
from tasks.jobs import State, new_id
from tasks.recovery import AlreadyRunning, rescue, take_data_folder

TOKEN = "f" * 32


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "LOCK_SECONDS", 0.05)


def put(config: Config, job_id: str, *names: str) -> Path:
    folder = media.folder(config, job_id)
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def files(config: Config) -> set[str]:
    return {str(path.relative_to(config.media)) for path in config.media.rglob("*")}


@pytest.mark.parametrize("name", ["worker", "web"])
def test_a_data_folder_has_one_owner_of_each_kind(config: Config, database: Database, name: str) -> None:
    with (
        take_data_folder(config, name),
        pytest.raises(AlreadyRunning, match=f"Another stenobox {name} uses .*{config.data}.*STENOBOX_DATA"),
    ):
        take_data_folder(config, name)
    take_data_folder(config, name).close()


def test_worker_and_web_share_a_data_folder(config: Config, database: Database) -> None:
    with take_data_folder(config, "worker"), take_data_folder(config, "web"):
        assert {path.name for path in config.data.glob("*.lock")} == {"worker.lock", "web.lock", "migrate.lock"}


def test_a_worker_on_a_fresh_box_finds_its_folder_made(config: Config) -> None:
    take_data_folder(config, "worker").close()
    assert (config.data / "worker.lock").is_file()
    assert config.data.stat().st_mode & 0o777 == 0o700


def test_a_predecessor_on_its_way_out_is_waited_for(
    config: Config, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "LOCK_SECONDS", 60)
    predecessor = take_data_folder(config, "worker")
    left: list[bool] = []

    def leave() -> None:
        left.append(True)
        predecessor.close()

    leaving = threading.Timer(0.05, leave)
    leaving.start()
    take_data_folder(config, "worker").close()
    assert left
    leaving.join()


def test_a_dead_workers_jobs_are_back_in_line_and_canceled_ones_canceled(config: Config, database: Database) -> None:
    ids = [queued(database) for _ in range(3)]
    claim(database)
    claim(database)
    store.cancel(database, ids[0])
    rescue(config, database)
    states = [job.state for job_id in ids if (job := store.get(database, job_id))]
    assert sorted(states) == [State.CANCELED, State.QUEUED, State.QUEUED]
    assert store.load(database).running == 0


def test_folders_of_no_job_are_swept_and_those_of_jobs_stay(config: Config, database: Database) -> None:
    job_id = queued(database)
    arriving = store.admit(database, ROOMY, Request(), SOURCE, "web")
    put(config, job_id, "source", f"{TOKEN}.json")
    put(config, arriving, "source.part")
    put(config, new_id(), "source", "source.part")
    (config.media / "lost+found").mkdir()
    rescue(config, database)
    assert files(config) == {
        job_id,
        f"{job_id}/source",
        f"{job_id}/{TOKEN}.json",
        arriving,
        f"{arriving}/source.part",
        "lost+found",
    }


def test_decoded_sound_of_dead_attempts_is_removed(config: Config, database: Database) -> None:
    job_id = queued(database)
    folder = put(config, job_id, "source", f"{TOKEN}.f32")
    (folder / f"{TOKEN}.work").mkdir()
    (folder / f"{TOKEN}.work" / "peaks.json").touch()
    rescue(config, database)
    assert {path.name for path in folder.iterdir()} == {"source"}


def test_what_was_transcribed_stays_until_the_job_has_ended(config: Config, database: Database) -> None:
    done = queued(database)
    store.finish_if_owned(database, claim(database).token, f"{TOKEN}.json", 1.0, None)
    died = queued(database)
    claim(database)
    for job_id in (done, died):
        put(config, job_id, "source", "journal")
    rescue(config, database)
    assert {path.name for path in media.folder(config, done).iterdir()} == {"source"}
    assert {path.name for path in media.folder(config, died).iterdir()} == {"source", "journal"}


def test_a_transcript_that_no_row_names_is_removed_and_one_that_counts_stays(
    config: Config, database: Database
) -> None:
    done = queued(database)
    store.finish_if_owned(database, claim(database).token, f"{TOKEN}.json", 1.0, None)
    died = queued(database)
    claim(database)
    for job_id in (done, died):
        put(config, job_id, "source", f"{TOKEN}.json")
    put(config, queued(database), "source")
    rescue(config, database)
    assert {path.name for path in media.folder(config, done).iterdir()} == {"source", f"{TOKEN}.json"}
    assert {path.name for path in media.folder(config, died).iterdir()} == {"source"}


def test_a_clean_box_is_left_as_it_is(config: Config, database: Database) -> None:
    rescue(config, database)
    assert files(config) == set()
    assert store.ids(database) == set()


def test_folders_that_others_empty_meanwhile_are_no_matter(
    config: Config, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web process removes what it was receiving at the same time."""
    kept, going = queued(database), queued(database)
    for job_id in (kept, going):
        put(config, job_id, "source", "journal", f"{TOKEN}.f32")
    listed = media.os.listdir

    def and_remove(path: Path) -> list[str]:
        if Path(path).name == going:
            media.remove(config, going)
        return listed(path)

    monkeypatch.setattr(media.os, "listdir", and_remove)
    rescue(config, database)
    assert files(config) == {kept, f"{kept}/source", f"{kept}/journal"}


def test_what_a_killed_command_left_goes_and_what_one_works_in_stays(config: Config, database: Database) -> None:
    left = config.data / "tmpfm12y9v7"
    left.mkdir()
    (left / "sound.f32").write_bytes(b"x")
    mine = config.data / "tmpX"
    mine.mkdir()
    with scratch.Scratch(config, "a command") as working:
        (working / "sound.f32").write_bytes(b"x")
        scratch.sweep(config)
        assert (working / "sound.f32").exists()
    assert not left.exists()
    assert not working.exists()
    assert mine.exists()
