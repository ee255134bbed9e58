"""Somebody sets the clock on the wall, forward and back by hours and a day: nothing is rescued falsely, nothing is
stuck, and nobody is told an absurd time. libfaketime fakes the wall's clock of web, worker and supervisor; the
monotonic one runs on, as it does on a real machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_support import LONG, PATIENCE, ROUNDS, box, dice, speech
from support import SAMPLES, wait_until

pytestmark = pytest.mark.chaos

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
JUMPS = ["+2h", "-2h", "+1d", "-1d"]


# Python sleeps until a moment of the monotonic clock, which libfaketime 0.9.10 takes for one of the wall's
# (clock_nanosleep with TIMER_ABSTIME). Waiting for nothing to happen is the same, and is left alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


def seen(of: Any) -> float:
    """The time that the web process believes in: the Date of an answer."""
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(of.served.get("/healthz").headers["date"]).timestamp() - time.time()


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: apt install faketime)")
@pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is Linux's here")
@pytest.mark.timeout(900 * ROUNDS)
def test_a_clock_that_is_set_rescues_nothing_and_leaves_nothing_stuck(tmp_path: Path) -> None:
    chance, source = dice(), speech(tmp_path)
    now, site = tmp_path / "now", tmp_path / "site"
    now.write_text("+0")
    site.mkdir()
    (site / "sitecustomize.py").write_text(SLEEP)
    fake = {
        "PYTHONPATH": str(site),
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with box(tmp_path, STENOBOX_SLOTS="1", STENOBOX_LEASE="2", **fake) as of:
        first = of.served.submit(SAMPLES / "en-u000.flac")
        of.served.finish(first, PATIENCE)  # the times it took are known from here on
        accepted = [first["id"]]
        for _ in range(ROUNDS):
            jumps = chance.sample(JUMPS, 2) if LONG else [chance.choice(JUMPS)]
            for jump in jumps:
                job_id = of.served.submit(source)["id"]
                waiting = [of.served.submit(SAMPLES / "en-u000.flac")["id"]]
                with of.held(job_id):
                    now.write_text(jump)
                    hours = {"h": 1, "d": 24}[jump[-1]] * int(jump[:-1])
                    wait_until(lambda h=hours: abs(seen(of) - h * 3600) < 60, PATIENCE)
                    waiting.append(of.served.submit(SAMPLES / "en-u002.flac")["id"])
                    for one in (job_id, *waiting):
                        eta = of.served.get(f"/api/v1/jobs/{one}").json()["eta_seconds"]
                        assert eta is None or 0 <= eta < 3600, (jump, eta)
                    assert of.served.get("/api/v1/capacity").status_code == 200
                    assert of.served.get("/limits").status_code == 200
                of.settle()
                for one in (job_id, *waiting):
                    row = of.row(one)
                    assert (row["state"], row["attempts"], row["crashes"]) == ("completed", 1, 0), (jump, row)
                    assert 0 < row["work_seconds"] < PATIENCE
                    page = of.served.get(f"/jobs/{one}").text
                    assert "Finished" in page
                ended = of.said
                order = [ended.index(f"job {one}: completed") for one in (job_id, *waiting)]
                assert order == sorted(order), "who came later overtook"
                accepted += [job_id, *waiting]
        # Killed with the clock a day ahead, started with it a day behind: rescued at once all the same.
        job_id = of.served.submit(source)["id"]
        accepted.append(job_id)
        with of.held(job_id):
            now.write_text("+1d")
            [worker] = of.find("worker")
            now.write_text("-1d")
            os.kill(worker.pid, signal.SIGKILL)
        of.settle()
        assert of.row(job_id)["state"] == "completed"
        assert of.said.count("its worker is gone") == 1
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole(set(accepted))
