"""The `stenobox` command: what a person types, what it says, and what it says when something is wrong."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from media_files import holed, make, silence, sound
from support import SAMPLES, TRUTH, Served, free_port, wait_until
from web_support import TRANSCRIPT

from tasks import __version__, models
from tasks.children import ChildDied
from tasks.choosing import DEMO_NOTE
from tasks.config import VARIABLES, Config
from tasks.engine.meter import Usage
from tasks.engine.process import Recognized
from tasks.errors import StenoboxError
from tasks.recovery import take_data_folder
from webapp import cli, offline, supervisor

STENOBOX = [sys.executable, "-P", "-m", "webapp.cli"]
USAGE = Usage(base=0, load=0, job=0, beside=0, seconds=1.0)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Any]]:
    """Run the command in this process; its status and what it printed."""
    for variable in (*VARIABLES.values(), "PORT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("STENOBOX_LOG", "text")
    monkeypatch.setattr(os, "execv", None)  # a test process must never become a server
    umask, level, handlers = os.umask(0), logging.getLogger().level, list(logging.getLogger().handlers)
    os.umask(umask)

    def run(*arguments: object) -> Any:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return SimpleNamespace(status=status, out=out, err=err)

    yield run
    os.umask(umask)
    logging.getLogger().setLevel(level)
    for handler in list(logging.getLogger().handlers):
        if handler not in handlers:
            logging.getLogger().removeHandler(handler)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [*STENOBOX, *map(str, arguments)],
        env={"STENOBOX_LOG": "text", **os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Any:
    """Wait for it; its status and what it printed."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in out + err
    return SimpleNamespace(status=process.returncode, out=out, err=err)


# What it is


def test_version(run: Callable[..., Any]) -> None:
    said = run("--version")
    assert (said.status, said.out) == (0, f"stenobox {__version__}\n")


def test_help_names_every_command_and_variable(run: Callable[..., Any]) -> None:
    said = run("--help")
    assert said.status == 0
    for word in ("serve", "web", "worker", "transcribe", "models", *VARIABLES.values()):
        assert word in said.out


def test_help_of_a_command_names_its_options(run: Callable[..., Any]) -> None:
    said = run("transcribe", "--help")
    assert said.status == 0
    for word in ("--model", "--language", "--format", "txt, srt, vtt, csv or json"):
        assert word in said.out


