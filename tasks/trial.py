"""Trials on the engine itself: so many recordings at once, timed and weighed. No queue, no database, no web."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks import models
from tasks.children import ChildDied
from tasks.config import Config
from tasks.decode import BYTES_PER_SECOND, decode
from tasks.engine.engines import Engines
from tasks.engine.meter import Usage
from tasks.engine.process import EngineProcess
from tasks.engine.spec import Spec
from tasks.errors import StenoboxError

GAP_SECONDS = 0.7
"""Silence between the repeats of the sample: people pause."""
TICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it. wall: seconds from the first start to the last end, model loaded; cpu: seconds of CPU time;
    peak: most bytes of the engine in memory; usages: what the engine's own meter says of each job."""

    at_once: int
    seconds: float
    wall: float
    cpu: float
    peak: int
    usages: tuple[Usage, ...]


def make_sound(target: Path, seconds: float) -> None:
    """Speech of that length as the engine reads it: the packaged sample again and again, with pauses."""
    decode(models.SAMPLE, target, 60)
    once = target.read_bytes() + bytes(4 * int(GAP_SECONDS * BYTES_PER_SECOND / 4))
    length = 4 * round(seconds * BYTES_PER_SECOND / 4)
    target.write_bytes((once * (length // len(once) + 1))[:length])


@contextmanager
def engine_of(config: Config, spec: Spec) -> Iterator[EngineProcess]:
    """An engine with its model loaded, ended after the block. Raises StenoboxError."""
    engines = Engines(config)
    try:
        with engines.use(spec, lambda: False) as engine:
            while not engine.loaded.wait(0.2):
                if not engine.alive:
                    raise StenoboxError("engine_crashed", _ended(spec))
            yield engine
    except ChildDied:
        raise StenoboxError("engine_crashed", _ended(spec)) from None
    finally:
        engines.stop()


def _ended(spec: Spec) -> str:
    return f"The engine ended early with {spec.model} and {spec.slots} at once. Memory may have run out; try fewer."


def run(engine: EngineProcess, sound: Path, aligner: Path | None) -> Trial:
    """As many at once as the engine has slots, all with the same sound. aligner: for English, None for none."""
    slots = engine.spec.slots

    def one(_: int) -> Usage:
        return engine.transcribe(
            sound,
            "en",
            on_progress=lambda stage, progress: None,
            find_aligner=lambda language: (str(aligner) if aligner else None, None),
            on_start=lambda cancel: None,
        ).usage

    process = psutil.Process(engine.pid)
    before = _cpu(process)
    with _watching(process) as peak, ThreadPoolExecutor(slots) as threads:
        began = time.monotonic()
        usages = tuple(threads.map(one, range(slots)))
        wall = time.monotonic() - began
    return Trial(slots, sound.stat().st_size / BYTES_PER_SECOND, wall, _cpu(process) - before, peak[0], usages)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def _watching(process: psutil.Process) -> Iterator[list[int]]:
    """A list whose only element is the most bytes the process was seen to hold."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while True:
            try:
                peak[0] = max(peak[0], process.memory_info().rss)
            except psutil.Error:  # gone; whoever waits for its answer says so
                return
            if over.wait(TICK_SECONDS):
                return

    watcher = threading.Thread(target=look, daemon=True, name="watch")
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
