"""What native code says as it crashes: each process of ours has Python's faulthandler write where it was, and whoever
reads that makes one line of the log of it.

A child writes into memory that its parent lent it (`children.spawn`). Web, worker and supervisor write into files of
the data folder, which the next start finds.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

VARIABLE = "STENOBOX_CRASH_FD"
MOST_CHARACTERS = 16_000
_MOST_READ = 256_000
"""A hundred threads may be told of, of a hundred calls each."""
_FRAME = re.compile(r'  File "([^"]+)", line (\d+) in (.+)')
_files: dict[str, IO[str]] = {}
"""Open for as long as the process lives: faulthandler knows only their numbers."""


def lend() -> int:
    """A descriptor of memory for a child to write into; of a file without a name where there is no such thing."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        return os.memfd_create("crash")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def take_over() -> None:
    """In a child, first of all: write into what the parent lent, from here on."""
    number = os.environ.pop(VARIABLE, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.set_inheritable(int(number), False)
            faulthandler.enable(int(number))


def read(lent: int) -> str:
    """What was written into it; "" for nothing."""
    with contextlib.suppress(OSError):
        return _told(os.pread(lent, _MOST_READ, 0).decode(errors="replace"))
    return ""


def watch(run: Path, process: str) -> str:
    """In web, worker or supervisor, under its lock: what the last one of that name said as it crashed, told in the log
    as well; this one writes into the same file from here on. run: the folder in the data folder for such files."""
    path, found = run / f"{process}.crash", ""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115  it stays open
        file.seek(0)
        if found := _told(file.read(_MOST_READ)):
            logger.critical("the last %s crashed:\n%s", process, found)
        file.truncate(0)
    except (OSError, ValueError) as error:
        logger.warning("a crash of this process would not be told: %s", error)
        return found
    faulthandler.enable(file)
    _files[process] = file
    return found


def _told(text: str) -> str:
    """The same with the thread that crashed before the others, of which there may be dozens, and no end to it."""
    parts = text.strip().split("\n\n")
    crashed = [part for part in parts[1:] if part.startswith("Current thread")]
    others = [part for part in parts[1:] if part not in crashed]
    return "\n\n".join([*parts[:1], *crashed, *others])[:MOST_CHARACTERS]


def place(text: str) -> str:
    """Where the thread that crashed was, for a sentence: "in align (alignment.py:212)"; "" where nothing says so."""
    _, _, rest = text.partition("Current thread")
    if found := _FRAME.search(rest.partition("\n\n")[0]):
        return f"in {found[3]} ({Path(found[1]).name}:{found[2]})"
    return ""
