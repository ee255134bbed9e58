"""A driver's library for tests: two GPUs, or what a test says."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import nvidia

GIB = 2**30
UUIDS = ["GPU-aaaa-1111", "GPU-bbbb-2222"]
NAMES = {0: "NVIDIA H100", 1: "NVIDIA L4", "MIG-cccc": "NVIDIA H100 MIG 1g.10gb"}
MEMORY = {0: 80 * GIB, 1: 24 * GIB, "MIG-cccc": 10 * GIB}


class FakeNvml:
    """Stands for the module pynvml. broken: what starting it fails with; instances: of a divided first GPU, None for
    a gap. capability: of all; missing: there is no
    driver; taken: bytes in use. asked: how often it was started; open: how often it wasn't shut down."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    class NVMLError_NotFound(NVMLError):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    def __init__(
        self,
        broken: str = "",
        instances: list[Any] | None = None,
        capability: tuple[int, int] = (9, 0),
        missing: bool = False,
        taken: int = 0,
    ) -> None:
        self.capability, self._missing, self.taken = capability, missing, taken
        self.asked = self.open = 0
        self._broken = broken
        self._instances = instances

    def nvmlInit(self) -> None:
        self.asked += 1
        if self._missing:
            raise self.NVMLError_LibraryNotFound("NVML Shared Library Not Found")
        if self._broken:
            raise self.NVMLError(self._broken)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(UUIDS)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        if uuid not in NAMES:
            raise self.NVMLError_NotFound("Not Found")
        return uuid

    def nvmlDeviceGetUUID(self, gpu: Any) -> str:
        return gpu if isinstance(gpu, str) else UUIDS[gpu]

    def nvmlDeviceGetName(self, gpu: Any) -> str:
        return NAMES[gpu]

    def nvmlDeviceGetMemoryInfo(self, gpu: Any) -> Any:
        return SimpleNamespace(total=MEMORY[gpu], used=self.taken)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Any) -> list[Any]:
        return []

    def nvmlDeviceGetCudaComputeCapability(self, gpu: Any) -> tuple[int, int]:
        return self.capability

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetMigMode(self, gpu: int) -> list[int]:
        if gpu == 1:
            raise self.NVMLError_NotSupported("Not Supported")
        return [0, 0] if self._instances is None else [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: int) -> int:
        return len(self._instances or [])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: int, number: int) -> Any:
        if self._instances is None or self._instances[number] is None:
            raise self.NVMLError_NotFound("Not Found")
        return "MIG-cccc"


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None = None) -> FakeNvml:
    """A machine with an NVIDIA driver."""
    nvml = nvml or FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    forget(monkeypatch)
    return nvml


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found from here on is remembered until the test ends."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvidia, "_answers", {})
