"""What `stenobox doctor` looks at. Each check is a function of the configuration that yields findings; add one to
`checks`. None changes anything, and none needs the box to run or to stand still."""

from __future__ import annotations

import fcntl
import http.client
import importlib.metadata
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from functools import partial, update_wrapper
from pathlib import Path

import psutil

from tasks import __version__, arrivals, devices, exposure, machine, models, readiness, sqlite
from tasks.capacity import SPARE_BYTES
from tasks.config import Config
from tasks.db import SCHEMA, Database, SchemaError, check_sqlite_version
from tasks.disk import write_error
from tasks.errors import StenoboxError
from tasks.findings import FAIL, OK, WARN, Check, Finding
from tasks.planner import Planner

SILENT_SECONDS = 180.0
"""A worker that idles writes a sample a minute."""
NETWORK_FOLDERS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.rclone")
"""File systems whose locks or shared memory SQLite's WAL can't rely on."""


def examine(config: Config, checks: tuple[Check, ...]) -> list[Finding]:
    """All findings, in order. A check that breaks is a finding too."""
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(config)
        except Exception as error:
            found.append(Finding(FAIL, check.__name__, f"It could not be looked at: {type(error).__name__}: {error}"))
    return found


def versions(_: Config) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(OK, "version", f"Stenobox {__version__} on Python {python}")
    try:
        check_sqlite_version()
        journal = ""
        if sqlite.journal == sqlite.ROLLBACK:
            journal = (
                ", with a rollback journal: this version's write-ahead log is not safe when two processes use a "
                "database. Nothing is lost by it but some speed"
            )
        yield Finding(OK, "sqlite", f"SQLite {sqlite.driver.sqlite_version} ({sqlite.driver.__name__}){journal}")
    except SchemaError as error:
        yield Finding(FAIL, "sqlite", str(error), "Install Stenobox again with its dependencies.")
    for name in ("torch", "whisperx", "ctranslate2", "av"):  # looked for, not imported: that takes 10 s and 900 MB
        if importlib.util.find_spec(name) is None:
            yield Finding(FAIL, name, f"{name} is not installed.", "Install Stenobox again with its dependencies.")
        else:
            yield Finding(OK, name, f"{name} {importlib.metadata.version(name)}")


def limits(config: Config) -> Iterator[Finding]:
    memory, cpus = machine.memory(), machine.cpus(stated=config.cpus)
    told = f"{memory.limit.value / 2**30:.1f} GiB of memory ({memory.limit.name}), {cpus.count} CPUs"
    yield Finding(OK, "limits", told)
    if cpus.warning:
        yield Finding(WARN, "cpus", cpus.warning)
    yield Finding(OK, "device", devices.find(config).why)


def disk(config: Config) -> Iterator[Finding]:
    folder = next(path for path in (config.data, *config.data.parents) if path.exists())
    if reason := readiness.full(folder):
        yield Finding(FAIL, "disk", f"{folder}: {reason.message}")
    else:
        usage = psutil.disk_usage(str(folder))
        level = OK if usage.free > SPARE_BYTES + config.max_bytes else WARN
        advice = "" if level == OK else "The largest upload doesn't fit. Delete some jobs, or get a larger disk."
        yield Finding(level, "disk", f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB", advice)
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint), reverse=True)
    kind = next((mount.fstype for mount in mounts if folder.resolve().is_relative_to(mount.mountpoint)), "")
    if kind in NETWORK_FOLDERS:
        yield Finding(
            FAIL, "file system", f"{folder} is on a network ({kind}), where SQLite's WAL mode is not safe.",
            "Put STENOBOX_DATA on a disk of this machine.",
        )  # fmt: skip


def permissions(config: Config) -> Iterator[Finding]:
    if config.data.exists() and (reason := readiness.unwritable(config.data)):
        yield Finding(
            FAIL, "data folder", f"{config.data}: {reason.message}", "Give it to the user that runs Stenobox."
        )
        return
    yield from exposure.permissions(config)


def inbox(config: Config) -> Iterator[Finding]:
    """The watched folder, which has no page to say what is wrong there."""
    folder = config.inbox
    if folder is None or not folder.exists():
        return
    try:
        found = arrivals.recordings(folder, lambda _: None, leave=("done", "failed"))
        waiting = [path for path in found if arrivals.looks_like_one(path.name)]
        failed = sum(path.name.endswith(".error.txt") for path in (folder / "failed").rglob("*"))
    except OSError as error:
        yield Finding(FAIL, "inbox", f"{folder} can't be looked at: {error}", "Give it to the user that runs Stenobox.")
        return
    if refusal := write_error(folder):
        yield Finding(
            FAIL, "inbox", f"{folder} can't be written: {refusal.strerror}", "Give it to the user that runs Stenobox."
        )
    closed = [path for path in waiting if not os.access(path, os.R_OK)]
    if closed:
        names = ", ".join(repr(str(path.relative_to(folder))) for path in closed[:3])
        more = f" and {len(closed) - 3} more" if len(closed) > 3 else ""
        yield Finding(WARN, "inbox", f"This user may not read {names}{more} in {folder}", "Change their mode or owner.")
    told = f"{folder}: {len(waiting)} files wait or are worked on, {failed} failed"
    advice = f"Beside each one in {folder / 'failed'} stands why." if failed else ""
    yield Finding(WARN if failed else OK, "inbox", told, advice)


