"""What happens here, counted for Prometheus by its own client library, in files that web and worker share.

Nothing is counted, and the library isn't even imported, unless STENOBOX_METRICS names an address: `begin` is called
first thing by each process that counts. The gauges of the moment are read from the database when somebody asks for
them: see `webapp.scrape`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config import Config
from tasks.jobs import Job

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: where the processes keep their counts, one file each."""

_WAITS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_WORK = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)
_FACTORS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)

_instruments: dict[str, Any] = {}


def folder(config: Config) -> Path:
    """Where this box's processes keep their counts."""
    return config.data / "run" / "metrics"


def forget(config: Config) -> None:
    """At the start of a box: until then, what processes counted that have ended is summed up with the rest."""
    shutil.rmtree(folder(config), ignore_errors=True)


def begin(config: Config) -> None:
    """Count from here on, in this process, if the operator wants metrics."""
    if not config.metrics or _instruments:
        return
    kept = folder(config)
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[FOLDER] = str(kept)  # read by the library when it is imported
    from prometheus_client import CollectorRegistry

    _instruments.update(_make(CollectorRegistry()))


def _make(registry: CollectorRegistry) -> dict[str, Any]:
    from prometheus_client import Counter, Histogram

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"stenobox_{name}", text, labels, registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"stenobox_{name}", text, labels, registry=registry, buckets=buckets)

    return {
        "accepted": counter("submissions_accepted", "Submissions that got a place."),
        "refused": counter("submissions_refused", "Submissions that were refused, by code.", "code"),
        "finished": counter("jobs_finished", "Jobs that came to an end, by state and code.", "state", "code"),
        "deaths": counter("deaths", "Attempts whose process died or was ended, by cause.", "cause"),
        "engines": counter("engine_starts", "Engines started."),
        "wait": histogram("queue_wait_seconds", "From submission to the start of the first attempt.", _WAITS),
        "stage": histogram("stage_seconds", "Time in each stage of an attempt.", _WORK, "stage"),
        "factor": histogram("realtime_factor", "Processing time / audio time of completed jobs.", _FACTORS, "model"),
    }


def _if_counting(name: str, act: Callable[[Any], None]) -> None:
    if instrument := _instruments.get(name):
        act(instrument)


def accepted() -> None:
    """A submission got a place."""
    _if_counting("accepted", lambda it: it.inc())


def refused(code: str) -> None:
    """A submission was refused with this code."""
    _if_counting("refused", lambda it: it.labels(code).inc())


def waited(seconds: float) -> None:
    """A job's first attempt began so long after it was submitted."""
    _if_counting("wait", lambda it: it.observe(max(0.0, seconds)))


def staged(stage: str, seconds: float) -> None:
    """An attempt has left a stage in which it spent so long."""
    _if_counting("stage", lambda it: it.labels(stage).observe(max(0.0, seconds)))


def finished(job: Job) -> None:
    """A job came to an end."""
    _if_counting("finished", lambda it: it.labels(job.state.value, job.error.code if job.error else "").inc())
    factor = job.realtime_factor
    if factor is not None:
        _if_counting("factor", lambda it: it.labels(job.params.model).observe(factor))


def died(cause: str) -> None:
    """An attempt ended because its process did. cause: a code of errors.KINDS."""
    _if_counting("deaths", lambda it: it.labels(cause).inc())


def engine_started() -> None:
    """An engine was started."""
    _if_counting("engines", lambda it: it.inc())
