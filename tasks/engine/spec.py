"""What an engine is started with; two jobs can share an engine when their specs are equal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spec:
    """model: name; folder: its CTranslate2 files; device: of recognition and voice detection; slots: jobs at once;
    threads: CPU threads a job; batch: 30 s windows recognized together; align_device: of word times."""

    model: str
    folder: str
    device: str
    compute_type: str
    slots: int
    threads: int
    batch: int
    align_device: str = "cpu"
