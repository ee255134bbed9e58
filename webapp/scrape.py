"""/metrics for Prometheus, on a port of its own: never on the public one, and never in the way of requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tasks import __version__, machine, store
from tasks.actions import Box
from tasks.errors import StenoboxError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric


class Now:
    """A collector of what the box holds at the moment it is asked, from the database and the machine."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"stenobox_{name}", text, value=value)

        yield InfoMetricFamily("stenobox", "The version that runs.", value={"version": __version__})
        memory = machine.memory()
        yield gauge("memory_limit_bytes", "The tightest limit on memory.", memory.limit.value)
        yield gauge("memory_used_bytes", "In use of it, without cache the kernel can take back.", memory.used)
        yield gauge("memory_headroom_bytes", "What is left of it.", memory.limit.value - memory.used)
        yield gauge("disk_free_bytes", "Free on the disk of the data folder.", self._box.lookout.disk_free())
        with suppress(StenoboxError):  # a busy database: what is above is still worth having
            yield from self._of_database(gauge)

    def _of_database(self, gauge: Any) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        limits, load = self._box.limits(), self._box.load()
        jobs = GaugeMetricFamily("stenobox_jobs", "Jobs that hold a place, by state.", labels=["state"])
        for state in ("receiving", "queued", "running"):
            jobs.add_metric([state], getattr(load, state))
        yield jobs
        yield gauge("slots", "Jobs that may run at once.", limits.slots)
        yield gauge("places", "Jobs that may be active at once.", limits.places)
        yield gauge("oldest_wait_seconds", "How long the first in line has waited, 0 when none does.", self._oldest())
        guard = GaugeMetricFamily("stenobox_guard", "1 for what the pressure guard does now.", labels=["level"])
        now = store.guard(self._box.database)
        for level in ("calm", "hold", "unload", "stop"):
            guard.add_metric([level], level == now)
        yield guard

    def _oldest(self) -> float:
        return store.oldest_wait(self._box.database)


def registry_of(box: Box) -> CollectorRegistry:
    """All of this box: what its processes have counted, and what it holds now."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Now(box))
    return registry


def serve(box: Box, address: str) -> Any:
    """Answer GET /metrics at "host:port" from a thread. Returns a function that stops. Raises OSError when the address
    is taken."""
    from prometheus_client import start_http_server

    host, _, port = address.rpartition(":")
    server, thread = start_http_server(int(port), host.strip("[]"), registry_of(box))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop
