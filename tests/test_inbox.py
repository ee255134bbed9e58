"""A watched folder: what is put there is transcribed once, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import SAMPLES, TRUTH, change_limit, serve, wait_until
from web_support import TRANSCRIPT

from tasks import arrivals, doctor, media, store
from tasks import inbox as module
from tasks.actions import Box
from tasks.config import Config, ConfigError, from_env
from tasks.inbox import AGAIN_SECONDS, WATCHED_SECONDS, Inbox
from tasks.jobs import Job, State
from tasks.transcripts import as_json
from webapp import cli

SETTLE_SECONDS = Config(data=Path("/data")).inbox_settle


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(arrivals, "time", clock)
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


UNFINISHED = [".hidden.mp3", "talk.mp3.part", "talk.MP3.CRDOWNLOAD", "talk.mp3~", "x.tmp", "x.temp", "talk.mp3.!qB"]
NO_RECORDINGS = [
    "Thumbs.db", "desktop.ini", "notes.txt", "~$x", "talk.srt", "cover.jpg", "talk.pdf", "list.m3u8", "talk.json",
    "talks.zip", "talk.mp3.gz", "Notes.DOCX",
]  # fmt: skip


@pytest.mark.parametrize("name", ["talk", "talk.mp3", "Film.MKV", "talk.m4a", "a.wma", "voice.3gp", "x.strange", "1.2"])
def test_names_that_may_be_recordings(name: str) -> None:
    assert arrivals.looks_like_one(name)


@pytest.mark.parametrize("name", [*UNFINISHED, *NO_RECORDINGS])
def test_names_of_what_is_still_being_written_or_is_no_recording_are_left(
    box: Box, folder: Path, clock: Clock, name: str
) -> None:
    put(folder, name)
    settle(Inbox(box, folder), clock)
    assert (jobs(box), files(folder)) == ([], {name})


def test_links_and_pipes_are_left(box: Box, folder: Path, clock: Clock, tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.mp3")
    (folder / "link.mp3").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp3")
    settle(Inbox(box, folder), clock)
    assert jobs(box) == []
    assert {path.name for path in folder.iterdir()} >= {"link.mp3", "away", "pipe.mp3"}
    assert secret.exists()


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


@pytest.mark.parametrize("inbox", ["/data", "/data/media", "/"])
def test_neither_may_lie_in_the_other(inbox: str) -> None:
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


def tell(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


LONG = "x" * 245 + ".flac"


@pytest.mark.parametrize("name", [LONG, "ü" * 125 + ".mp3", ".".join(["x"] * 125), "a." + "y" * 248])
def test_a_name_that_leaves_no_room_beside_it_ends_like_any_other(
    box: Box, folder: Path, clock: Clock, name: str
) -> None:
    for number, data in enumerate((b"one", b"two")):
        put(folder, name, data)
        put(folder, f"{number}.mp3", data + b"!")
        inbox = Inbox(box, folder)
        settle(inbox, clock)
        for _ in range(2):
            complete(box)
        inbox.look()
        assert files(folder / "working") == set()
    found = files(folder / "done")
    assert len(found) == 12
    assert sum(name.endswith(".json") for name in found) == sum(name.endswith(".txt") for name in found) == 4
    assert {(folder / "done" / name).read_bytes() for name in found} >= {b"one", b"two"}


def test_a_name_that_is_no_text_is_one_too(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.mp3")).write_bytes(b"sound")
    settle(inbox, clock)
    complete(box)
    inbox.look()
    assert len(list((folder / "done").iterdir())) == 3


def test_one_that_may_not_be_read_fails_with_a_sentence_and_the_next_one_is_done(
    box: Box, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = module._open

    def refuse(path: Path) -> Any:
        if path.name == "closed.mp3":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(module, "_open", refuse)
    inbox = Inbox(box, folder)
    os.utime(put(folder, "closed.mp3"), (1, 1))  # the oldest comes first
    put(folder, "open.mp3", b"other sound")
    settle(inbox, clock)
    assert [job.source.name for job in jobs(box)] == ["open.mp3"]
    assert "may not read it: Permission denied" in (folder / "failed" / "closed.mp3.error.txt").read_text()


def test_what_goes_wrong_with_one_is_told_once_tried_again_and_stops_no_other(
    box: Box, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: the first of the folder makes trouble at each step."""
    write, broken = Inbox._write, True

    def fail(self: Inbox, path: Path, data: bytes) -> None:
        if broken and path.name.startswith("first"):
            raise OSError(5, "Input/output error", str(path))
        write(self, path, data)

    monkeypatch.setattr(Inbox, "_write", fail)
    inbox = Inbox(box, folder)
    os.utime(put(folder, "first.mp3"), (1, 1))
    put(folder, "second.mp3", b"other sound")
    settle(inbox, clock)
    for _ in range(2):
        complete(box)
    for _ in range(5):
        inbox.look()
    assert {"working/first.mp3", "done/second.mp3", "done/second.mp3.txt"} <= files(folder)
    assert tell(caplog) == ["the inbox: 'working/first.mp3' waits: Input/output error"]
    broken = False
    clock.now += AGAIN_SECONDS
    inbox.look()
    assert "done/first.mp3" in files(folder)


