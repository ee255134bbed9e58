"""What the doctor looks at of the doors: who can reach the box and get in, and who else can read what it keeps."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks import keys, passwords, store
from tasks.config import KEY, PASSWORD, Config
from tasks.db import Database
from tasks.findings import FAIL, OK, WARN, Finding
from tasks.store import Key, Secret

LISTED = 5
"""So many names are told; more are counted."""
UNUSED_SECONDS = 7 * 86_400.0
"""A key that nobody has used by then was likely made by mistake, or lost."""
NARROWEST_TRUST = {4: 8, 6: 16}
"""Prefixes shorter than these, by IP version, are no proxy's network any more."""


@dataclass(frozen=True, slots=True)
class _Doors:
    """What the database holds of them."""

    password: Secret | None
    keys: list[Key]


def _doors(config: Config) -> _Doors | None:
    """None where there is no database of this schema yet: `doctor.database` says what is wrong with it."""
    if not config.jobs_db.exists():
        return _Doors(None, [])
    database = Database(config.jobs_db)
    try:
        return _Doors(store.password(database), store.list_keys(database))
    except Exception:
        return None
    finally:
        database.close()


def port_fault(host: str, port: int) -> str:
    """Why nothing can listen there, "" when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return "something else listens there" if error.errno == errno.EADDRINUSE else str(error.strerror)
    except OverflowError:
        return "there is no such port"
    return ""


def reach(config: Config) -> Iterator[Finding]:
    """Who can reach the box, by which names, and through whom."""
    where = f"{config.host}:{config.port}"
    if not config.exposed:
        yield Finding(OK, "reach", f"Only this machine reaches {where}")
        return
    yield Finding(
        OK, "reach", f"Others may reach the box, at {where}" + (f" as {config.hosts}" if config.hosts else "")
    )
    if not config.hosts:
        answered, but = ", ".join(config.allowed_hosts), ""
        if config.answers_addresses:
            but = "; numeric addresses are answered"
        yield Finding(
            WARN, "names", f"STENOBOX_HOSTS is empty: requests for any other name than {answered} are refused{but}.",
            "Name what people type, for example STENOBOX_HOSTS=stenobox.example.org",
        )  # fmt: skip
    if config.is_loopback and not config.proxies:
        yield Finding(
            WARN, "proxies", "A proxy seems to stand before the box, and STENOBOX_PROXIES does not name it: all people "
            "look like one, so wrong passwords of one make all wait.",
            "For a proxy on this machine: STENOBOX_PROXIES=127.0.0.1",
        )  # fmt: skip
    for network in config.trusted_proxies:
        if network.prefixlen < NARROWEST_TRUST[network.version]:
            yield Finding(
                FAIL, "proxies", f"STENOBOX_PROXIES trusts {network}: anybody can claim any address there, so wrong "
                "passwords are not slowed down.",
                "Name the proxy's own address alone, for example STENOBOX_PROXIES=127.0.0.1",
            )  # fmt: skip


def password(config: Config, given: str = "") -> Iterator[Finding]:
    """Whether people need one. given: what STENOBOX_PASSWORD is where the doctor runs."""
    doors = _doors(config)
    if doors is None:
        return
    stored = doors.password
    if stored is None:
        if given:
            yield Finding(OK, "password", f"{PASSWORD} becomes the password at the next start")
        elif config.exposed:
            yield Finding(
                FAIL, "password", "Others can reach the box, and it has no password: nobody gets in, until whoever "
                "reads its log sets one by the link that is printed there.",
                f"stenobox password, or start it with {PASSWORD}",
            )  # fmt: skip
        else:
            yield Finding(OK, "password", "There is none, and on this machine alone none is needed")
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(stored.set_at))
    if given and not passwords.matches(stored.value, given):
        yield Finding(
            WARN, "password", f"{PASSWORD} is not the password that counts (set {day}, by {stored.set_by}).",
            "It is taken at the next start: restart the box, or leave it out.",
        )  # fmt: skip
    elif given and (fault := passwords.fault(given)):
        yield Finding(
            WARN, "password", f"{PASSWORD} is easy to guess. {fault}", f"Set a longer {PASSWORD}, and restart."
        )
    else:
        yield Finding(OK, "password", f"There is one, set {day} by {stored.set_by}")


def live_keys(config: Config) -> Iterator[Finding]:
    """Keys that nobody needs any more."""
    doors, now = _doors(config), time.time()
    if doors is None:
        return
    live = [key for key in doors.keys if key.revoked_at is None]
    expired = [key.name for key in live if not key.valid(now)]
    unused = [key.name for key in live if key.valid(now) and not key.used_at and now - key.created_at > UNUSED_SECONDS]
    if expired:
        yield Finding(
            WARN, "keys", f"Expired, so that programs with them are refused: {_some(expired)}.",
            "Make new ones (stenobox keys create), and revoke these: stenobox keys revoke NAME",
        )  # fmt: skip
    if unused:
        yield Finding(
            WARN, "keys", f"Never used since they were made, over a week ago: {_some(unused)}.",
            "stenobox keys revoke NAME, unless somebody is still to use it",
        )  # fmt: skip
    if not expired and not unused:
        yield Finding(OK, "keys", f"{len(live)} that count" if live else "There is none")


def secrets(_: Config) -> Iterator[Finding]:
    """Passwords and keys that others on this machine can read in the list of processes."""
    told: list[str] = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if any(_is_secret(word) for word in line):
                told.append(f"the command line of process {process.pid} ({Path(line[0]).name})")
            elif _is_ours(line) and (process.environ().get(PASSWORD)):
                told.append(f"the environment of process {process.pid} ({' '.join(line[-2:])})")
        except (psutil.Error, OSError):  # gone, or not ours to read, and so nobody else's
            continue
    if told:
        yield Finding(
            WARN, "secrets", f"A password or key can be read in {_some(told)}.",
            f"Give it in the environment ({PASSWORD}, {KEY}) or a file, never in a command line; then change it.",
        )  # fmt: skip
    else:
        yield Finding(OK, "secrets", "No password and no key in the list of processes")


def _is_secret(word: str) -> bool:
    """Whether a word of a command line has one in it."""
    if word.startswith((f"{PASSWORD}=", f"{KEY}=")) and not word.endswith("="):
        return True
    return any(keys.well_formed(part) for part in word.replace("=", " ").replace(":", " ").split())


def _is_ours(line: list[str]) -> bool:
    return any(word.startswith(("webapp.", "tasks.")) for word in line)


def permissions(config: Config) -> Iterator[Finding]:
    """Whether all that the box keeps is its user's alone. Models are nobody's secret."""
    if not config.data.exists():
        yield Finding(OK, "data folder", f"{config.data} will be made at the first start")
        return
    open_to_others, foreign, owner = [], [], config.data.stat().st_uid
    for path in _kept(config.data, but=config.models):
        try:
            found = path.lstat()
        except FileNotFoundError:  # a job that just went
            continue
        if found.st_mode & 0o077:
            open_to_others.append(str(path))
        if found.st_uid != owner:
            foreign.append(str(path))
    if open_to_others:
        yield Finding(
            WARN, "data folder", f"Other users can read {_some(open_to_others)}", f"chmod -R go= {config.data}"
        )
    if foreign:
        yield Finding(
            WARN, "data folder", f"The folder is one user's, and another user's is {_some(foreign)}: Stenobox may be "
            "unable to write it.",
            f"chown -R {owner} {config.data}, and run its commands as its own user",
        )  # fmt: skip
    if not open_to_others and not foreign:
        yield Finding(OK, "data folder", f"{config.data} is closed to other users")


def _kept(folder: Path, but: Path) -> Iterator[Path]:
    """Everything in a folder, itself too, without links and without one of its folders."""
    yield folder
    for found in os.scandir(folder):
        path = Path(found.path)
        if path == but or found.is_symlink():
            continue
        if found.is_dir(follow_symlinks=False):
            yield from _kept(path, but)
        else:
            yield path


def _some(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
