"""The log: one JSON line an event from every process, with the job it is about, and nothing secret."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor import loggers

from tasks import logs
from webapp import supervised

JOB = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2
logger = logging.getLogger("tasks.example")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[Any]]]:
    """What the log of this process has written, in JSON or as text."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    monkeypatch.delenv("STENOBOX_LOG", raising=False)

    def read() -> list[Any]:
        text = capsys.readouterr().err.splitlines()
        return [json.loads(line) for line in text] if text and text[0].startswith("{") else text

    yield read
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_tells_when_who_what_and_which_job(lines: Any) -> None:
    logs.begin("web")
    logger.warning("job %s: %d bytes", JOB, 7, extra={"bytes": 7})
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "process": "web",
        "pid": os.getpid(),
        "job": JOB,
        "event": f"job {JOB}: 7 bytes",
        "logger": "tasks.example",
        "bytes": 7,
    }


def test_what_a_thread_works_on_is_the_job_of_its_lines(lines: Any) -> None:
    logs.begin("worker")
    with logs.about(JOB):
        logger.info("a model is fetched")
        logger.info("job %s: another", OTHER)
        with logs.about("no id"):
            logger.info("nothing")
    logger.info("later")
    assert [line.get("job") for line in lines()] == [JOB, OTHER, None, None]


def test_an_error_is_one_line_with_its_traceback(lines: Any) -> None:
    logs.begin("worker")
    try:
        raise RuntimeError("no luck at https://user:word@example.org/a/b?key=hush#part")
    except RuntimeError:
        logger.exception("it failed")
    (line,) = lines()
    assert line["event"] == "it failed"
    assert line["traceback"].splitlines()[-1] == "RuntimeError: no luck at https://example.org/a/b?[hidden]"


def test_what_nobody_caught_is_a_line_too(lines: Any) -> None:
    logs.begin("worker")

    def fail() -> None:
        raise RuntimeError("unexpected")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    warnings.showwarning("odd", UserWarning, "file.py", 3)
    first, second = lines()
    assert (first["level"], first["event"]) == ("critical", "ended by RuntimeError")
    assert "unexpected" in first["traceback"]
    assert "odd" in second["event"]


@pytest.mark.parametrize(
    ("said", "terminal", "process", "style"),
    [
        ("", True, "web", "text"),
        ("", False, "web", "json"),
        ("", False, "transcribe", "text"),
        ("auto", False, "worker", "json"),
        ("json", True, "transcribe", "json"),
        ("text", False, "web", "text"),
        ("nonsense", False, "engine", "json"),
    ],
)
def test_the_operator_chooses_and_a_person_at_a_terminal_reads_text(
    monkeypatch: pytest.MonkeyPatch, said: str, terminal: bool, process: str, style: str
) -> None:
    monkeypatch.setenv("STENOBOX_LOG", said)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    assert logs.style_of(process) == style


def test_text_is_a_sentence_a_line_and_a_second_call_replaces_the_first(lines: Any) -> None:
    logs.begin("web", "json")
    logs.begin("web", "text")
    logger.info("see https://example.org/?token=hush")
    (line,) = lines()
    assert line.endswith(" web: see https://example.org/?[hidden]")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://example.org/watch?v=1", "https://example.org/watch?[hidden]"),
        ("<https://me:pass@example.org/x>", "<https://example.org/x>"),
        ("postgresql://box:pass@db/box", "postgresql://db/box"),
        ("Authorization: Bearer abc.def", "Authorization: [hidden]"),
        ("'x-api-key': 'sk-123', 'accept': '*'", "'x-api-key': '[hidden]', 'accept': '*'"),
        ("(b'authorization', b'Bearer abc')", "(b'authorization', b'[hidden]')"),
        ("password=hunter2 and more", "password=[hidden] and more"),
        ("the token of a job is stale", "the token of a job is stale"),
        ("at http://127.0.0.1:8000 (data in /data)", "at http://127.0.0.1:8000 (data in /data)"),
        ("it said open sesame twice", "it said [hidden] twice"),
    ],
)
def test_secrets_are_not_written(monkeypatch: pytest.MonkeyPatch, text: str, kept: str) -> None:
    monkeypatch.setenv("STENOBOX_PASSWORD", "open sesame")
    assert logs.clean(text) == kept


def test_supervisors_own_lines_are_lines_of_the_log(lines: Any) -> None:
    logs.begin("supervisor")
    own = loggers.getLogger(loggers.LevelsByName.INFO)
    handler = supervised.Handler()
    own.addHandler(handler)
    own.info("spawned: 'web' with pid 7")
    own.warn("exited: %(name)s", name="web")
    own.debug("noise")
    handler.reopen()
    assert [(line["level"], line["event"]) for line in lines()] == [
        ("info", "spawned: 'web' with pid 7"),
        ("warning", "exited: web"),
    ]


def test_a_child_that_fails_says_so_in_a_line() -> None:
    code = "from tasks import logs; logs.begin('decode'); 1 / 0"
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    (line,) = said.stderr.splitlines()
    assert json.loads(line)["event"] == "ended by ZeroDivisionError"


def test_processes_that_write_into_one_file_leave_each_others_lines_alone(tmp_path: Path) -> None:
    file = tmp_path / "log"
    code = "import logging; from tasks import logs; logs.begin('web'); logging.error('%s', 'x' * 100)"
    with file.open("wb") as first, file.open("wb") as second:  # each at its own place, the beginning
        for stream in (first, second, first):
            subprocess.run([sys.executable, "-P", "-c", code], stderr=stream, check=True, timeout=60)
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["x" * 100] * 3
