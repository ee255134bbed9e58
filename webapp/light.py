"""What the web process does without: parts that its libraries bring along for uses which aren't ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tasks import sqlite


@contextmanager
def imports() -> Iterator[None]:
    """While the web's own modules are imported for the first time, by the process that is nothing but the web."""
    stand_ins = {
        # Imported by uvicorn's package, which wants to be a command; with it click, 1.3 MB.
        "uvicorn.main": _module("uvicorn.main", Server=None, main=None, run=None),
        # For those who take from Huey's queue; with multiprocessing, 0.4 MB.
        "huey.consumer": _module("huey.consumer", Consumer=None),
        # Huey's default, which `tasks.queue` replaces: a second SQLite, 1 MB.
        "sqlite3": sqlite.driver,
    }
    given = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(given)
    try:
        yield
    finally:
        for name in given:  # whoever means them later gets the real ones
            del sys.modules[name]


def _module(name: str, **values: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(values)
    return module
