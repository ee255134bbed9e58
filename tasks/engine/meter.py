"""What this process and each of its jobs hold in memory, so that estimates become measurements.

Everything is counted in bytes. A job's own part is what the process holds above its libraries and weights, shared
evenly among the jobs that run at that moment: exact for a job alone, a fair share otherwise.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK_SECONDS = 0.05
_STATUS, _MAPS = Path("/proc/self/status"), Path("/proc/self/maps")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Of aligners, which transformers maps; Whisper's own are read."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job needed. base: libraries; load: model and aligner; job: the job's own peak; beside: jobs that ran at
    the same time; seconds: time it was worked on; gpu_load: of the GPU's memory, CUDA itself and what is shared;
    gpu_job: what jobs added there for each of them, 0 where nobody can tell."""

    base: int
    load: int
    job: int
    beside: int
    seconds: float
    gpu_load: int = 0
    gpu_job: int = 0


class Metered:
    """A job while it is metered."""

    def __init__(self) -> None:
        self.peak = 0
        self.beside = 0
        self.began = 0.0
        self.seconds = 0.0
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The job waits for something inside the block, and does not work."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def ended(self) -> None:
        self.seconds = time.monotonic() - self.began - self._waited


class Meter:
    """Samples this process while jobs run."""

    def __init__(self, gpu: Callable[[], int] = lambda: 0) -> None:
        """gpu: bytes that this process holds of a GPU's memory."""
        self._gpu = gpu
        self._gpu_load = self._gpu_most = 0
        self._together = 1
        self._mapped = 0
        self._lock = threading.Lock()
        self._base_resident = 0
        self._base_own = 0
        self._load = 0
        self._loading = False
        self._active: list[Metered] = []
        self._most = 0
        self._wake = threading.Event()

    def imported(self) -> None:
        """The libraries are here, the model is not."""
        self._base_resident, self._base_own = resident(), own()

    def loaded(self) -> None:
        """The model is here; jobs may begin."""
        self._load = max(0, own() - self._base_own)
        self._mapped = mapped()
        self._gpu_load = self._gpu_most = self._gpu()
        threading.Thread(target=self._sample, daemon=True, name="meter").start()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Something shared is loaded inside the block: it counts as load, not as the job's. One block at a time."""
        with self._lock:
            self._loading, before, on_gpu = True, own(), self._gpu()
        try:
            yield
            with self._lock:
                self._load += max(0, own() - before)
                self._mapped = mapped()
                added = max(0, self._gpu() - on_gpu)
                self._gpu_load += added
                self._gpu_most += added
        finally:
            self._loading = False

    @contextmanager
    def metering(self, job: Metered) -> Iterator[None]:
        """A job runs inside the block."""
        job.began = time.monotonic()
        with self._lock:
            self._active.append(job)
            self._wake.set()
        try:
            yield
        finally:
            job.ended()
            self.look()
            with self._lock:
                self._active.remove(job)

    def usage(self, job: Metered) -> Usage:
        # Pools of a GPU never shrink: what the largest crowd so far has made of them is shared among that crowd.
        on_gpu = max(0, self._gpu_most - self._gpu_load) // self._together
        return Usage(
            self._base_resident,
            self._load + self._mapped,
            job.peak,
            job.beside,
            round(job.seconds, 3),
            self._gpu_load,
            on_gpu,
        )

    def most(self) -> int:
        """The most bytes this process has held as its own since this was last asked."""
        with self._lock:
            most, self._most = max(self._most, own()), 0
            return most + self._mapped

    def look(self) -> None:
        """One sample."""
        with self._lock:
            held = own() if self._active else 0
            self._most = max(self._most, held)
            if self._active and not self._loading:
                self._gpu_most = max(self._gpu_most, self._gpu())
                self._together = max(self._together, len(self._active))
            if self._active and not self._loading:  # whose the bytes are is known only once all are loaded
                share = max(0, held - self._base_own - self._load) // len(self._active)
                for job in self._active:
                    job.peak = max(job.peak, share)
                    job.beside = max(job.beside, len(self._active) - 1)

    def _sample(self) -> None:
        while True:
            self._wake.wait()  # an idle engine costs nothing
            self.look()
            with self._lock:
                if not self._active:
                    self._wake.clear()
            time.sleep(TICK_SECONDS)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(psutil.Process().memory_info().rss)


def mapped() -> int:
    """Bytes of weights that are mapped from their files: no job can do without them, though the kernel may drop them
    and read them again."""
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return 0
    total = 0
    for line in lines:
        if line.endswith(_WEIGHTS):
            start, _, end = line.partition(" ")[0].partition("-")
            total += int(end, 16) - int(start, 16)
    return total


def own() -> int:
    """Bytes that are this process's alone: without files that are mapped, which the kernel can drop."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return resident()
