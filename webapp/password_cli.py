"""`stenobox password`: set, reset or remove the password; and what a box says about it when it starts."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from tasks import passwords
from tasks.access import Access
from tasks.config import LOOPBACK, PASSWORD, Config
from tasks.db import Database, open_database
from tasks.errors import StenoboxError
from tasks.logins import INVITATION_SECONDS, Logins

if TYPE_CHECKING:
    import argparse


def password_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--link", action="store_true", help="print a link that sets it, once, within the hour")
    command.add_argument("--remove", action="store_true", help="need none from now on, if nobody else reaches this box")


def run_password(config: Config, options: argparse.Namespace) -> int:
    database = open_database(config)
    try:
        logins = _logins(config, database)
        if options.link:
            print(link(config, logins.invite()))
        elif options.remove:
            _note("The password is removed." if logins.remove_password() else "There was no password.")
        else:
            logins.set_password(_ask(), "command")
            _note("The password is set, and every browser is logged out.")
    finally:
        database.close()
    return 0


def take_password() -> str:
    """The password of the environment, "" without one. It is out of there from now on: no child gets it."""
    return os.environ.pop(PASSWORD, "")


def prepare_doors(config: Config, given: str, *, again: bool) -> None:
    """Before a box serves: keep the environment's password, and say how to set one where it needs one and has none.

    again: whether a link that was printed before still counts, and no other is needed.
    """
    database = open_database(config)
    try:
        logins = _logins(config, database)
        if given or "STENOBOX_PARENT" not in os.environ:  # else `serve` took it, and hands none on
            logins.take_password(given)
        if given and passwords.fault(given):
            _note(f"{PASSWORD} is short: others can reach this box, and a longer one is harder to guess.")
        if config.exposed and not logins.password_is_set() and not (again and logins.invitation_waits()):
            minutes = round(INVITATION_SECONDS / 60)
            _note(
                f"Others can reach this box, so it needs a password. Set it within {minutes} minutes, at\n"
                f"    {link(config, logins.invite())}\n"
                f"or start again with {PASSWORD}. Until then nobody gets in."
            )
    finally:
        database.close()


def link(config: Config, token: str) -> str:
    """Where the password is set with this token."""
    return f"{where(config)}/setup?token={token}"


def where(config: Config) -> str:
    """Where people reach the box, as far as can be told from here."""
    hosts = config.allowed_hosts[len(LOOPBACK) :]
    if hosts:
        host = hosts[0]
    elif config.listens_everywhere:
        host = _own_address(socket.AF_INET6 if ":" in config.host else socket.AF_INET) or "localhost"
    else:
        host = f"[{config.host}]" if ":" in config.host else config.host
    # Behind a proxy people use its scheme and port, and on a public name that is https.
    behind_proxy = bool(config.proxies) or config.is_loopback
    return f"https://{host}" if config.hosts and behind_proxy else f"http://{host}:{config.port}"


def _own_address(family: socket.AddressFamily) -> str:
    """The address by which this machine reaches others, "" where it has no way out. Nothing is sent for it."""
    elsewhere = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))
        own = str(probe.getsockname()[0])
        return f"[{own}]" if ":" in own else own
    return ""


def _ask() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    first = getpass.getpass("New password: ")
    if fault := passwords.fault(first):
        raise StenoboxError("invalid_value", fault)
    if getpass.getpass("Once more: ") != first:
        raise StenoboxError("invalid_value", "The two are not the same; nothing was changed.")
    return first


def _logins(config: Config, database: Database) -> Logins:
    return Logins(config, database, Access(config, database))


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
