"""A job caught in the middle of its work, and held there: however fast this machine is, and however seldom a heartbeat
writes where a job is, nobody comes too late."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from support import wait_until

from tasks.sqlite import driver as sqlite

BEATS = 3
"""Heartbeats after which the row tells all that an engine had said before it was stopped."""


def row(data: Path, job_id: str) -> dict[str, Any]:
    """A job's row, read beside whatever runs; {} when there is none."""
    with closing(sqlite.connect(f"file:{data}/jobs.db?mode=ro", uri=True, timeout=60)) as connection:
        connection.row_factory = sqlite.Row
        found = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return dict(found) if found else {}


def journal(data: Path, job_id: str) -> list[dict[str, Any]]:
    """The whole lines of the job's journal."""
    path = data / "media" / job_id / "journal"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def engines(server: int) -> list[psutil.Process]:
    """Those below a running `stenobox serve` or worker."""
    found = []
    for process in psutil.Process(server).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "tasks.engine.child" in process.cmdline():
                found.append(process)
    return found


@contextmanager
def held(data: Path, server: int, job_id: str, stage: str = "transcribe", known: int = 1) -> Iterator[psutil.Process]:
    """The job in that stage, and its engine, which is stopped until the block ends or `resume` is called.

    stage: "transcribe", at its beginning, once `known` lines are in its journal; or "align", behind the last window.
    server: pid of what runs it.
    """
    path = data / "media" / job_id / "journal"
    touched = path.stat().st_mtime_ns if path.exists() else 0
    engine: psutil.Process | None = None

    def there() -> bool:
        now = row(data, job_id)
        assert now["finished_at"] is None, f"it is too late: {now}"
        return bool(now["state"] == "running" and now["stage"] == stage)

    def far_enough() -> bool:
        nonlocal engine
        if engine is None or not engine.is_running():  # looked for now, since it takes a while
            engine = next(iter(engines(server)), None)
        begun = path.exists() and path.stat().st_mtime_ns != touched  # by this attempt's engine
        lines = journal(data, job_id) if begun else []
        if stage == "transcribe" and known <= 1:
            return bool(engine) and (bool(lines) or there())
        if stage == "transcribe":
            return bool(engine) and len(lines) >= known
        windows = [len(line["windows"]) for line in lines if line["type"] == "speech"]
        return bool(engine) and (sum(line["type"] == "window" for line in lines) in windows or there())

    wait_until(far_enough, every=0.003)
    assert engine is not None
    engine.suspend()
    step = 0.02
    while not _there_or_not(there, lambda: row(data, job_id)["elapsed"]):
        engine.resume()
        time.sleep(step)
        engine.suspend()
        step *= 1.3
    try:
        yield engine
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            engine.resume()


def _there_or_not(there: Any, beat: Any) -> bool:
    """Whether the row says so, once enough heartbeats have written it."""
    beats: set[float] = set()

    def look() -> bool:
        beats.add(beat())
        return there() or len(beats) > BEATS

    wait_until(look)
    return bool(there())
