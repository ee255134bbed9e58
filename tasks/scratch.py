"""Folders for what libraries leave in TMPDIR: one a child, under the data folder, gone with the child.

Each is locked by whoever has it, so that a start can tell what is nobody's any more, whoever lives beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

from tasks.config import Config

_EARLIER = re.compile(r"tmp[a-z0-9_]{8}")
"""What `transcribe` and `bench` of earlier versions left in the data folder when they were killed."""


class Scratch:
    """A folder of one's own until `close`."""

    def __init__(self, config: Config, name: str) -> None:
        """name: what its name begins with. Raises OSError."""
        self.path = _made(_root(config), name)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove it and all that is in it. May be called again."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # others have theirs there
            self.path.parent.rmdir()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(config: Config) -> None:
    """Remove the folders of those who are gone."""
    with contextlib.suppress(OSError):
        earlier = [path for path in config.data.iterdir() if _EARLIER.fullmatch(path.name)]
        for folder in [*earlier, *(_root(config).iterdir() if _root(config).is_dir() else ())]:
            with contextlib.suppress(OSError):
                lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def _made(root: Path, name: str) -> Path:
    while True:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the last one has just left
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))


def _root(config: Config) -> Path:
    return config.data / "tmp"
