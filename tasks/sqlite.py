"""Which SQLite the box runs on, and how it keeps what a crash must not lose.

Two processes write here, and from 3.7.0 to 3.51.2 (but for 3.50.7 and 3.44.6) that can corrupt a database in WAL mode
(https://sqlite.org/wal.html, "WAL-reset bug"). pysqlite3 carries a version without the fault, but has no wheel for
ARM64 Linux; Python's own sqlite3 is the system's. Where neither is without it, the older way is safe on every version:
a rollback journal, with which reads wait for the moment in which a change is written.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

DRIVERS = ("pysqlite3.dbapi2", "sqlite3")
"""The first one without the fault; else the newest."""
OLDEST = (3, 35, 0)
"""RETURNING."""

WAL, ROLLBACK = "WAL", "TRUNCATE"
"""Journal modes. TRUNCATE: a journal that was deleted can come back after a power cut, and take a commit back."""


def has_fixed_wal(version: tuple[int, ...]) -> bool:
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def choose(names: tuple[str, ...] = DRIVERS) -> tuple[ModuleType, str]:
    """The driver, a module of the DB-API, and the journal mode that is safe with it."""
    found: list[ModuleType] = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if has_fixed_wal(module.sqlite_version_info):
            return module, WAL  # the next one is not even imported: it is another megabyte
        found.append(module)
    return max(found, key=lambda module: module.sqlite_version_info), ROLLBACK


driver, journal = choose()


def connect(path: Any, **options: Any) -> Any:
    """A connection of the driver."""
    return driver.connect(path, **options)
