"""Overnight batches: each recording sent once, whatever the box answers and whenever the command is stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_box import FakeBox, standing
from support import SAMPLES, Served, free_port, wait_until

from tasks.errors import StenoboxError
from webapp import ledger
from webapp import submit as module
from webapp.cli import main
from webapp.ledger import Entry, open_ledger
from webapp.named import read_list
from webapp.progress import Progress, length, summary
from webapp.submit import Batch, submit


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    """Three recordings, two of them with the same name and size."""
    paths = tuple(tmp_path / name for name in ("a/talk.mp3", "b/talk.mp3", "b/other.mp3"))
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"sound")
    return paths


def send(box: FakeBox, files: tuple[Path, ...], **options: object) -> int:
    return submit(Batch(files, box.url, state=files[0].parent / "state.json", **options), io.StringIO())  # type: ignore[arg-type]


@pytest.fixture
def box() -> Iterator[FakeBox]:
    with standing(FakeBox()) as box:
        yield box


def test_all_are_sent_once_and_their_transcripts_fetched(box: FakeBox, files: tuple[Path, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert send(box, files, out=out, model="demo") == 0
    assert box.names == ["talk.mp3", "talk.mp3", "other.mp3"]
    assert {path.name for path in out.iterdir()} == {"talk.txt", "talk-2.txt", "other.txt"}
    assert (out / "talk-2.txt").read_text() == "words of talk.mp3\n"
    assert b'name="model"\r\n\r\ndemo' in box.forms[0]


LINKS = ("https://example.org/one?token=hush", "http://example.org:8096/two")


def test_links_are_sent_as_links_once_and_their_transcripts_named_by_the_box(
    box: FakeBox, files: tuple[Path, ...], tmp_path: Path
) -> None:
    mixed, out = (files[0], *LINKS), tmp_path / "out"
    box.script.extend([None, (429, "queue_full", 0), "lost"])
    for _ in range(2):
        assert submit(Batch(mixed, box.url, out=out, model="demo", state=tmp_path / "state.json"), io.StringIO()) == 0
    assert [job["source"].get("url") for job in box.jobs] == [None, *LINKS]
    assert json.loads(box.forms[1]) == {"url": LINKS[0], "model": "demo"}
    assert {path.name for path in out.iterdir()} == {"talk.txt", "About one token=hush.txt", "About two.txt"}


def test_a_link_that_fails_is_told_without_its_query(
    box: FakeBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box.fail["About one?token=hush"] = "It is a live stream."
    assert submit(Batch(LINKS[:1], box.url, state=tmp_path / "state.json"), io.StringIO()) == 1
    assert "https://example.org/one  It is a live stream." in capsys.readouterr().out


def test_lists_hold_files_and_links(files: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{files[0]}\n# not this\n{LINKS[0]}\n{LINKS[0]}\n")
    assert read_list([LINKS[1]], str(tmp_path / "list")) == (LINKS[1], files[0], LINKS[0])


def test_a_file_that_was_there_is_not_written_over(box: FakeBox, files: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("mine")
    assert send(box, files[2:], out=tmp_path) == 0
    assert (tmp_path / "other.txt").read_text() == "mine"
    assert (tmp_path / "other-2.txt").exists()


def test_a_transcript_that_went_missing_is_fetched_again(box: FakeBox, files: tuple[Path, ...], tmp_path: Path) -> None:
    assert send(box, files) == 0
    for form in ("txt", "srt"):
        assert send(box, files, out=tmp_path / "out", form=form) == 0
    assert len(box.jobs) == 3
    assert (tmp_path / "out" / "other.srt").exists()


def test_another_model_or_a_changed_file_is_another_submission(box: FakeBox, files: tuple[Path, ...]) -> None:
    send(box, files[:1])
    send(box, files[:1], model="tiny")
    files[0].write_bytes(b"other sound")
    send(box, files[:1])
    assert len(box.jobs) == 3


@pytest.mark.parametrize("status", [429, 503, 507])
def test_it_waits_as_long_as_it_was_told(box: FakeBox, files: tuple[Path, ...], status: int) -> None:
    box.script.append((status, "queue_full", 1))
    assert send(box, files) == 0
    assert len(box.asked) == 4
    assert box.asked[1] - box.asked[0] >= 1


def test_it_asks_for_room_before_it_sends(
    box: FakeBox, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.capacity = {"next_free_seconds": 1}
    rest, rested = module.time.sleep, []

    def sleep(seconds: float) -> None:
        rested.append(seconds)
        rest(seconds)
        if len(rested) == 5:
            assert box.asked == []
            box.capacity = {"next_free_seconds": 0}

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert send(box, files) == 0
    assert len(box.asked) == 3


@pytest.mark.parametrize("lost", ["lost", "broken", (500, "internal", None), (502, "x", None)])
@pytest.mark.parametrize("small", [True, False])
def test_after_a_lost_answer_it_is_known_again_by_its_key_or_a_look(
    box: FakeBox, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, lost: object, small: bool
) -> None:
    monkeypatch.setattr(ledger, "SMALL_BYTES", 100 if small else 0)
    box.script += [lost, lost]
    assert send(box, files[:2]) == 0
    assert box.names == ["talk.mp3", "talk.mp3"]
    assert len(box.known) == 2
    if lost == "lost":
        assert len(box.asked) == (4 if small else 2), "a large one is not sent again"


def test_a_job_that_was_made_of_another_recording_of_the_same_name_and_size_is_not_taken_for_ones_own(
    box: FakeBox, files: tuple[Path, ...]
) -> None:
    box.script += ["broken"]
    box.take("other.mp3", len(b"sound"))["created_at"] = "2999-01-01T00:00:00Z"  # by somebody else, just now
    assert send(box, files[2:]) == 0
    assert box.names == ["other.mp3", "other.mp3"]


def test_each_recording_has_a_key_of_its_own_for_as_long_as_it_is_tried(
    box: FakeBox, files: tuple[Path, ...], tmp_path: Path
) -> None:
    box.script += ["lost", (429, "queue_full", 0), (409, "idempotency_in_progress", 0), (503, "x", None)]
    assert send(box, files) == 0
    entries = json.loads((files[0].parent / "state.json").read_text())["entries"].values()
    keys = [entry["key"] for entry in entries]
    assert sorted(keys) == sorted(box.known)
    assert len(set(keys)) == 3
    assert box.names == ["talk.mp3", "talk.mp3", "other.mp3"]


@pytest.mark.parametrize(
    ("code", "status", "sentence"),
    [
        ("idempotency_gone", 410, "The job was deleted on the box."),
        ("idempotency_mismatch", 422, "The box has it from an earlier run, when it was set to another model."),
    ],
)
def test_what_the_box_says_of_a_known_recording_is_told_without_keys(
    box: FakeBox, files: tuple[Path, ...], capsys: pytest.CaptureFixture[str], code: str, status: int, sentence: str
) -> None:
    box.script += [(status, code, None)]
    assert send(box, files[2:]) == 1
    assert sentence in capsys.readouterr().out


def test_a_recording_that_was_taken_under_other_defaults_is_found(box: FakeBox, files: tuple[Path, ...]) -> None:
    box.script += ["lost", (422, "idempotency_mismatch", None)]
    assert send(box, files[2:]) == 0
    assert box.names == ["other.mp3"]


def test_an_entry_of_an_earlier_version_has_no_key_and_is_looked_up(box: FakeBox, files: tuple[Path, ...]) -> None:
    state, status = files[2].parent / "state.json", files[2].stat()
    taken = box.take("other.mp3", status.st_size)
    path = str(files[2].absolute())
    entry = {"path": path, "bytes": status.st_size, "changed": status.st_mtime_ns, "state": "sending", "attempt": 1.0}
    mark = json.dumps([f"{box.url} - -", path, status.st_size, status.st_mtime_ns])
    state.write_text(json.dumps({"version": 1, "entries": {mark: entry}}))
    assert send(box, files[2:]) == 0
    assert box.jobs == [taken]


def test_an_answer_that_was_lost_with_the_command_is_looked_up_by_the_next(
    box: FakeBox, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.Sender, "_sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            send(box, files)
    assert len(box.jobs) == 1
    assert send(box, files) == 0
    assert len(box.jobs) == 3


def test_what_fails_is_told_at_the_end_with_its_reason(
    box: FakeBox, files: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    box.fail["other.mp3"] = "It is no recording."
    box.script.append((413, "too_large", None))
    assert send(box, files) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == ["1 of 3 done, 2 failed:", "  talk.mp3   It says too_large.", "  other.mp3  It is no recording."]
    box.jobs[1]["state"] = "completed"  # somebody tried it again on the page
    assert send(box, files) == 0  # and what was refused is sent again
    assert len(box.jobs) == 3


def test_a_box_that_fails_over_one_recording_gets_the_next(
    box: FakeBox, files: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    box.script += [(500, "internal", None)] * 3
    assert send(box, files) == 1
    assert box.names == ["talk.mp3", "other.mp3"]
    assert "It says internal." in capsys.readouterr().out


def test_a_canceled_and_a_deleted_job_have_failed(
    box: FakeBox, files: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    box.runs = 10_000
    with pytest.MonkeyPatch.context() as patch:

        def rest(_: object, waiting: bool, active: bool) -> None:
            if not waiting:
                raise KeyboardInterrupt

        patch.setattr(module.Sender, "_rest", rest)
        with pytest.raises(KeyboardInterrupt):
            send(box, files[1:])
    assert "2 go on on the box" in capsys.readouterr().err
    box.jobs[0]["state"] = "canceled"
    del box.jobs[1]
    assert send(box, files[1:]) == 1
    told = capsys.readouterr().out
    assert "It was canceled on the box." in told
    assert "The job was deleted on the box." in told


@pytest.mark.parametrize("code", ["unknown_model", "unknown_language"])
def test_what_all_recordings_would_hear_ends_it_at_once(box: FakeBox, files: tuple[Path, ...], code: str) -> None:
    box.script += [(422, code, None)] * 3
    with pytest.raises(StenoboxError, match=code):
        send(box, files)
    assert len(box.asked) == 1


def test_a_server_that_is_no_box_ends_it_at_once(box: FakeBox, files: tuple[Path, ...]) -> None:
    box.script.append((405, "method_not_allowed", None))
    with pytest.raises(StenoboxError, match="takes no recordings"):
        send(box, files)


def test_a_box_that_is_not_there_ends_it_at_once(files: tuple[Path, ...]) -> None:
    with pytest.raises(StenoboxError, match="Is the box running"):
        submit(Batch(files, f"http://127.0.0.1:{free_port()}", state=files[0].parent / "s.json"), io.StringIO())


def test_a_box_that_falls_silent_is_waited_for(
    box: FakeBox, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    box.script += ["broken"] * 3
    with pytest.raises(StenoboxError, match="gave no answer"):
        send(box, files)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    assert send(box, files) == 0
    assert len(box.jobs) == 3


def test_a_file_that_changed_or_went_while_others_were_sent_has_failed(
    box: FakeBox, files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sent(self: module.Sender, entry: Entry, job: dict[str, object]) -> None:
        files[1].write_bytes(b"more sound")
        files[2].unlink(missing_ok=True)
        entry.state, entry.job = "sent", str(job["id"])

    monkeypatch.setattr(module.Sender, "_sent", sent)
    assert send(box, files) == 1
    told = capsys.readouterr().out
    assert "was changed after" in told
    assert "can't be read: No such file" in told


def test_lists_and_names_are_read_together_once(tmp_path: Path, files: tuple[Path, ...]) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"\ufeff# tonight\n\n {files[1]} \n{files[0]}\n")
    assert read_list([str(files[0])], str(listed)) == files[:2]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ftp://example.org/talk.mp3", "is not one that begins with http"),
        ("missing.mp3", "there is no such file"),
        ("empty.mp3", "the file is empty"),
        (".", "there is no recording in it"),
        ("/dev/null", "this is not a file"),
    ],
)
def test_what_can_not_be_sent_is_refused_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.mp3").touch()
    with pytest.raises(StenoboxError, match=sentence):
        read_list([name], None)


def test_nothing_to_send_and_an_unreadable_list_are_told() -> None:
    with pytest.raises(StenoboxError, match="Name the recordings"):
        read_list([], None)
    with pytest.raises(StenoboxError, match="can't be read: No such file"):
        read_list([], "/nowhere/list")


def test_a_state_file_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text('{"mine": 1}')
    with pytest.raises(StenoboxError, match="is not a state file"), open_ledger(state, ""):
        pass
    assert state.read_text() == '{"mine": 1}'


def test_one_run_at_a_time_has_the_state_file(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with (
        open_ledger(state, ""),
        pytest.raises(StenoboxError, match="Another stenobox submit"),
        open_ledger(state, ""),
    ):
        pass


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_for_people_and_a_line_a_change_for_a_log() -> None:
    screen, log, moments = Screen(), io.StringIO(), iter([0.0, 0.0, 360.0, 360.0] * 2)
    for stream in (screen, log):
        progress = Progress(12, stream, lambda: next(moments))
        progress.show(2, 3)
        progress.show(3, 3, "next try in 5 s")
        progress.show(3, 2)
        progress.clear()
    assert "\n" not in screen.getvalue()
    assert "next try in 5 s" in screen.getvalue()
    assert log.getvalue().splitlines() == ["2/12, 3 at the box", "3/12, 3 at the box, 10 files/h, ETA 54 min 0 s"]


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        (2, 2400.0, "2/3, 0 at the box, 3.0 files/h, ETA 20 min 0 s"),
        (3, 4.0, "3/3, 0 at the box, 2,700 files/h"),
    ],
)
def test_a_rate_reads_well(done: int, seconds: float, line: str) -> None:
    log, moments = io.StringIO(), iter([0.0, 0.0, seconds])
    progress = Progress(3, log, lambda: next(moments))
    progress.show(0, 3)
    progress.show(done, 0)
    assert log.getvalue().splitlines()[-1] == line


def test_lengths_and_summaries_read_well() -> None:
    assert [length(s) for s in (5, 90, 7300)] == ["5 s", "1 min 30 s", "2 h 1 min"]
    assert summary([Entry("a", 1, 1, "done")]) == "1 of 1 done.\n"


def command(data: Path, box_url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "webapp.cli", "submit", "--server", box_url, *arguments],
        env=os.environ | {"STENOBOX_DATA": str(data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_run_again_it_sends_nothing_twice(tmp_path: Path, number: int) -> None:
    files = [tmp_path / f"{letter}.mp3" for letter in "abcdef"]
    for file in files:
        file.write_bytes(b"sound")
    with standing(FakeBox(runs=2)) as box:
        box.script += [None, None, (429, "queue_full", 60)]  # the second run asks at once
        arguments = [*map(str, files), "--out", str(tmp_path / "out")]
        first = command(tmp_path / "data", box.url, *arguments)
        wait_until(lambda: len(box.asked) >= 3, 30, every=0.01)
        first.send_signal(number)
        _, said = first.communicate(timeout=120)
        assert first.returncode == (130 if number != signal.SIGKILL else -number), said
        assert b"Traceback" not in said
        state = json.loads((tmp_path / "out" / ".stenobox-submit.json").read_text())
        assert len(state["entries"]) <= 6
        second = command(tmp_path / "data", box.url, *arguments)
        told, said = second.communicate(timeout=120)
        assert second.returncode == 0, said
        assert told == b"6 of 6 done.\n"
        assert sorted(box.names) == [file.name for file in files]
        assert {p.name for p in (tmp_path / "out").glob("*.txt")} == {f"{letter}.txt" for letter in "abcdef"}


def test_a_batch_on_a_real_box(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "not a recording.mp3"
    text.write_text("words")
    good = [str(SAMPLES / name) for name in ("en-u000.flac", "de-u012.flac", "en-u002.flac")]
    out = tmp_path / "out"
    status = main(["submit", *good, str(text), "--server", served.url, "--out", str(out), "--format", "srt"])
    told = capsys.readouterr()
    assert status == 1
    assert told.out.startswith("3 of 4 done, 1 failed:\n  not a recording.mp3  This file can't be read")
    assert "4/4" in told.err
    assert {p.name for p in out.glob("*.srt")} == {"en-u000.srt", "de-u012.srt", "en-u002.srt"}


def test_on_a_real_box_a_lost_answer_makes_no_second_job(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sent twice.flac"
    file.write_bytes((SAMPLES / "en-u000.flac").read_bytes())
    arguments = ["submit", str(file), "--server", served.url, "--out", str(tmp_path / "out")]
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(module.Sender, "_sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert main(arguments) == 130
    assert main(arguments) == 0
    jobs = served.get("/api/v1/jobs", params={"limit": 200}).json()["jobs"]
    assert [job["source"]["name"] for job in jobs].count("sent twice.flac") == 1


def test_help_names_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["submit", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--list", "--server", "--out", "--state", "--format"))


def test_a_folder_stands_for_its_recordings(tmp_path: Path) -> None:
    for name in ("b.mp3", "a.flac", "notes.txt", ".hidden.mp3", "deep/er/c.wav", "deep/Thumbs.db", "empty.mp3"):
        path = tmp_path / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.mp3" else b"x")
    talks = tmp_path / "talks"
    found = [talks / "a.flac", talks / "b.mp3", talks / "deep" / "er" / "c.wav"]
    assert read_list([str(talks), str(talks / "b.mp3")], None) == tuple(found)
