"""What an engine is started with, and which jobs can share one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks import costs


@dataclass(frozen=True, slots=True)
class Spec:
    """model: name; folder: its CTranslate2 files; device: of recognition and voice detection; slots: jobs at once
    that it is made for; threads: CPU threads a job; batch: 30 s windows recognized together, unless a job says
    otherwise; align_device: of word times."""

    model: str
    folder: str
    device: str
    compute_type: str
    slots: int
    threads: int
    batch: int
    align_device: str = "cpu"

    @property
    def numbers(self) -> str:
        """What records call the number format."""
        return costs.numbers(self.device, self.compute_type)

    def serves(self, other: Spec) -> bool:
        """Whether an engine of this spec can run a job that wants the other: slots, threads and batch are how fast it
        will be, not what comes out. How many run at once is decided before (limits), so there is room."""
        return replace(self, slots=other.slots, threads=other.threads, batch=other.batch) == other
