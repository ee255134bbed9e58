"""Engines that hang in each way there is, and one that runs out of memory: real processes and signals around a
recognizer of ten lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import wait_until
from test_engine import SPEC, ask, quick  # noqa: F401  a fixture
from test_overload import tool

from tasks.children import ChildDied, KillWatch
from tasks.config import Config
from tasks.engine import patience
from tasks.engine.patience import PATIENCE, Allowed
from tasks.engine.process import EngineProcess, Recognized

SHORT = replace(PATIENCE, silent=3.0, idle=4.0)
"""Seconds. In force only once the engine has loaded and the hang has begun: a busy machine may be slow before."""


@pytest.fixture
def engine(quick: None, config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProcess]:  # noqa: F811
    monkeypatch.setattr(patience, "BUCKET_SECONDS", 1.0)
    monkeypatch.setattr(patience, "BUSY_SHARE", 0.2)  # its housekeeping in one second may be a few hundredths
    engine = EngineProcess(config, SPEC)
    yield engine
    engine.kill()


def begun(pool: ThreadPoolExecutor, engine: EngineProcess, how: str, **options: Any) -> Future[Recognized]:
    """A request that hangs, once it does."""
    at: Future[None] = Future()

    def on_progress(*_: Any) -> None:
        if not at.done():
            at.set_result(None)

    request = pool.submit(ask, engine, how, on_progress=on_progress, **options)
    at.result(60)
    return request


def death(request: Future[Any]) -> ChildDied:
    with pytest.raises(ChildDied) as caught:
        request.result(90)
    return caught.value


@pytest.mark.parametrize(
    ("how", "words"),
    [("hang", "did nothing for 4 s"), ("keep", "gave no sign of life for 3 s")],
    ids=["without Python's lock", "with Python's lock"],
)
def test_a_hang_is_ended_and_says_how(engine: EngineProcess, how: str, words: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        request = begun(pool, engine, how)
        engine._vigil.patience = SHORT if how == "keep" else replace(SHORT, silent=60.0)
        died = death(request)
    assert (died.cause, died.ending, died.deliberate, died.beside, died.loaded) == ("hung", words, False, 0, True)
    assert not psutil.pid_exists(engine.pid)


def test_a_stopped_engine_hangs_too(engine: EngineProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        request = begun(pool, engine, "spin")
        os.kill(engine.pid, signal.SIGSTOP)
        engine._vigil.patience = SHORT
        assert death(request).cause == "hung"
    assert not psutil.pid_exists(engine.pid)


def test_the_one_that_hangs_is_charged_and_the_one_beside_it_is_not(engine: EngineProcess) -> None:
    with ThreadPoolExecutor(2) as pool:
        neighbour = begun(pool, engine, "spin")
        guilty = begun(pool, engine, "hang", allowed=Allowed(step=3.0))
        died = death(guilty)
        assert (died.cause, died.ending, died.deliberate, died.beside) == ("hung", "got no further for 3 s", False, 0)
        assert death(neighbour).deliberate


def test_who_keeps_pythons_lock_can_not_be_told_from_the_one_beside_it(engine: EngineProcess) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [begun(pool, engine, "spin"), begun(pool, engine, "keep")]
        engine._vigil.patience = SHORT
        for request in both:
            died = death(request)
            assert (died.cause, died.deliberate, died.beside) == ("hung", False, 1)


def test_a_model_that_never_loads(quick: None, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(patience, "PATIENCE", replace(PATIENCE, loading=2.0))
    engine = EngineProcess(config, replace(SPEC, model="slow"))
    with ThreadPoolExecutor(1) as pool:
        died = death(pool.submit(ask, engine))
    assert (died.cause, died.ending, died.loaded) == ("hung", "had not loaded its model after 2 s", False)


def test_one_that_works_is_left_alone(engine: EngineProcess) -> None:
    """Short patience, and a job of many small steps beside one that waits for its aligner."""
    ticks = 0
    tick = engine._vigil.tick

    def counted(*arguments: Any) -> Any:
        nonlocal ticks
        ticks += 1
        return tick(*arguments)

    with ThreadPoolExecutor(2) as pool:
        cancels: list[Callable[[], None]] = []
        busy = begun(pool, engine, "spin", on_start=cancels.append)
        engine._vigil.tick = counted  # type: ignore[method-assign]
        engine._vigil.patience = replace(PATIENCE, idle=4.0)  # and however long the beat takes on a busy machine

        def find_aligner(_: str) -> tuple[str | None, str | None]:
            wait_until(lambda: ticks > 8, 60)
            return None, None

        assert pool.submit(ask, engine, find_aligner=find_aligner).result(90).note == "a note"
        cancels[0]()
        assert busy.exception(60) is not None
    assert engine.alive


WORKER = """
import json, os, signal, subprocess, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:3]
from test_engine import FAKE, SPEC, ask
from tasks import children
from tasks.children import ChildDied
from tasks.config import Config
from tasks.engine.process import EngineProcess

def spawn(_module, *arguments, env, **options):
    return subprocess.Popen([sys.executable, "-c", FAKE, *arguments], start_new_session=True,
                            stdin=subprocess.DEVNULL, env=env | {"STENOBOX_PARENT": str(os.getpid())}, **options)

children.spawn = spawn
for how in ("grow", "spin"):
    held = []
    engine = EngineProcess(Config(data=Path(sys.argv[1])), SPEC)
    on_progress = lambda *_: os.kill(engine.pid, signal.SIGKILL) if how == "spin" else None
    try:
        ask(engine, how, on_memory=held.append, on_progress=on_progress)
    except ChildDied as death:
        print(json.dumps([death.cause, death.ending, max(held, default=0)]), flush=True)
"""


@pytest.fixture
def group() -> Iterator[Any]:
    """A memory control group in which a worker and an engine fit, and an engine that grows doesn't."""
    try:
        group = tool.Group(500 * 2**20)
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield group
    group.remove()


def test_a_kill_for_lack_of_memory_is_told_from_every_other(group: Any, tmp_path: Path) -> None:
    """The kernel's own, in a control group of 500 MiB; then one of ours in the same group, whose counter has grown."""
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    here = str(Path(__file__).parent)
    worker = subprocess.run(
        ["sh", "-c", enter, str(group.folder), sys.executable, "-c", WORKER, str(tmp_path), here],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert worker.returncode == 0, worker.stderr
    first, second = map(json.loads, worker.stdout.splitlines())
    assert first[:2] == ["out_of_memory", "was killed (SIGKILL)"]
    assert second[:2] == ["killed", "was killed (SIGKILL)"]
    assert group.oom_kills() == 1
    print(f"the engine held {first[2] >> 20} MiB when it was last heard of")


def test_what_a_kill_was_for() -> None:
    kills = KillWatch()
    assert kills.cause(-signal.SIGKILL) == kills.cause(-signal.SIGTERM) == "killed"
    assert kills.cause(-signal.SIGSEGV) == kills.cause(3) == "engine_crashed"
