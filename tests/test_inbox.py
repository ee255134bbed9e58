"""A watched folder: what is put there is transcribed once, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from support import SAMPLES, TRUTH, change_limit, serve, wait_until
from web_support import TRANSCRIPT

from tasks import inbox as module
from tasks import media, store
from tasks.actions import Box
from tasks.config import ConfigError, from_env
from tasks.inbox import SETTLE_SECONDS, Inbox
from tasks.jobs import Job, State
from tasks.transcripts import as_json


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def put(folder: Path, name: str = "talk.mp3", data: bytes = b"sound") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def settle(inbox: Inbox, clock: Clock) -> None:
    inbox.look()
    clock.now += SETTLE_SECONDS
    inbox.look()


def jobs(box: Box) -> list[Job]:
    return store.list_jobs(box.database, None, 100)


def complete(box: Box) -> Job:
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    result = f"{attempt.token}.json"
    media.write_durably(media.transcript(box.config, attempt.job.id, result), as_json(TRANSCRIPT).encode())
    job = store.finish_if_owned(box.database, attempt.token, result, 2.5, None, 1.0)
    assert job is not None
    return job


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_file_that_stands_still_becomes_a_job_and_its_words_are_laid_beside_it(
    box: Box, folder: Path, clock: Clock
) -> None:
    inbox = Inbox(box, folder)
    put(folder)
    inbox.look()
    assert jobs(box) == []
    clock.now += SETTLE_SECONDS
    inbox.look()
    (job,) = jobs(box)
    assert (job.state, job.source.type, job.source.name, job.submitter) == (
        State.QUEUED,
        "inbox",
        "talk.mp3",
        "inbox",
    )
    assert media.source(box.config, job.id).read_bytes() == b"sound"
    assert files(folder) == {"working/talk.mp3"}
    complete(box)
    inbox.look()
    assert files(folder) == {"done/talk.mp3", "done/talk.mp3.txt", "done/talk.mp3.json"}
    assert (folder / "done" / "talk.mp3.txt").read_text() == "yes no\n"
    assert len(jobs(box)) == 1


def test_one_that_grows_is_waited_for(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    path = put(folder)
    for _ in range(3):
        inbox.look()
        clock.now += SETTLE_SECONDS - 1
        path.write_bytes(path.read_bytes() + b"more")
    inbox.look()
    assert jobs(box) == []
    assert files(folder) == {"talk.mp3"}


@pytest.mark.parametrize("name", [".hidden.mp3", "talk.mp3.part", "talk.MP3.CRDOWNLOAD", "talk.mp3~", "x.tmp"])
def test_names_of_what_is_still_being_written_are_left(box: Box, folder: Path, clock: Clock, name: str) -> None:
    put(folder, name)
    settle(Inbox(box, folder), clock)
    assert (jobs(box), files(folder)) == ([], {name})


def test_links_and_folders_are_left(box: Box, folder: Path, clock: Clock, tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.mp3")
    (folder / "link.mp3").symlink_to(secret)
    (folder / "deep").mkdir()
    put(folder / "deep")
    os.mkfifo(folder / "pipe.mp3")
    settle(Inbox(box, folder), clock)
    assert jobs(box) == []
    assert {path.name for path in folder.iterdir()} >= {"link.mp3", "deep", "pipe.mp3"}


def test_a_link_that_takes_a_file_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(put(tmp_path, "secret"))
    with pytest.raises(OSError, match="symbolic links"):
        module._open(tmp_path / "link")


def test_it_waits_for_room_as_it_is_told(box: Box, folder: Path, clock: Clock) -> None:
    change_limit(box.database, "queue_limit", 0)
    inbox = Inbox(box, folder)
    put(folder, "a.mp3", b"first")
    put(folder, "b.mp3", b"second")
    settle(inbox, clock)
    assert len(jobs(box)) == 1
    complete(box)
    inbox.look()  # not before it was told to come back
    assert len(jobs(box)) == 1
    clock.now += 3600
    inbox.look()
    assert {job.source.name for job in jobs(box)} == {"a.mp3", "b.mp3"}


@pytest.mark.parametrize("end", ["empty", "failed", "canceled", "deleted", "transcript gone"])
def test_what_goes_wrong_is_said_beside_it(box: Box, folder: Path, clock: Clock, end: str) -> None:
    inbox = Inbox(box, folder)
    put(folder, data=b"" if end == "empty" else b"sound")
    settle(inbox, clock)
    said = {
        "empty": "The file is empty",
        "failed": "No sound in it",
        "canceled": "canceled",
        "deleted": "deleted",
        "transcript gone": "transcript was deleted",
    }[end]
    if end != "empty":
        (job,) = jobs(box)
    if end == "failed":
        attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
        assert attempt is not None
        store.fail_if_owned(box.database, attempt.token, "no_audio", "No sound in it.")
    elif end == "canceled":
        box.cancel(job.id)
    elif end == "deleted":
        box.delete(job.id)
    elif end == "transcript gone":
        done = complete(box)
        assert done.result is not None
        media.transcript(box.config, job.id, done.result).unlink()
    inbox.look()
    assert files(folder) == {"failed/talk.mp3", "failed/talk.mp3.error.txt"}
    assert said in (folder / "failed" / "talk.mp3.error.txt").read_text()


def test_nothing_is_sent_twice_after_a_restart_anywhere(box: Box, folder: Path, clock: Clock) -> None:
    put(folder)
    settle(Inbox(box, folder), clock)
    Inbox(box, folder).look()  # between the job and its end
    assert len(jobs(box)) == 1
    complete(box)
    (folder / "done" / "talk.mp3.txt").write_text("half")  # killed while it laid them out
    Inbox(box, folder).look()
    assert files(folder) == {"done/talk.mp3", "done/talk.mp3.txt", "done/talk.mp3.json"}
    assert (folder / "done" / "talk.mp3.txt").read_text() == "yes no\n"
    assert len(jobs(box)) == 1


def test_another_file_of_the_same_name_is_another_recording(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    for data in (b"one", b"another"):
        put(folder, data=data)
        settle(inbox, clock)
        complete(box)
        inbox.look()
    assert {"done/talk.mp3", "done/talk (2).mp3", "done/talk (2).mp3.txt"} <= files(folder)
    assert len(jobs(box)) == 2


def test_a_folder_that_cannot_be_used_is_told_once_and_tried_again(
    box: Box, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    folder = tmp_path / "a file"
    folder.write_bytes(b"")
    inbox = Inbox(box, folder)
    inbox.start()
    wait_until(lambda: "can't be used" in caplog.text)
    folder.unlink()
    wait_until(lambda: (folder / "done").is_dir())
    inbox.stop()
    assert caplog.text.count("can't be used") == 1


@pytest.mark.parametrize("inbox", ["/data", "/data/media"])
def test_it_may_not_lie_in_the_data_folder(inbox: str) -> None:
    with pytest.raises(ConfigError, match="STENOBOX_INBOX"):
        from_env({"STENOBOX_DATA": "/data", "STENOBOX_INBOX": inbox})


def test_on_a_real_box_that_is_killed_in_the_middle(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    options: dict[str, Any] = {"STENOBOX_SLOTS": "1", "STENOBOX_INBOX": str(folder)}
    names = ["en-u002.flac", "en-u008.flac"]
    for name in names:
        shutil.copy(SAMPLES / name, folder / name)
    served = serve(tmp_path, **options)
    try:
        wait_until(lambda: served.get("/api/v1/jobs").json()["jobs"])
        for pid in served.children("webapp.cli"):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(list((folder / "done").glob("*.flac"))) == 2)
        assert len(served.get("/api/v1/jobs").json()["jobs"]) == 2
    finally:
        served.stop()
    for name in names:
        assert (folder / "done" / f"{name}.txt").read_text().split() == TRUTH[name]["text"].split()
    assert files(folder) == {f"done/{name}{end}" for name in names for end in ("", ".txt", ".json")}


@pytest.mark.parametrize("end", ["failed", "done"])
def test_what_is_put_back_after_its_end_is_tried_again(box: Box, folder: Path, clock: Clock, end: str) -> None:
    """By moving it, as people do: then it is the same file, of the same time."""
    inbox = Inbox(box, folder)
    put(folder)
    settle(inbox, clock)
    if end == "done":
        complete(box)
    else:
        box.cancel(jobs(box)[0].id)
    inbox.look()
    box.change_settings({"reuse": False}, "test")
    (folder / end / "talk.mp3").rename(folder / "talk.mp3")
    settle(inbox, clock)
    assert sorted(job.state for job in jobs(box)) == sorted(["queued", "completed" if end == "done" else "canceled"])
    assert "working/talk.mp3" in files(folder)


def test_what_is_put_back_while_its_job_runs_is_not_sent_again(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    put(folder)
    settle(inbox, clock)
    (folder / "working" / "talk.mp3").rename(folder / "talk.mp3")
    settle(inbox, clock)
    assert [job.state for job in jobs(box)] == [State.QUEUED]
    complete(box)
    inbox.look()
    assert "done/talk.mp3" in files(folder)


@pytest.mark.parametrize("name", ["working", "done", "failed"])
def test_its_own_folders_may_be_no_links(box: Box, folder: Path, clock: Clock, tmp_path: Path, name: str) -> None:
    """Whoever may write into the inbox could lead it anywhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    put(elsewhere, "private.mp3")
    (folder / name).symlink_to(elsewhere)
    put(folder)
    with pytest.raises(OSError, match=f"{name} is a link"):
        settle(Inbox(box, folder), clock)
    assert (jobs(box), files(elsewhere)) == ([], {"private.mp3"})
