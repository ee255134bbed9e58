"""What an exception inside the engine says: that memory ran out, that the device is broken, or neither."""

from __future__ import annotations

import re

_MEMORY = re.compile(
    r"out of memory|_ALLOC_FAILED|failed to allocate|(?:can't|cannot|unable to|could not|couldn't) allocate"
    r"|bad_alloc|bad allocation|not enough (?:gpu |device )?memory|insufficient memory",
    re.IGNORECASE,
)
"""As torch, CTranslate2, cuBLAS ("CUBLAS_STATUS_ALLOC_FAILED"), cuDNN, numpy and the C++ library say it."""
_DEVICE = re.compile(
    r"\bcuda\b|libcublas|libcudnn|\bcublas|\bcudnn|\bcufft|\bcusparse|\bcusolver|\bnvrtc|\bnccl\b|device-side assert"
    r"|\bXid\b|uncorrectable ECC|unspecified launch failure|illegal memory access|illegal instruction"
    r"|\bCUDA_|no kernel image",
    re.IGNORECASE,
)


def code(error: BaseException) -> str:
    """A code of errors.KINDS: out_of_memory, device_failed for an error that stays in the process for good, or
    internal."""
    chain: BaseException | None = error
    found = "internal"
    while chain is not None:
        text = f"{type(chain).__name__}: {chain}"
        if isinstance(chain, MemoryError) or type(chain).__name__ == "OutOfMemoryError" or _MEMORY.search(text):
            return "out_of_memory"
        if _DEVICE.search(text):
            found = "device_failed"
        chain = chain.__cause__
    return found
