"""Why a file could not be read: by what it holds, or by the disk it is on."""

from __future__ import annotations

import logging
from pathlib import Path

from tasks import disk
from tasks.decode.facts import UNDECODABLE
from tasks.errors import StenoboxError

FULL = "The disk filled up while this file was read. Free some space and try again."


def why(error: Exception, source: Path) -> StenoboxError:
    """What a person is told: whether it is the disk that failed, or the file that can't be read."""
    if isinstance(error, StenoboxError) and error.code != "undecodable":
        return error
    if isinstance(error, OSError) and not _of_libav(error) and (ours := disk.refusal(error)):
        return StenoboxError("disk_full", FULL) if ours.code == "disk_full" else ours
    try:
        must_be_readable(source)
    except StenoboxError as failing:
        return failing
    if isinstance(error, StenoboxError):
        return error
    if isinstance(error, MemoryError):
        return StenoboxError("undecodable", f"Reading this file needs more memory than it may take. {UNDECODABLE}")
    # What libav makes of a broken header: ValueError, IndexError, … A retry would end the same way.
    logging.getLogger(__name__).warning("job %s: can't be read", source.parent.name, exc_info=error)
    return StenoboxError("undecodable", UNDECODABLE)


def must_be_readable(source: Path) -> None:
    """libav says "Input/output error" of damaged files and of broken disks alike, so what looks damaged is read once
    more without it. Raises the disk's error."""
    try:
        with open(source, "rb") as file:
            while file.read(2**20):
                pass
    except FileNotFoundError:  # deleted while it was read
        raise StenoboxError("media_missing", "The recording is no longer on this box. Send it again.") from None
    except OSError as error:
        if failing := disk.refusal(error):
            raise failing from error


def _of_libav(error: OSError) -> bool:
    """Whether it is one of PyAV's errors: those with a number of the system's are OSErrors, too."""
    return type(error).__module__.partition(".")[0] == "av"
