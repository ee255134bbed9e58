"""What an engine is started with; two jobs can share an engine when their specs are equal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spec:
    """model: name; folder: its CTranslate2 files; slots: jobs at once; threads: CPU threads a job; batch: 30 s
    windows recognized together."""

    model: str
    folder: str
    device: str
    compute_type: str
    slots: int
    threads: int
    batch: int
