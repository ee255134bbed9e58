"""The NVIDIA GPU that models run on, asked through NVML: the driver's own library, light where torch takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DRIVER = Path("/dev/nvidiactl")
"""The driver's device file: only where it is does the rest of this module look further."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """name: for people; memory: bytes in all."""

    name: str
    memory: int


@cache  # a GPU doesn't change while we run, and web and worker must not come to differ with the driver's moods
def find(visible: str | None) -> Gpu | str:
    """The GPU that CUDA takes first, or the part of a sentence that says why there is none.

    visible: CUDA_VISIBLE_DEVICES, None where it isn't set. Of it the first entry counts: an index, a UUID or the
    beginning of one, also of a MIG instance.
    """
    if not DRIVER.exists():
        return "no NVIDIA GPU was found"
    first = None if visible is None else visible.split(",")[0].strip()
    if first in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            device = _device(pynvml, first or "0")
            if device is None:
                return f"the NVIDIA driver shows no GPU {first or 0} that CUDA could use"
            return Gpu(str(pynvml.nvmlDeviceGetName(device)), int(pynvml.nvmlDeviceGetMemoryInfo(device).total))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return f"the NVIDIA driver can't be asked ({error})"


def _device(nvml: Any, named: str) -> Any:
    """Handle of a GPU or an instance of one; None where there is none of that name. Raises NVMLError."""
    if named.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(named)
    gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    if named.isdigit():
        found = gpus[int(named) : int(named) + 1]
    else:
        found = [gpu for gpu in gpus if nvml.nvmlDeviceGetUUID(gpu).startswith(named)]
    return _instance(nvml, found[0]) if found else None


def _instance(nvml: Any, gpu: Any) -> Any:
    """A GPU that is divided (MIG) gives CUDA its first instance, any other all of itself."""
    try:
        divided, _ = nvml.nvmlDeviceGetMigMode(gpu)
    except nvml.NVMLError_NotSupported:
        return gpu
    if not divided:
        return gpu
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            return nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
        except nvml.NVMLError_NotFound:
            continue  # numbers may have gaps
    return None
