"""How a download goes: told as it grows, and noticed when it stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

STALL_SECONDS = 120.0
"""How long a transfer may bring nothing, a megabyte being the least that is seen of it. The Hub client itself gives up
after a minute without a byte, but waits for ever as long as one comes now and then."""

_TICK = 0.25  # seconds between two looks at how much has arrived


class Receiving:
    """A block in which bytes should come. Outside of it, as when a hash is counted, none are waited for."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def came(self) -> None:
        """Some have."""
        if self._since is not None:
            self._since = time.monotonic()

    @property
    def still(self) -> float:
        """Seconds for which none have come."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since


@contextmanager
def watched(partial: Path, total: int, on_progress: OnProgress, on_stall: Callable[[], None]) -> Iterator[Receiving]:
    """Tells how the folder grows, each change once, and the whole at the end if all went well; on_stall once when
    nothing has come for STALL_SECONDS. Both are called from another thread. Looking at the folder instead of at a
    progress bar counts what an earlier try left, too."""
    stop, receiving = threading.Event(), Receiving()

    def watch() -> None:
        last = -1
        while not stop.is_set():
            done = max(last, min(size(partial), total))  # a file that is just being moved isn't seen
            if done not in (last, total):
                on_progress(done, total)
            if done != last:
                receiving.came()
            elif receiving.still > STALL_SECONDS:
                on_stall()
                return
            last = done
            stop.wait(_TICK)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield receiving
    finally:
        stop.set()
        thread.join()
    on_progress(total, total)


def size(path: Path) -> int:
    """Bytes in a folder that another thread or process is filling."""
    found = 0
    for entry in path.rglob("*"):
        with suppress(OSError):
            found += entry.stat().st_size if entry.is_file() else 0
    return found
