"""What a person named to be sent: recordings, folders of them, links, and lists of all that."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tasks import egress
from tasks.arrivals import looks_like_one, recordings
from tasks.errors import StenoboxError


def read_list(names: list[str], listed: str | None) -> tuple[Path | str, ...]:
    """Paths and links from the command line and from a file with one a line (`-` for stdin), without repeats.

    Raises StenoboxError for a link that is none, a missing or empty file, or nothing at all: before anything is sent.
    """
    if listed is not None:
        try:
            text = sys.stdin.read() if listed == "-" else Path(listed).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise StenoboxError("missing_file", f"The list {listed} can't be read: {reason}.") from None
        lines = (line.strip() for line in text.splitlines())
        names = names + [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise StenoboxError("missing_file", "Name the recordings to send, or a file that lists them with --list.")
    given = dict.fromkeys(name if _LINK.match(name) else Path(name) for name in names)
    found = tuple(dict.fromkeys(one for given_one in given for one in _within(given_one)))
    wrong = [f"{str(one)[:80]}: {reason}" for one in found if (reason := _wrong(one))]
    if wrong:
        raise StenoboxError("missing_file", "Nothing was sent. " + "; ".join(wrong[:20]) + ".")
    return found


def _within(one: Path | str) -> list[Path | str]:
    """A folder's recordings, those in folders in it too; anything else as it is. What is empty is left out."""
    if isinstance(one, str) or not os.path.isdir(one):  # noqa: PTH112  no error for a name that is too long
        return [one]
    found = sorted(recordings(one, _unreadable))
    return [path for path in found if looks_like_one(path.name) and path.stat().st_size] or [one]


def _unreadable(error: OSError) -> None:
    raise StenoboxError("missing_file", f"Nothing was sent. {error.filename}: {error.strerror}.")


_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _wrong(path: Path | str) -> str | None:
    if isinstance(path, str):
        wrong = egress.fault(path, egress.Rules())
        return f"this link {wrong}" if wrong and "a port" not in wrong else None  # ports are the box's decision
    try:
        if not path.exists():
            return "there is no such file"
        if path.is_dir():
            return "there is no recording in it"
        if not path.is_file():
            return "this is not a file"
        return None if path.stat().st_size else "the file is empty"
    except OSError as error:
        return error.strerror or "it can't be read"
