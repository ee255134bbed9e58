"""What looking at a machine and a box found: one sentence a finding, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks.config import Config

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """level: ok, warn (works, but look at it) or fail; check: what was looked at; advice: what to do, "" if nothing."""

    level: str
    check: str
    message: str
    advice: str = ""


Check = Callable[[Config], Iterator[Finding]]
