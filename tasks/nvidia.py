"""The NVIDIA GPU that models run on, asked through NVML: the driver's own library, light where torch takes seconds."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

AGAIN_SECONDS = 60.0
"""How long "none" counts: a driver may be loaded, or installed, after us. A GPU that was found stays."""

_lock = threading.Lock()
_answers: dict[str | None, tuple[float, Gpu | str]] = {}


@dataclass(frozen=True, slots=True)
class Gpu:
    """name: for people; memory: bytes in all; capability: CUDA's number for what it can do; driver: its version; uuid:
    what tells it from others; idle: further GPUs, which nothing here uses."""

    name: str
    memory: int
    capability: tuple[int, int] | None = field(default=None, compare=False)
    driver: str = field(default="", compare=False)
    uuid: str = field(default="", compare=False)
    idle: int = field(default=0, compare=False)


NONE = "no NVIDIA GPU was found"


def find(visible: str | None) -> Gpu | str:
    """The GPU that CUDA takes first, or the part of a sentence that says why there is none.

    visible: CUDA_VISIBLE_DEVICES, None where it isn't set. Of it the first entry counts: an index, a UUID or the
    beginning of one, also of a MIG instance.
    """
    with _lock:
        asked, answer = _answers.get(visible, (0.0, NONE))
        if isinstance(answer, str) and (not asked or time.monotonic() - asked >= AGAIN_SECONDS):
            answer = _find(visible)
            _answers[visible] = time.monotonic(), answer
        return answer


def held(visible: str | None, but: set[int]) -> int | None:
    """Bytes of that GPU's memory that are taken, without what the processes `but` hold; None where nobody can tell."""
    try:
        with _asking() as nvml:
            device = _device(nvml, _first(visible) or "0")
            if device is None:
                return None
            used = int(nvml.nvmlDeviceGetMemoryInfo(device).used)
            ours = [one for one in nvml.nvmlDeviceGetComputeRunningProcesses(device) if one.pid in but]
            return max(0, used - sum(int(one.usedGpuMemory or 0) for one in ours))
    except Exception:  # whatever a driver lacks: this is a help, not a need
        return None


def watch(visible: str | None) -> Callable[[], int]:
    """A look at how many bytes of that GPU's memory this process holds; begun before it holds any. By its number, or
    where a container hides that, by what was added to the whole; 0 where nobody can tell."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        device = _device(nvml, _first(visible) or "0")
        before = int(nvml.nvmlDeviceGetMemoryInfo(device).used)
    except Exception:
        return lambda: 0

    def look() -> int:
        try:
            for one in nvml.nvmlDeviceGetComputeRunningProcesses(device):
                if one.pid == os.getpid() and one.usedGpuMemory:
                    return int(one.usedGpuMemory)
            return max(0, int(nvml.nvmlDeviceGetMemoryInfo(device).used) - before)
        except Exception:
            return 0

    return look


def _find(visible: str | None) -> Gpu | str:
    if sys.platform == "darwin":
        return NONE
    first = _first(visible)
    if first in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    import pynvml

    try:
        with _asking() as nvml:
            device = _device(nvml, first or "0")
            if device is None:
                return f"the NVIDIA driver shows no GPU {first or 0} that CUDA could use"
            return Gpu(
                str(nvml.nvmlDeviceGetName(device)),
                int(nvml.nvmlDeviceGetMemoryInfo(device).total),
                _told(lambda: tuple(map(int, nvml.nvmlDeviceGetCudaComputeCapability(device))), None),
                _told(lambda: str(nvml.nvmlSystemGetDriverVersion()), ""),
                _told(lambda: str(nvml.nvmlDeviceGetUUID(device)), ""),
                max(0, _visible(nvml, visible) - 1),
            )
    except pynvml.NVMLError as error:
        if type(error).__name__ == "NVMLError_LibraryNotFound":
            return NONE
        return f"the NVIDIA driver can't be asked ({error})"


@contextmanager
def _asking() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _first(visible: str | None) -> str | None:
    return None if visible is None else visible.split(",")[0].strip()


def _visible(nvml: Any, visible: str | None) -> int:
    """How many GPUs CUDA may see."""
    if visible is None:
        return int(nvml.nvmlDeviceGetCount())
    return len([name for name in visible.split(",") if name.strip()])


def _told(ask: Callable[[], Any], otherwise: Any) -> Any:
    """What a driver tells that some of them don't."""
    try:
        return ask()
    except Exception:
        return otherwise


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
