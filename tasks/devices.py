"""What this machine offers a model: CPUs, and a GPU if there is one."""

from __future__ import annotations

from pathlib import Path

import psutil

from tasks.config import Config


def cpus(config: Config) -> int:
    """CPUs this process may use: the operator's word, else the affinity mask."""
    if config.cpus:
        return config.cpus
    process = psutil.Process()
    affinity = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None  # macOS has none
    return len(affinity) if affinity else psutil.cpu_count() or 1


def device(config: Config) -> str:
    """ "cuda" or "cpu". Asks the driver's device file, not torch: the worker must stay light."""
    if config.device != "auto":
        return config.device
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def compute_type(device: str) -> str:
    """Number format of the weights: the smallest that keeps its accuracy there."""
    return "float16" if device == "cuda" else "int8"