def database(config: Config) -> Iterator[Finding]:
    if not config.jobs_db.exists():
        yield Finding(OK, "database", "There is none yet; it will be made at the first start")
        return
    connection = sqlite.connect(f"{config.jobs_db.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        (newest,) = connection.execute("SELECT max(created_at) FROM jobs").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    except sqlite.driver.Error as error:
        found, version, newest, count = str(error), SCHEMA, None, 0
    finally:
        connection.close()
    if found != "ok":
        advice = "Stop the box, keep the file, and restore the last backup (docs/backup.md)."
        yield Finding(FAIL, "database", f"{config.jobs_db} is damaged: {found}", advice)
    elif version > SCHEMA:
        yield Finding(FAIL, "database", f"It was written by a newer Stenobox (schema {version}).", "Install that one.")
    else:
        older = "" if version == SCHEMA else f"; schema {version} will be upgraded at the next start"
        yield Finding(OK, "database", f"whole, {count} jobs{older}")
    if newest is not None and newest > time.time() + 60:
        yield Finding(
            WARN, "clock", "The newest job is from the future: the clock was set back, or is wrong.",
            "Set the clock; have it kept by NTP.",
        )  # fmt: skip
    else:
        yield Finding(OK, "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def model(config: Config) -> Iterator[Finding]:
    if not config.jobs_db.exists():
        name, fits = config.model, True
    else:
        opened = Database(config.jobs_db)
        try:
            planner = Planner(config, opened)
            name = planner.limits().model
            fits = bool(planner.plan(name).maximum)
        except Exception as error:  # `database` says what is wrong with it
            yield Finding(WARN, "model", f"The settings can't be read: {type(error).__name__}")
            return
        finally:
            opened.close()
    try:
        found = models.find(config, name)
    except StenoboxError as error:
        yield Finding(FAIL, "model", error.message, "Choose another on the Limits page or by STENOBOX_MODEL.")
        return
    if not fits:
        yield Finding(FAIL, "model", f"{name} does not fit into memory.", "Choose a smaller one on the Limits page.")
    elif not models.ready(config, found):
        advice = f"stenobox models {name}"
        yield Finding(WARN, "model", f"{name} is not here; its first job downloads {found.megabytes} MB", advice)
    else:
        yield Finding(OK, "model", f"{name} is here")


def closed_models(config: Config) -> Iterator[Finding]:
    for path in models.closed(config):
        yield Finding(
            FAIL, "models", f"{path} can't be read by this user, so it counts as not there.",
            f"chmod -R a+rX {path}, or give it to the user that runs Stenobox",
        )  # fmt: skip


def processes(config: Config) -> Iterator[Finding]:
    runs = {name: _is_locked(config.data / f"{name}.lock") for name in ("web", "worker")}
    if not any(runs.values()):
        yield Finding(OK, "processes", "The box is not running")
        yield from _port(config)
        return
    for name, running in runs.items():
        if not running:
            advice = "See the log; `stenobox serve` keeps both alive."
            yield Finding(FAIL, name, f"No {name} runs on this data folder.", advice)
    if runs["web"]:
        yield _web(config)
    if runs["worker"]:
        yield _worker(config)


def _is_locked(path: Path) -> bool:
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _port(config: Config) -> Iterator[Finding]:
    places = [("port", f"{config.host}:{config.port}", config.host, config.port, "STENOBOX_PORT")]
    if config.metrics:
        host, _, port = config.metrics.rpartition(":")
        places.append(("metrics", config.metrics, host.strip("[]"), int(port), "STENOBOX_METRICS"))
    for check, where, host, number, variable in places:
        if why := exposure.port_fault(host, number):
            advice = f"Stop what listens there, or choose another by {variable}."
            yield Finding(FAIL, check, f"{where} can't be used: {why}.", advice)
        else:
            yield Finding(OK, check, f"{where} is free")


def _web(config: Config) -> Finding:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    connection = http.client.HTTPConnection(host, config.port, timeout=5)
    try:
        began = time.monotonic()
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        status = connection.getresponse().status
        if status == 200:
            return Finding(OK, "web", f"answers within {1000 * (time.monotonic() - began):.0f} ms")
        return Finding(FAIL, "web", f"/healthz answers {status}.", "See the log.")
    except (OSError, http.client.HTTPException) as error:
        advice = "Run the doctor with the box's own STENOBOX_PORT; otherwise see the log."
        return Finding(FAIL, "web", f"It does not answer at {host}:{config.port} ({error}).", advice)
    finally:
        connection.close()


def _worker(config: Config) -> Finding:
    connection = sqlite.connect(f"{config.jobs_db.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
    try:
        (last,) = connection.execute("SELECT max(at) FROM samples").fetchone()
    finally:
        connection.close()
    silent = time.time() - (last or 0.0)
    if silent > SILENT_SECONDS and time.time() - _started(config.data / "worker.lock") > SILENT_SECONDS:
        return Finding(FAIL, "worker", "It runs and has given no sign for minutes.", "See the log; restart the box.")
    return Finding(OK, "worker", f"gave a sign {silent:.0f} s ago" if last else "has just started")


def _started(lock: Path) -> float:
    return lock.stat().st_mtime  # opened for writing, and so emptied, at its start


def checks(password: str = "") -> tuple[Check, ...]:
    """All that there are. password: what the environment gave as one."""
    return (
        versions,
        limits,
        disk,
        permissions,
        inbox,
        database,
        exposure.reach,
        update_wrapper(partial(exposure.password, given=password), exposure.password),
        exposure.live_keys,
        exposure.secrets,
        model,
        closed_models,
        processes,
    )
