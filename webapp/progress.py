"""How a batch is going, while it goes and at its end, for people and for logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from webapp.ledger import Entry


class Progress:
    """12/100 done, rate and time left: one line written over for people, a line a change for a log."""

    def __init__(self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._first: int | None = None
        self._line = ""

    def show(self, done: int, active: int, waiting: str = "") -> None:
        if self._first is None:
            self._first = done
        here, seconds = done - self._first, self._clock() - self._began
        text = f"{done}/{self._total}, {active} at the box"
        if here and seconds > 0:
            left = (self._total - done) * seconds / here
            rate = 3600 * here / seconds
            text += f", {rate:,.{0 if rate >= 10 else 1}f} files/h" + (f", ETA {length(left)}" if left else "")
        if self._stream.isatty():
            text += waiting and f", {waiting}"
            print(f"\r{text:78}", end="", file=self._stream, flush=True)
        elif text.partition(",")[0] != self._line.partition(",")[0]:
            print(text, file=self._stream, flush=True)
        self._line = text

    def clear(self) -> None:
        if self._stream.isatty():
            print(f"\r{'':78}\r", end="", file=self._stream, flush=True)


def summary(entries: list[Entry]) -> str:
    """How it went, and a line for each that failed, with why."""
    failed = [entry for entry in entries if entry.state == "failed"]
    text = f"{len(entries) - len(failed)} of {len(entries)} done" + (f", {len(failed)} failed:\n" if failed else ".\n")
    width = max((len(entry.name) for entry in failed), default=0)
    return text + "".join(f"  {entry.name:{width}}  {entry.error}\n" for entry in failed)


def length(seconds: float) -> str:
    """90 → "1 min 30 s", 7300 → "2 h 1 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
