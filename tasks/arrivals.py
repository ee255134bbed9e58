"""Which files of a watched folder are recordings that have arrived: whole, as far as that can be seen from outside."""

from __future__ import annotations

import mimetypes
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

OURS = ("working", "done", "failed")
"""Folders in the watched one that are ours."""
DEPTH = 8
"""Folders in folders that are looked into."""
UNFINISHED = (
    ".part", ".partial", ".crdownload", ".download", ".opdownload", ".tmp", ".temp", ".filepart", ".aria2", ".!qb",
    ".!ut", ".bc!", ".swp", ".lock", "~",
)  # fmt: skip
"""Names that browsers and copying programs give to what they are still writing, or lay beside it."""
LITTER = (
    ".srt", ".vtt", ".ass", ".sub", ".lrc", ".nfo", ".cue", ".log", ".ini", ".db", ".md", ".yaml", ".yml", ".lnk",
    ".url", ".torrent", ".sha256", ".md5", ".bak", ".sqlite", ".rtf", ".docx", ".xlsx", ".pptx", ".odt", ".heic",
    ".webp", ".rar", ".7z", ".gz", ".xz",
)  # fmt: skip
"""What lies beside recordings and is none, where `mimetypes` doesn't know it."""
NOT_LOOKED_INTO = ("@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx")
_TYPES = mimetypes.MimeTypes()


@dataclass(frozen=True, slots=True)
class _Still:
    """What a file looked like, and since when (monotonic seconds) it has not changed."""

    size: int
    mtime_ns: int
    since: float


class Arrivals:
    """Of one folder; `settled` is one look. settle: seconds that a file's size and time must stand still."""

    def __init__(self, folder: Path, settle: float, on_error: Callable[[OSError], None]) -> None:
        self._folder, self._settle, self._on_error = folder, settle, on_error
        self._still: dict[Path, _Still] = {}

    def settled(self) -> list[Path]:
        """Recordings that have arrived."""
        now, seen, settled = time.monotonic(), dict[Path, _Still](), list[Path]()
        for path in recordings(self._folder, self._on_error, leave=OURS):
            if not looks_like_one(path.name) or (found := _look(path)) is None:
                continue
            before = self._still.get(path)
            if before is None or (before.size, before.mtime_ns) != (found.st_size, found.st_mtime_ns):
                before = _Still(found.st_size, found.st_mtime_ns, now)
            seen[path] = before
            if now - before.since >= self._settle:
                settled.append(path)
        for path in being_written(settled):  # looked at again once it has stood still for as long again
            seen[path] = _Still(seen[path].size, seen[path].mtime_ns, now)
            settled.remove(path)
        self._still = seen
        return settled


def recordings(folder: Path, on_error: Callable[[OSError], None], leave: Iterable[str] = ()) -> Iterator[Path]:
    """Plain files in a folder and in those in it, but for hidden ones. No link is followed. leave: names of folders
    right in it that are passed by; on_error: told of one that can't be looked into."""
    for at, folders, files in os.walk(folder, onerror=on_error):
        depth = len(Path(at).relative_to(folder).parts)
        folders[:] = sorted(
            name
            for name in folders
            if depth < DEPTH
            and not name.startswith(".")
            and name.lower() not in NOT_LOOKED_INTO
            and (depth or name not in leave)
        )
        for name in sorted(files):
            path = Path(at, name)
            if not name.startswith(".") and (found := _look(path)) is not None and stat.S_ISREG(found.st_mode):
                yield path


def looks_like_one(name: str) -> bool:
    """Whether a file of this name may be a recording that is whole. One that says nothing of itself may."""
    lower = name.lower()
    if lower.startswith(("~$", "._")) or lower.endswith(UNFINISHED + LITTER):
        return False
    kind, coding = _TYPES.guess_type(lower)
    return coding is None and (kind is None or kind.startswith(("audio/", "video/")))


def being_written(paths: Iterable[Path]) -> list[Path]:
    """Those of these files that a process whose descriptors we may see has open for writing: one of our own user, or
    any if we are root. Nobody else's can be known."""
    # A lease would tell of every process, but on network disks it is refused for files that nobody has open.
    wanted = {(found.st_dev, found.st_ino): path for path in paths if (found := _look(path)) is not None}
    if not wanted or not os.path.isdir("/proc/self/fdinfo"):  # noqa: PTH112
        return []
    written = set()
    for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            numbers = os.listdir(f"/proc/{process}/fd")  # noqa: PTH208
        except OSError:  # another user's, or gone
            continue
        for number in numbers:
            try:
                found = os.stat(f"/proc/{process}/fd/{number}")  # noqa: PTH116
                if (path := wanted.get((found.st_dev, found.st_ino))) is not None and _writes(process, number):
                    written.add(path)
            except OSError:
                continue
    return sorted(written)


def _writes(process: str, number: str) -> bool:
    with open(f"/proc/{process}/fdinfo/{number}") as file:
        flags = next((int(line.split()[1], 8) for line in file if line.startswith("flags:")), 0)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _look(path: Path) -> os.stat_result | None:
    """None for one that was taken away meanwhile."""
    try:
        return path.stat(follow_symlinks=False)
    except OSError:
        return None