def test_an_error_that_nobody_thought_of_stops_no_other(
    box: Box, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = Box.transcript

    def fail(self: Box, job: Job) -> Any:
        if job.source.name == "first.mp3":
            raise KeyError("segments")
        return transcript(self, job)

    monkeypatch.setattr(Box, "transcript", fail)
    inbox = Inbox(box, folder)
    os.utime(put(folder, "first.mp3"), (1, 1))
    put(folder, "second.mp3", b"other sound")
    settle(inbox, clock)
    for _ in range(2):
        complete(box)
    inbox.look()
    assert {"working/first.mp3", "done/second.mp3"} <= files(folder)


def test_what_grew_after_it_was_done_is_done_again_as_a_whole(box: Box, folder: Path, clock: Clock) -> None:
    """A copy over a network that paused for longer than it takes to transcribe what had come."""
    inbox = Inbox(box, folder)
    put(folder, data=b"half")
    settle(inbox, clock)
    complete(box)
    inbox.look()
    assert "done/talk.mp3.txt" in files(folder)
    with (folder / "done" / "talk.mp3").open("ab") as file:
        file.write(b" and the other half")
    inbox.look()
    assert files(folder) == {"talk.mp3"}
    clock.now += SETTLE_SECONDS
    inbox.look()
    complete(box)
    inbox.look()
    assert files(folder) == {"done/talk.mp3", "done/talk.mp3.txt", "done/talk.mp3.json"}
    newest = jobs(box)[0]
    assert media.source(box.config, newest.id).read_bytes() == b"half and the other half"
    clock.now += WATCHED_SECONDS
    inbox.look()
    with (folder / "done" / "talk.mp3").open("ab") as file:
        file.write(b"a tag")
    inbox.look()
    assert "done/talk.mp3" in files(folder)


def test_what_failed_as_half_a_file_is_done_once_it_is_whole(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    put(folder, data=b"")
    settle(inbox, clock)
    assert "failed/talk.mp3" in files(folder)
    (folder / "failed" / "talk.mp3").write_bytes(b"sound")
    inbox.look()
    assert files(folder) == {"talk.mp3"}


def test_one_that_changes_while_it_is_read_is_read_anew(
    box: Box, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = module._open

    def and_grow(path: Path) -> Any:
        file = opened(path)
        with path.open("ab") as more:
            more.write(b" more")
        return file

    monkeypatch.setattr(module, "_open", and_grow)
    inbox = Inbox(box, folder)
    put(folder)
    settle(inbox, clock)
    assert jobs(box) == []
    monkeypatch.undo()
    Inbox(box, folder).look()
    (job,) = jobs(box)
    assert media.source(box.config, job.id).read_bytes() == b"sound more"


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="only Linux tells")
def test_one_that_somebody_has_open_for_writing_is_waited_for(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    with (folder / "talk.mp3").open("wb", buffering=0) as writer, (put(folder, "read.mp3")).open("rb"):
        writer.write(b"half")
        settle(inbox, clock)
        clock.now += 3 * SETTLE_SECONDS
        inbox.look()
        assert [job.source.name for job in jobs(box)] == ["read.mp3"]
        writer.write(b" and half")
    settle(inbox, clock)
    settle(inbox, clock)
    assert media.source(box.config, jobs(box)[0].id).read_bytes() == b"half and half"


def test_folders_are_looked_into_and_come_back_as_they_were(box: Box, folder: Path, clock: Clock) -> None:
    inbox = Inbox(box, folder)
    for where in ("monday", "tuesday/evening", ".hidden", "@eaDir", "/".join(["deep"] * (arrivals.DEPTH + 1))):
        (folder / where).mkdir(parents=True)
        put(folder / where, data=where.encode())
    settle(inbox, clock)
    for _ in range(2):
        complete(box)
    inbox.look()
    done = {
        f"done/{where}/talk.mp3{ending}" for where in ("monday", "tuesday/evening") for ending in ("", ".txt", ".json")
    }
    assert {name for name in files(folder) if name.startswith("done/")} == done
    assert list((folder / "working").iterdir()) == []
    assert len(jobs(box)) == 2


def test_what_is_laid_there_is_for_those_who_share_the_inbox(box: Box, folder: Path, clock: Clock) -> None:
    folder.chmod(0o2775)
    before = os.umask(0o077)
    try:
        inbox = Inbox(box, folder)
        put(folder).chmod(0o640)
        settle(inbox, clock)
        complete(box)
        inbox.look()
    finally:
        os.umask(before)
    assert (folder / "done").stat().st_mode & 0o7777 == 0o2775
    assert (folder / "done" / "talk.mp3.txt").stat().st_mode & 0o777 == 0o664
    assert (folder / "done" / "talk.mp3").stat().st_mode & 0o777 == 0o640


def test_formats_language_and_model_can_be_chosen(box: Box, folder: Path, clock: Clock) -> None:
    chosen = dict(inbox_formats="srt, TXT,srt", inbox_language="de", inbox_model="tiny")
    box.config = msgspec.structs.replace(box.config, **chosen)
    inbox = Inbox(box, folder)
    put(folder)
    settle(inbox, clock)
    (job,) = jobs(box)
    assert (job.params.language, job.params.model) == ("de", "tiny")
    complete(box)
    inbox.look()
    assert files(folder) == {"done/talk.mp3", "done/talk.mp3.txt", "done/talk.mp3.srt"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("inbox_formats", "txt,doc"), ("inbox_formats", " , "), ("inbox_language", "klingon"), ("inbox_model", "huge")],
)
def test_a_choice_that_there_is_not_is_refused_at_the_start(
    config: Config, tmp_path: Path, field: str, value: str
) -> None:
    wrong = msgspec.structs.replace(config, inbox=tmp_path, **{field: value})
    with pytest.raises(ConfigError, match=f"STENOBOX_{field.upper()}="):
        cli._check(wrong, "web")
    cli._check(msgspec.structs.replace(wrong, inbox=None), "web")


def test_the_doctor_names_what_stands_there(
    box: Box, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = msgspec.structs.replace(box.config, inbox=folder)
    (found,) = doctor.inbox(config)
    assert (found.level, "0 files wait" in found.message) == ("ok", True)
    put(folder, data=b"")
    settle(Inbox(box, folder), clock)
    closed = put(folder, "closed.mp3")
    monkeypatch.setattr(doctor.os, "access", lambda path, _: path != closed)
    unread, failed = doctor.inbox(config)
    assert (unread.level, "'closed.mp3'" in unread.message) == ("warn", True)
    assert (failed.level, "1 files wait or are worked on, 1 failed" in failed.message) == ("warn", True)
    monkeypatch.setattr(doctor, "write_error", lambda _: OSError(30, "Read-only file system"))
    assert any(one.level == "fail" and "Read-only" in one.message for one in doctor.inbox(config))
