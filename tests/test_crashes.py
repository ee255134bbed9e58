"""A crash of native code in each process of ours: one line of the log says where it was, and the attempt's record."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import serve, wait_until
from test_jobs import claim, queued

from tasks import children, crashes, links, models, store
from tasks.children import ChildDied
from tasks.config import Config
from tasks.db import Database
from tasks.decode import decode
from tasks.engine.process import EngineProcess
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPEC = Spec(model="demo", folder="/nowhere", device="cpu", compute_type="int8", slots=1, threads=1, batch=1)
CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007f5c (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f5d (most recent call first):
  File "/x/whisperx/alignment.py", line 212 in align
  File "/x/tasks/engine/recognizer.py", line 190 in _aligned

Extension modules: numpy
"""


def crash(process: Any) -> None:
    """Have it crash as soon as it would tell."""
    wait_until(lambda: _catches(process.pid))
    os.kill(process.pid, signal.SIGSEGV)


def _catches(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGSEGV - 1) & 1)
    return False


def told(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [record.getMessage() for record in caplog.records if "crashed (SIGSEGV):\n" in record.getMessage()]
    assert "Fatal Python error: Segmentation fault" in line
    assert "Current thread" in line or "Thread 0x" in line
    return line


def test_where_it_was_in_words() -> None:
    assert crashes.place(CRASH) == "in align (alignment.py:212)"
    assert crashes._told(CRASH).split("\n\n")[1].startswith("Current thread")
    assert crashes._told("") == ""
    many = CRASH.replace("Thread 0x", "\n\n".join(["Thread 0x\n  File"] * 4000) + "\n\nThread 0x")
    assert len(crashes._told(many)) == crashes.MOST_CHARACTERS
    assert crashes.place(crashes._told(many)) == "in align (alignment.py:212)"
    assert crashes.place("") == crashes.place("Current thread\n\n  File") == ""


def test_the_engine(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    engine = EngineProcess(config, SPEC)
    with pytest.raises(ChildDied, match="SIGSEGV") as caught:
        engine.transcribe(
            Path("/nowhere"),
            "en",
            on_progress=lambda *_: None,
            find_aligner=lambda _: (None, None),
            on_start=lambda _: crash(engine),
        )
    assert told(caplog).startswith(f"the engine (process {engine.pid}) crashed")
    assert "Segmentation fault" in caught.value.crash
    assert not (config.data / "tmp").exists()  # and nothing that its libraries left


def test_the_decoder(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StenoboxError, match="SIGSEGV") as caught:
        decode(models.SAMPLE, tmp_path / "sound", 60, on_start=crash)
    told(caplog)
    assert "Segmentation fault" in "".join(caught.value.__notes__)


def test_the_download_of_a_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    terms = links.Terms(10**6, 60.0)
    with pytest.raises(ChildDied, match="SIGSEGV"):
        links.fetch("http://192.0.2.1/a.mp3", tmp_path, terms, on_start=crash)
    told(caplog)


def test_the_download_of_a_model(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StenoboxError, match="SIGSEGV"):
        models.fetch(config, models.CATALOGUE["tiny"], on_start=crash)
    told(caplog)
    assert not (config.data / "tmp").exists()


def test_one_that_ends_well_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    child = children.spawn("this", env=children.environment(), stdout=subprocess.DEVNULL)
    child.wait()
    assert children.last_words(child, "child") == ""
    assert children.last_words(child, "child") == ""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_ran_as_the_worker_crashed_has_its_words(database: Database, config: Config) -> None:
    """Through `rescue`, which puts it back."""
    job_id = queued(database)
    claim(database)
    store.requeue_all_running(database, CRASH * 100)
    (record,) = store.list_attempts(database, job_id)
    assert record.sentence == "Stenobox itself crashed in the middle of it; the log says where."
    assert record.crash is not None
    assert record.crash.startswith("Fatal Python error")
    assert len(record.crash) == 4_000
    assert not record.charged


@pytest.mark.long
def test_web_worker_and_supervisor(tmp_path: Path) -> None:
    served = serve(tmp_path)
    try:
        for name in ("worker", "web"):
            (pid,) = wait_until(lambda name=name: served.children(f"webapp.cli {name}"))
            wait_until(lambda pid=pid: _catches(pid))
            os.kill(pid, signal.SIGSEGV)
            line = wait_until(lambda name=name: _line(served.log, f"the last {name} crashed:\n"))
            assert "Fatal Python error: Segmentation fault" in line["event"]
            assert (line["level"], line["process"]) == ("critical", name)
        supervisor = served.process
        wait_until(lambda: _catches(supervisor.pid))
        os.kill(supervisor.pid, signal.SIGSEGV)
        supervisor.wait(60)
        assert (served.data / "run" / "supervisor.crash").read_text().startswith("Fatal Python error")
        again = serve(tmp_path)
        served = again
        assert _line(again.log, "the last supervisor crashed:\n")
    finally:
        served.stop()


def _line(log: Path, begins: str) -> dict[str, Any] | None:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return next((line for line in lines if line["event"].startswith(begins)), None)
