"""What a disk that says no means, as sentences for people; and whether a folder takes files now."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tasks.errors import StenoboxError

FULL = (errno.ENOSPC, errno.EDQUOT)
FAILING = (errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)
"""A disk that was mounted read-only, is broken, is no longer there, or belongs to somebody else."""


def refusal(error: OSError) -> StenoboxError | None:
    """disk_full or storage_failing, with a sentence; None when the error is not about the disk."""
    if error.errno in FULL:
        return StenoboxError("disk_full", "The disk of this box is full. Free some space and try again.")
    if error.errno not in FAILING:
        return None
    if error.errno == errno.EIO:
        sentence = f"The disk of this box reports errors ({error.strerror}): what is on it may be damaged."
    else:
        sentence = f"The data folder can't be written ({error.strerror})."
    return StenoboxError("storage_failing", f"{sentence} Look at the disk of this box.", retry_after=60)


def write_error(folder: Path) -> OSError | None:
    """By writing, not by asking: permissions, mounts, quotas and broken disks all say no in their own way."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:  # without a name, where the system can
            probe.write(b"x")
    except OSError as error:
        return error
    return None


def refuses(folder: Path) -> bool:
    """Whether nothing can be written there now, for another reason than that it is full."""
    error = write_error(folder)
    return error is not None and error.errno in FAILING


def is_full(folder: Path) -> bool:
    """Whether nothing can be written there now because no space is left, of the disk or of a quota."""
    error = write_error(folder)
    return error is not None and error.errno in FULL


def room(folder: Path, spare: int) -> int:
    """Bytes that may be written there, so that `spare` of them stay free; negative where fewer are."""
    return shutil.disk_usage(folder).free - spare


def takes_work(folder: Path, spare: int) -> bool:
    """Whether work that leaves files there may begin: they can be written, and `spare` bytes are free."""
    return write_error(folder) is None and room(folder, spare) >= 0


def begin_writing(handle: int, start: int, end: int) -> None:
    """Have the kernel write these bytes of a file to the disk now, instead of when it is synced: a gigabyte would keep
    who waits for that as long again as it took to come. Only advice: what can't take it does without."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # It begins to write what is not on disk yet, and drops what is: nothing by then.
            os.posix_fadvise(handle, start, end - start, os.POSIX_FADV_DONTNEED)
