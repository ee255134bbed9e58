"""A worker frozen past its lease, while another takes over, and thawed: it changes nothing and publishes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from chaos_support import LONG, PATIENCE, box, speech
from support import SAMPLES, wait_until

pytestmark = pytest.mark.chaos

# The folder's lock forbids a second worker on one box. This one comes without it, and rescues nothing at its start, as
# workers on several machines will: it has to find out by itself that the other one's lease is over.
SECOND = """
import contextlib, sys
from tasks import worker
worker.take_data_folder = lambda config, name: contextlib.nullcontext()
worker.rescue = lambda *_: None
from webapp import cli
sys.exit(cli.main(["worker"]))
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine_too", [True, False] if LONG else [False], ids=lambda too: "tree" if too else "worker")
def test_a_thawed_worker_changes_nothing_and_publishes_nothing(tmp_path: Path, engine_too: bool) -> None:
    """Frozen alone, its engine goes on to the end: the answer is there when it thaws, and comes too late."""
    with box(tmp_path, STENOBOX_LEASE="2") as of:
        job_id = of.served.submit(speech(tmp_path))["id"]
        with of.held(job_id) as engine:
            [worker] = of.find("worker")
            frozen = [worker, *(worker.children(recursive=True) if engine_too else [])]
            for process in frozen:
                os.kill(process.pid, signal.SIGSTOP)
            token = of.row(job_id)["token"]
        if engine_too:
            engine.suspend()
        environment = {**os.environ, "STENOBOX_DATA": str(of.data), **of.variables, "STENOBOX_PORT": "0"}
        with (tmp_path / "second.log").open("wb") as log:
            second = subprocess.Popen([sys.executable, "-c", SECOND], env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: of.row(job_id)["token"] not in (token, None), PATIENCE)  # its lease was over
            wait_until(lambda: of.row(job_id)["state"] == "completed", PATIENCE)
            after = of.row(job_id)
            files = {path.name: path.read_bytes() for path in (of.data / "media" / job_id).iterdir()}
            words = of.served.transcript({"links": {"self": f"/api/v1/jobs/{job_id}"}}).json()
            for process in reversed(frozen):
                os.kill(process.pid, signal.SIGCONT)
            wait_until(lambda: f"job {job_id}: no longer ours" in of.said, PATIENCE)
            assert of.row(job_id) == after
            folder, expected = of.data / "media" / job_id, {"source", "peaks.json", after["result"]}
            wait_until(lambda: {path.name for path in folder.iterdir()} == expected)  # what it made goes after its word
            assert expected <= set(files)
            assert (folder / after["result"]).read_bytes() == files[after["result"]]
            assert of.served.transcript({"links": {"self": f"/api/v1/jobs/{job_id}"}}).json() == words
            # Both go on: what comes now is done once, by either.
            more = of.served.submit(SAMPLES / "en-u000.flac")
            assert of.served.finish(more, PATIENCE)["state"] == "completed"
        finally:
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0, (tmp_path / "second.log").read_text()
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole({job_id, more["id"]})


@pytest.mark.timeout(600)
def test_a_long_pause_of_the_only_worker_costs_nothing(tmp_path: Path) -> None:
    """As when a laptop sleeps or a machine is moved: nobody took over, so it goes on where it was."""
    with box(tmp_path, STENOBOX_LEASE="2") as of:
        job_id = of.served.submit(speech(tmp_path))["id"]
        with of.held(job_id):
            [worker] = of.find("worker")
            tree = [worker, *worker.children(recursive=True)]
            for process in tree:
                os.kill(process.pid, signal.SIGSTOP)
            stopped = psutil.STATUS_STOPPED
            wait_until(lambda: all(process.status() == stopped for process in tree), PATIENCE)
            time.sleep(5)  # longer than a lease
        for process in reversed(tree):
            os.kill(process.pid, signal.SIGCONT)
        of.settle()
        row = of.row(job_id)
        assert (row["state"], row["attempts"], row["crashes"]) == ("completed", 1, 0)
        assert "its worker is gone" not in of.said
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole({job_id})
