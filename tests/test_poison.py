"""A recording that kills its engine each time: real engine processes around a recognizer of ten lines, the real
decoder, database and pipeline, two at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import change_limit
from test_pipeline import planner

from tasks import children, models, store
from tasks.actions import Box
from tasks.capacity import first_limits
from tasks.engine.engines import Engines
from tasks.heartbeat import Heartbeat
from tasks.jobs import MAX_CRASHES, Params, State
from tasks.pipeline import Pipeline

SECONDS = 90.0

ENGINE = """
import os, signal, sys, time, types
module = types.ModuleType("tasks.engine.recognizer")

class Recognizer:
    def __init__(self, spec, meter):
        pass

    def transcribe(self, sound, language, on_progress, find_aligner, *_):
        on_progress("transcribe", 0.5)
        if language in ("SIGSEGV", "SIGKILL"):
            os.kill(os.getpid(), getattr(signal, language))
        time.sleep(0.3)
        return {"language": "en", "seconds": 1.0, "text": "", "segments": []}, None

module.Recognizer = Recognizer
sys.modules[module.__name__] = module
from tasks.engine import child
child.main()
"""


class Worker:
    """Two threads that take the first in line again and again, as Huey's do when they are woken."""

    def __init__(self, box: Box) -> None:
        self.box = box
        change_limit(box.database, "slots", 2)
        change_limit(box.database, "queue_limit", 20)
        first = first_limits(box.config, 2)
        plans = planner(2, first=lambda: first, limits=lambda: store.limits(box.database, first))
        self.engines = Engines(box.config)
        self.heartbeat = Heartbeat(box.config, plans, box.database, box.queue, self.engines)
        self.pipeline = Pipeline(box.config, box.database, box.queue, self.engines, self.heartbeat, "worker", plans)

    def submit(self, how: str) -> str:
        """A recording on which the recognizer behaves like that."""
        with self.box.receive(f"{how}.flac") as receiving:
            receiving.write(models.SAMPLE.read_bytes())
            return receiving.queue(Params("demo", how)).id

    def work(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._until_nothing_waits, range(2)))

    def _until_nothing_waits(self, _: int) -> None:
        end = time.monotonic() + SECONDS
        while store.list_active(self.box.database):
            assert time.monotonic() < end
            self.pipeline.run("0" * 32)
            self.heartbeat.beat()
            time.sleep(0.05)


@pytest.fixture
def worker(box: Box, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    real = children.spawn

    def spawn(module: str, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
        if module != "tasks.engine.child":
            return real(module, *arguments, env=env, **options)
        command, env = [sys.executable, "-c", ENGINE, *arguments], env | {"STENOBOX_PARENT": str(os.getpid())}
        return subprocess.Popen(command, env=env, start_new_session=True, stdin=subprocess.DEVNULL, **options)

    monkeypatch.setattr(children, "spawn", spawn)
    worker = Worker(box)
    yield worker
    worker.engines.stop()


def story(worker: Worker, job_id: str) -> list[tuple[Any, ...]]:
    return [(one.outcome, one.cause, one.charged) for one in store.list_attempts(worker.box.database, job_id)]


@pytest.mark.parametrize(("poison", "code"), [("SIGSEGV", "engine_crashed"), ("SIGKILL", "killed")])
def test_it_is_given_up_after_three_and_its_neighbours_complete(worker: Worker, poison: str, code: str) -> None:
    before = [worker.submit("en") for _ in range(2)]
    guilty = worker.submit(poison)
    after = [worker.submit("en") for _ in range(2)]
    worker.work()
    job = worker.box.get(guilty)
    assert (job.state, job.crashes, job.attempts) == (State.FAILED, MAX_CRASHES, MAX_CRASHES)
    assert job.error is not None
    assert job.error.code == code
    assert job.error.message.startswith("Tried 3 times: ")
    assert story(worker, guilty) == [(State.QUEUED, code, True)] * 2 + [(State.FAILED, code, True)]
    for job_id in before + after:
        neighbour = worker.box.get(job_id)
        assert neighbour.state == State.COMPLETED
        assert neighbour.crashes <= 1  # the first time nobody can tell whose fault it was; then it runs alone
        assert story(worker, job_id)[-1] == (State.COMPLETED, None, False)
