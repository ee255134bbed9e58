"""What an exception inside the engine says: texts as torch, CTranslate2, cuBLAS, cuDNN and numpy write them."""

from __future__ import annotations

import pytest

from tasks.engine import faults


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"),
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA failed to allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("Unable to allocate 3.00 GiB for an array with shape (402653184,)"),
        OSError(12, "Cannot allocate memory"),
        OutOfMemoryError("Allocation on device 0 would exceed allowed memory."),
    ],
)
def test_memory_in_every_spelling(error: Exception) -> None:
    assert faults.code(error) == "out_of_memory"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA failed with error uncorrectable ECC error encountered",
        "CUDA driver version is insufficient for CUDA runtime version",
        "CUDA error: no kernel image is available for execution on the device",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuBLAS failed with status CUBLAS_STATUS_NOT_INITIALIZED",
        "Library libcublas.so.12 is not found or cannot be loaded",
        "Could not load library libcudnn_ops.so.9",
        "Assertion `index < size` failed. device-side assert triggered",
        "No CUDA GPUs are available",
    ],
)
def test_a_broken_device(text: str) -> None:
    assert faults.code(RuntimeError(text)) == "device_failed"


@pytest.mark.parametrize(
    "error", [RuntimeError("no such luck"), ValueError("max() arg is an empty sequence"), FileNotFoundError("a.f32")]
)
def test_everything_else_says_nothing_of_the_device(error: Exception) -> None:
    assert faults.code(error) == "internal"


def test_what_caused_it_counts_too() -> None:
    error = ValueError("the window failed")
    error.__cause__ = RuntimeError("CUDA out of memory")
    assert faults.code(error) == "out_of_memory"
