"""Whether this box can take and do work now, and if not, why: sentences for every page, /api/v1/capacity, /readyz,
`doctor` and the log."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks import disk, store
from tasks.capacity import SPARE_BYTES, WORK_SPARE_BYTES, Limits, Load
from tasks.config import Config
from tasks.db import Database
from tasks.errors import StenoboxError
from tasks.recovery import worker_is_here


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it is not ready. code: for programs; message: what is wrong and what to do, without where on this machine,
    since strangers read it at /readyz."""

    code: str
    message: str


def reasons(config: Config, database: Database | None) -> list[Reason]:
    """Everything that is in the way; nothing is remembered, so what has been put right is no reason any more.

    database: None when it could not be opened.
    """
    found = of_disk(config)
    if database is None:
        found.append(Reason("database", "The database can't be opened. `stenobox doctor` says more."))
    else:
        try:
            store.choices(database)
        except StenoboxError as error:
            found.append(Reason("database", error.message))
    return found


def state(config: Config, limits: Limits, load: Load | None, *, leaving: bool = False) -> list[Reason]:
    """Why this box takes or begins nothing now, the worst first; nothing while it is open. Every face says this, and
    nothing else, of the box as a whole. load: None when the database can't be asked; then the disk isn't either: it may
    be what is waited for."""
    found = [] if load is None else of_disk(config)
    if load is None:
        found.append(Reason("database_busy", "The database is busy: what the box holds is not known now."))
    elif load.guard != "calm":
        found.append(Reason("memory_pressure", f"Nothing new starts or is taken{_GUARD.get(load.guard, _HOLD)}."))
    if limits.intake != "open":
        found.append(Reason(limits.intake, _INTAKE[limits.intake]))
    if leaving:
        found.append(Reason("leaving", "The box is stopping."))
    if load is not None and load.active >= limits.places:
        found.append(Reason("queue_full", _full(limits)))
    if not worker_is_here(config):
        found.append(no_worker())
    return found


def takes(reasons: list[Reason]) -> bool:
    """Whether one more recording would be taken, by the reasons of `state`."""
    return all(reason.code == "no_worker" for reason in reasons)


def no_worker() -> Reason:
    return Reason("no_worker", "No worker is running: what is accepted waits until one is.")


_HOLD = " until it has recovered"
_GUARD = {
    "unload": ", and an idle model leaves memory",
    "stop": ", and the newest job was put back in line",
}
_INTAKE = {
    "paused": "Nothing starts and nothing new is taken. What runs goes on.",
    "draining": "What is here is finished, and nothing new is taken.",
}


def _full(limits: Limits) -> str:
    if limits.places == limits.slots:
        return "Every slot is busy, and there is no queue: a new recording is refused."
    return f"All {limits.places} places are taken: a new recording is refused until one of them is free."


def of_disk(config: Config) -> list[Reason]:
    """Those that people see on the pages, too: what waits in line waits for them to be put right."""
    separate = config.media.is_dir()  # it may be a disk of its own
    found = [unwritable(config.data) or (unwritable(config.media) if separate else None), full(config.data)]
    return [reason for reason in found if reason]


def unwritable(folder: Path) -> Reason | None:
    if (error := disk.write_error(folder)) is None:
        return None
    return Reason("read_only", f"The data folder can't be written: {error.strerror}. Nothing is taken until it can be.")


def full(folder: Path) -> Reason | None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Reason("disk", f"The data folder can't be looked at: {error.strerror}.")
    if free < SPARE_BYTES:
        idle = f", and below {WORK_SPARE_BYTES // 10**6} MB nothing is begun" if free < WORK_SPARE_BYTES else ""
        return Reason(
            "disk_full",
            f"Only {free // 10**6} MB are free for the data folder. Below {SPARE_BYTES // 10**6} MB nothing new is "
            f"taken{idle}. Delete some jobs, or give it a larger disk.",
        )
    return None