@pytest.mark.parametrize("arguments", [["fly"], ["serve", "extra"], ["transcribe"], ["--nonsense"]])
def test_wrong_usage_leaves_with_2_and_the_usage(run: Callable[..., Any], arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.status == 2
    assert said.err.startswith("usage: stenobox")


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "stenobox", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"stenobox {__version__}\n"


# A wrong configuration


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STENOBOX_PORT", "eighty"),
        ("STENOBOX_PORT", "70000"),
        ("STENOBOX_SLOTS", "-1"),
        ("STENOBOX_QUEUE_LIMIT", "many"),
        ("STENOBOX_MAX_BYTES", "0"),
        ("STENOBOX_MAX_SECONDS", "4h"),
        ("STENOBOX_LEASE", "0.1"),
        ("STENOBOX_GRACE", "-3"),
        ("STENOBOX_DEVICE", "abacus"),
        ("STENOBOX_PROXIES", "caddy"),
        ("STENOBOX_RAM_MB", "2 GB"),
        ("STENOBOX_RAM_MB", "0"),
        ("STENOBOX_RAM_MB", "-3"),
        ("STENOBOX_MODEL", "../x"),
        ("STENOBOX_MODEL", "huge"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_an_example(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    for command in ([], ["web"], ["worker"], ["models"], ["transcribe", "x.mp3"]):
        said = run(*command)
        assert said.status == 2
        assert f"{variable}={value!r}" in said.err
        assert re.search(r"For example: STENOBOX_\w+=\S+", said.err)
        assert len(said.err.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = ended(start("serve", STENOBOX_DATA=str(tmp_path), STENOBOX_PORT=port), 30)
    assert said.status == 1
    assert f"http://127.0.0.1:{port} can't be used: something else listens there." in said.err
    assert "STENOBOX_PORT=8001" in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["serve", "web", "worker", "transcribe"])
def test_a_data_folder_that_can_not_be_written_is_named_with_an_example(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("STENOBOX_PORT", str(free_port()))
    said = run(command, *([SAMPLES / "en-u000.flac"] if command == "transcribe" else []))
    assert said.status == 1
    assert f"The data folder {tmp_path / 'file' / 'data'} can't be written" in said.err
    assert "STENOBOX_DATA=/data" in said.err


def test_a_second_server_on_the_same_folder_says_so_and_leaves(served: Served) -> None:
    pids = [served.children("webapp.cli web"), served.children("webapp.cli worker")]
    hurried = (
        "from tasks import recovery; recovery.LOCK_SECONDS = 0.5; from webapp import cli; exit(cli.main(['serve']))"
    )
    environment = {**os.environ, "STENOBOX_DATA": str(served.data), "STENOBOX_PORT": str(free_port())}
    command = [sys.executable, "-c", hurried]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 1
    assert f"Another stenobox web uses {served.data}. Stop it, or name another folder" in said.stderr
    assert said.stdout == ""
    assert [served.children("webapp.cli web"), served.children("webapp.cli worker")] == pids


# Backup


def test_a_box_is_written_to_a_file_and_brought_back(run: Callable[..., Any], tmp_path: Path, box: Any) -> None:
    file = tmp_path / "box.tar"
    said = run("backup", file)
    assert (said.status, said.out) == (0, f"{file}: 0 jobs, 0 transcripts, 0 recordings\n"), said.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = run("restore", file)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(f"stenobox: There is a box in {tmp_path / 'data'} already")
    os.environ["STENOBOX_DATA"] = str(tmp_path / "new")  # the fixture puts it back
    assert run("restore", file).out == f"{tmp_path / 'new'}: 0 jobs, 0 transcripts, 0 recordings\n"


# Serving


def test_the_first_start_says_where_it_is_and_nothing_a_newcomer_would_wonder_about(served: Served) -> None:
    lines = served.log.read_text().splitlines()
    assert json.loads(lines[0])["event"] == f"Stenobox {__version__} is at {served.url} (data in {served.data})"
    assert not any("alembic" in line for line in lines)


def test_every_line_of_a_real_box_is_json_with_its_job_and_without_secrets(served: Served) -> None:
    hush = "sk-hush-0123456789"
    assert served.post("/api/v1/transcriptions?api_key=" + hush).status_code == 422  # no query that nobody reads
    with (SAMPLES / "en-u000.flac").open("rb") as file:
        job = served.post(
            "/api/v1/transcriptions",
            files={"file": ("confidential name.flac", file)},
            headers={"X-API-Key": hush, "Authorization": f"Bearer {hush}", "Idempotency-Key": hush + "-key"},
        ).json()
    done = served.finish(job)
    assert done["state"] == "completed"
    text = served.transcript(job, "txt").text.strip()

    def told() -> set[str]:
        found = [json.loads(line) for line in served.log.read_text().splitlines()]
        assert all({"time", "level", "process", "event"} <= line.keys() for line in found)
        return {line["process"] for line in found if line.get("job") == job["id"]}

    wait_until(lambda: told() >= {"web", "worker"})
    log = served.log.read_text()
    processes = {json.loads(line)["process"] for line in log.splitlines()}
    assert {"serve", "supervisor", "web", "worker"} <= processes
    assert hush not in log
    assert "confidential name" not in log
    assert len(text) > 2
    assert text not in log


def test_nobody_else_can_read_what_a_server_writes(served: Served) -> None:
    for path in [served.data, *served.data.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} has {mode:o}"


def test_serving_prepares_the_folder_and_then_becomes_the_supervisor(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def become(config: Config) -> None:
        assert {"jobs.db", "huey.db", "media", "models"} <= {path.name for path in config.data.iterdir()}
        for name in ("web", "worker"):
            take_data_folder(config, name).close()  # given back
        sys.exit(0)

    port = free_port()
    monkeypatch.setenv("STENOBOX_PORT", str(port))
    monkeypatch.setattr(supervisor, "become_supervisor", become)
    said = run()
    assert said.status == 0, said.err
    data = tmp_path / "data"
    assert said.out == f"Stenobox {__version__} is at http://127.0.0.1:{port}  (data in {data}; Ctrl-C stops it)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_web_alone_serves_and_stops_when_told(tmp_path: Path, number: int) -> None:
    import httpx
    from support import wait_until

    port = free_port()
    process = start("web", STENOBOX_DATA=str(tmp_path), STENOBOX_PORT=str(port), STENOBOX_GRACE="1")

    def up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(up, 30)
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        process.send_signal(signal.SIGINT)
    except BaseException:
        process.kill()
        raise
    said = ended(process, 20)
    assert said.status in (0, -number, 130)
    assert "Finished server process" in said.err


# Transcribing without a server


@pytest.fixture(scope="module")
def transcribed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a real run said, and its data folder."""
    data = tmp_path_factory.mktemp("transcribed")
    arguments = ("--format", "json", "--language", "English", "--model", "demo")
    said = ended(start("transcribe", SAMPLES / "en-u008.flac", *arguments, STENOBOX_DATA=str(data)))
    said.data = data
    return said


def test_a_recording_is_transcribed_with_the_times_of_its_words(transcribed: Any) -> None:
    assert transcribed.status == 0, transcribed.err
    transcript, truth = json.loads(transcribed.out), TRUTH["en-u008.flac"]
    assert transcript["language"] == "en"
    assert transcript["text"].split() == truth["text"].split()
    words = [word for segment in transcript["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == truth["text"].split()
    for word, true in zip(words, truth["words"], strict=True):
        assert word["start"] == pytest.approx(true["start"], abs=0.1)
        assert word["end"] == pytest.approx(true["end"], abs=0.1)


def test_transcribing_leaves_no_sound_behind(transcribed: Any) -> None:
    assert list(transcribed.data.rglob("*.f32")) == []
    names = sorted(path.name for path in transcribed.data.iterdir())
    assert names == ["jobs.db", "media", "migrate.lock", "models"]  # the database holds what was measured
    assert list((transcribed.data / "media").iterdir()) == []


def test_no_library_keeps_a_device_id_or_records_for_its_maker(transcribed: Any) -> None:
    names = [str(path).lower() for path in transcribed.data.rglob("*")]
    assert [name for name in names if "microsoft" in name or "deviceid" in name or "telemetry" in name] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/talk.mp3"], "There is no file /nowhere/talk.mp3."),
        (["/"], "There is no file /."),
        ([SAMPLES / "en-u000.flac", "--format", "docx"], "There is no format 'docx'. Choose one of txt, srt"),
        ([SAMPLES / "en-u000.flac", "--model", "gpt"], "There is no such model. There are: demo"),
        ([SAMPLES / "en-u000.flac", "--language", "tlh"], "There is no language 'tlh'."),
        ([SAMPLES / "en-u000.flac", "--language", "fr"], "The model demo does not know French."),
    ],
)
def test_what_can_not_be_transcribed_is_said_in_a_sentence(
    run: Callable[..., Any], arguments: list[Any], words: str
) -> None:
    said = run("transcribe", *arguments)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(f"stenobox: {words}")


class FakeEngines:
    """Engines without a process: what they say is given."""

    outcome: Any = Recognized(TRANSCRIPT, None, USAGE)

    def __init__(self, config: Config) -> None:
        self.stopped = False

    def warm(self, spec: Any) -> None:
        pass

    def use(self, spec: Any, stopped: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext(self)

    def transcribe(self, path: Path, language: str | None, **hooks: Any) -> Any:
        assert path.stat().st_size > 0
        assert hooks["find_aligner"]("en")[0] == str(models.DEMO_FOLDER / "aligner")
        assert hooks["find_aligner"]("yi") == (None, None)
        hooks["on_progress"]("transcribe", 0.5)
        hooks["on_start"](lambda: None)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngines]:
    class Fake(FakeEngines):
        pass

    monkeypatch.setattr(offline, "Engines", Fake)
    return Fake


@pytest.mark.parametrize(
    ("form", "start_"),
    [("txt", "yes no\n"), ("srt", "1\n00:00:00,500"), ("vtt", "WEBVTT\n"), ("csv", "\ufeffstart,"), ("json", "{")],
)
def test_every_format_is_printed(run: Callable[..., Any], fake: Any, form: str, start_: str) -> None:
    said = run("transcribe", SAMPLES / "en-u000.flac", "--format", form, "--model", "demo")
    assert said.status == 0
    assert said.out.startswith(start_)
    assert said.err == ""


def test_the_demo_model_taken_in_silence_is_told(run: Callable[..., Any], fake: Any) -> None:
    said = run("transcribe", SAMPLES / "en-u000.flac")
    assert (said.status, said.err) == (0, f"stenobox: {DEMO_NOTE}\n")


def test_a_note_about_the_result_goes_beside_it(run: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    empty = {"language": None, "seconds": 1.0, "text": "", "segments": []}
    fake.outcome = Recognized(empty, "No speech found.", USAGE)
    said = run("transcribe", make(tmp_path / "silence.wav", silence(1.0)), "--model", "demo")
    assert (said.status, said.out, said.err) == (0, "", "stenobox: No speech found.\n")


def test_a_damaged_file_is_transcribed_and_called_damaged(run: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    said = run("transcribe", holed(make(tmp_path / "a.mp3", sound()), tmp_path / "b.mp3"), "--model", "demo")
    assert (said.status, said.out) == (0, "yes no\n")
    assert said.err == "stenobox: Parts of the file could not be read: silence stands in for them.\n"


def test_a_text_is_not_a_recording(run: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("This is not a recording.\n" * 100)
    said = run("transcribe", tmp_path / "text.mp3")
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("stenobox: This file can't be read as a recording")


def test_an_engine_that_dies_is_said_in_a_sentence(run: Callable[..., Any], fake: Any) -> None:
    fake.outcome = ChildDied("engine", "was killed (SIGKILL)", "out_of_memory")
    said = run("transcribe", SAMPLES / "en-u000.flac")
    assert said.status == 1
    assert said.err.startswith(
        "stenobox: The engine ran out of memory while transcribing, and the system ended it. Try a smaller model"
    )


def test_ctrl_c_leaves_with_130(run: Callable[..., Any], fake: Any) -> None:
    fake.outcome = KeyboardInterrupt()
    said = run("transcribe", SAMPLES / "en-u000.flac")
    assert (said.status, said.err) == (130, "stenobox: stopped\n")


def test_progress_is_shown_on_a_terminal_only(
    run: Callable[..., Any], fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    said = run("transcribe", SAMPLES / "en-u000.flac", "--model", "demo")
    assert "transcribing 50 %" in said.err
    assert said.err.endswith("\r")


# Models


def test_models_are_listed_with_what_is_here(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("models")
    assert said.status == 0
    lines = {line[2:].split()[0]: line for line in said.out.splitlines()}
    assert {"demo", "tiny", "small", "large-v3", "turbo"} <= set(lines)
    assert lines["demo"].startswith("* demo")
    assert "ready" in lines["demo"]
    assert re.search(r"  small .*\d+ MB to download", lines["small"])
    monkeypatch.setenv("STENOBOX_MODEL", "small")
    assert "* small" in run("models").out


def test_a_model_that_is_here_is_not_downloaded_again(run: Callable[..., Any]) -> None:
    said = run("models", "demo", "--languages", "")
    assert (said.status, said.out) == (0, f"{models.DEMO_FOLDER / 'whisper'}\n")
    said = run("models", "demo")  # with what finds word times
    assert said.out == f"{models.DEMO_FOLDER / 'whisper'}\n{models.DEMO_FOLDER / 'aligner'}\n"


@pytest.mark.parametrize(
    ("languages", "sentence"),
    [("en,qq", "There is no language 'qq'"), ("en, fr", "does not know French"), ("auto", "Nothing finds the times")],
)
def test_word_times_that_cannot_be_had_are_said_before_anything_is_downloaded(
    run: Callable[..., Any], languages: str, sentence: str
) -> None:
    said = run("models", "demo", "--languages", languages)
    assert said.status == 1
    assert sentence in said.err


def test_a_model_nobody_knows_is_refused_with_the_names_there_are(run: Callable[..., Any]) -> None:
    said = run("models", "../../etc")
    assert said.status == 1
    assert said.err.startswith("stenobox: There is no such model. There are: demo")


def test_a_download_that_fails_is_said_in_a_sentence(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(config: Config, model: Any, on_progress: Any) -> Path:
        on_progress(10, 100)
        raise StenoboxError("model_missing", "There is no network.")

    monkeypatch.setattr(models, "fetch", fetch)
    said = run("models", "small")
    assert (said.status, said.out, said.err) == (1, "", "stenobox: There is no network.\n")


# How it ends


@pytest.mark.parametrize("arguments", [["models"], ["doctor", "--json"], ["--help"]])
@pytest.mark.parametrize("gone", ["reader", "disk"])
def test_an_output_that_takes_no_more_is_no_traceback(tmp_path: Path, arguments: list[str], gone: str) -> None:
    """`stenobox models | true`, and the same into a file on a disk that is full."""
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(
            [*STENOBOX, *arguments],
            env={"STENOBOX_LOG": "text", **os.environ, "STENOBOX_DATA": str(tmp_path / "data")},
            stdout=full if gone == "disk" else subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        if process.stdout:
            process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read().decode()
        status = process.wait(120)
    if arguments != ["--help"]:
        assert status == (141 if gone == "reader" else 1), said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotADirectoryError(20, "Not a directory", "/dev/null/x"), "/dev/null/x can't be used: Not a directory."),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x can't be used: Permission denied."),
        (OSError(28, "No space left on device"), "The output can't be used: No space left on device."),
    ],
)
def test_what_the_system_refuses_is_a_sentence(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: OSError, sentence: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("webapp.offline.list_models", refuse)
    said = run("models")
    assert (said.status, said.err) == (1, f"stenobox: {sentence}\n")


def test_sigterm_ends_a_command_as_ctrl_c_does(
    run: Callable[..., Any], fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that what it decoded goes with it: `timeout`, cron and systemd-run end commands by it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.setattr(fake, "transcribe", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        said = run("transcribe", SAMPLES / "en-u000.flac")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (said.status, said.err) == (130, "stenobox: stopped\n")
    assert list((tmp_path / "data").rglob("*.f32")) == []


def test_a_ctrl_c_while_it_begins_is_quiet(tmp_path: Path) -> None:
    """At any moment of its imports. What comes before them, Python's own start among it, is not ours to silence."""
    program = (
        "import sys\n"
        "class Tell:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'webapp.cli': print('.', end='', flush=True)\n"
        "sys.meta_path.insert(0, Tell())\n"
        "from webapp.command import main\n"
        "sys.exit(main())"
    )
    environment = {**os.environ, "STENOBOX_DATA": str(tmp_path / "data"), "STENOBOX_LOG": "text"}
    for wait in (0.02, 0.1, 0.3):  # seconds; whether it is in time for any of them doesn't matter
        with subprocess.Popen(
            [sys.executable, "-P", "-c", program, "models"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.read(1) == b"."
            threading.Event().wait(wait)  # no condition: any moment will do
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert b"Traceback" not in said
        assert process.returncode in (0, 130, -signal.SIGINT)
