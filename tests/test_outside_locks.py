"""Somebody else's lock on the database, of the lengths that are promised: 4 s are waited out, 12 s are said.

The short form, with shorter times, is in test_storage.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from chaos_support import LONG, PATIENCE, Box, box, speech
from support import SAMPLES, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(not LONG, reason="a minute; make chaos runs it")]

SHORT = SAMPLES / "en-u000.flac"
READS = ("/", "/api/v1/jobs", "/api/v1/capacity", "/limits", "/healthz")


@contextmanager
def locked(of: Box) -> Iterator[Callable[[], float]]:
    """This process holds the write lock until the block ends. Yields how long it has been held, in seconds."""
    with of.connect() as outside:
        outside.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        yield lambda: time.monotonic() - began
        outside.execute("COMMIT")


def submit(of: Box) -> httpx.Response:
    with SHORT.open("rb") as file:
        return of.served.post("/api/v1/transcriptions", files={"file": (SHORT.name, file)})


def read_on(of: Box, over: threading.Event) -> tuple[int, float]:
    """Look at everything until it is over: how often, and the longest time it took."""
    looks, longest = 0, 0.0
    while not over.is_set():
        for path in READS:
            began = time.monotonic()
            answer = of.served.get(path)
            assert answer.status_code == 200, (path, answer.status_code)
            looks, longest = looks + 1, max(longest, time.monotonic() - began)
    return looks, longest


@pytest.mark.timeout(900)
def test_four_seconds_are_waited_out_and_twelve_are_said_while_reads_go_on(tmp_path: Path) -> None:
    with box(tmp_path, STENOBOX_SLOTS="1") as of, ThreadPoolExecutor(2) as threads:
        at_work = of.served.submit(speech(of.folder, 2))
        accepted = {at_work["id"]}
        for seconds, status in ((4, 202), (12, 503)):
            over = threading.Event()
            reading = threads.submit(read_on, of, over)
            with locked(of) as held:
                sending = threads.submit(submit, of)
                if status == 503:
                    sending.result(PATIENCE)
                wait_until(lambda held=held, seconds=seconds: held() >= seconds, PATIENCE)
                print(f"held for {held():.1f} s")
            answer = sending.result(PATIENCE)
            over.set()
            looks, longest = reading.result(PATIENCE)
            print(f"{answer.status_code}; {looks} reads meanwhile, the longest took {longest:.2f} s")
            assert looks > len(READS)
            assert answer.status_code == status, answer.text
            if status == 202:
                accepted.add(answer.json()["id"])
            else:
                assert answer.json()["error"]["code"] == "database_busy"
                assert int(answer.headers["retry-after"]) > 0
        again = submit(of)
        assert again.status_code == 202
        accepted.add(again.json()["id"])
        of.settle(600)
        assert of.served.stop(seconds=60) == 0
        rows = of.must_be_whole(accepted)
    assert set(rows) == accepted  # what was refused left nothing
    assert {(row["state"], row["attempts"], row["crashes"]) for row in rows.values()} == {("completed", 1, 0)}
