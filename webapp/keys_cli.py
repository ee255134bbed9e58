"""`stenobox keys`: what the operator does with keys at the command line."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.access import Access
from tasks.config import Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.principals import Scope
from tasks.store import Key

if TYPE_CHECKING:
    import argparse

_UNITS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}


def key_options(command: argparse.ArgumentParser) -> None:
    """`stenobox keys create NAME …` and so on."""
    actions = command.add_subparsers(metavar="ACTION", dest="action", required=True)

    def add(name: str, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text)
        if named:
            action.add_argument("name", metavar="NAME", help="name of the key")
        return action

    create = add("create", "Make a key and show it, once.")
    create.add_argument("--scope", default=Scope.SUBMIT, choices=list(Scope), help="what it allows (default: submit)")
    create.add_argument("--max-active", type=int, metavar="N", help="its jobs that may wait or run at once")
    create.add_argument("--expires", metavar="90d", help="when it ends: a number of h, d, w or y (default: never)")
    create.add_argument("--jobs-of", default="", metavar="KEY", help="share the jobs of this key instead of its own")
    add("list", "List the keys, without their text.", named=False)
    add("rotate", "Give a key a new text and show it, once; the old one is refused at once.")
    add("revoke", "Refuse a key from now on; its jobs stay.")


def run_keys(config: Config, options: argparse.Namespace) -> int:
    database = open_database(config)
    try:
        return _ACTIONS[options.action](Access(config, database), options)
    finally:
        database.close()


def _create(access: Access, options: argparse.Namespace) -> int:
    days = None if options.expires is None else days_of(options.expires)
    key, text = access.create_key(
        options.name, options.scope, max_active=options.max_active, days=days, jobs_of=options.jobs_of
    )
    print(text)
    _note(f"This is the key {key.name}. It is shown this once: keep it where programs find it.")
    if key.scope == Scope.READ and key.owner == key.id:
        _note("It can submit nothing, so it sees no jobs; with --jobs-of KEY it would see another key's.")
    return 0


def _rotate(access: Access, options: argparse.Namespace) -> int:
    key, text = access.rotate_key(options.name)
    print(text)
    _note(f"This is the new text of the key {key.name}; the old one is refused now.")
    return 0


def _revoke(access: Access, options: argparse.Namespace) -> int:
    _note(f"The key {access.revoke_key(options.name).name} is refused from now on.")
    return 0


def _list(access: Access, _: argparse.Namespace) -> int:
    found = access.list_keys()
    if not found:
        _note("There are no keys yet. Make one with: stenobox keys create NAME")
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        print(f"{key.name:{width}}  …{key.hint}  {key.scope:6}  {_state(key)}")
    return 0


_ACTIONS: dict[str, Callable[[Access, argparse.Namespace], int]] = {
    "create": _create,
    "list": _list,
    "rotate": _rotate,
    "revoke": _revoke,
}


def days_of(text: str) -> float:
    """A span of time such as 90d, 12h, 2w or 1y, in days. Raises StenoboxError invalid_value."""
    found = re.fullmatch(r"(\d{1,5})([hdwy])", text.strip().lower(), re.ASCII)
    if found is None:
        sentence = f"{text[:20]!r} is not a span of time. For example: 90d, 12h, 2w or 1y."
        raise StenoboxError("invalid_value", sentence, param="expires")
    return int(found[1]) * _UNITS[found[2]]


def _state(key: Key) -> str:
    parts = [f"made {_day(key.created_at)}", f"last used {_day(key.used_at)}" if key.used_at else "never used"]
    if key.max_active:
        parts.append(f"{key.max_active} active jobs at most")
    if key.revoked_at is not None:
        parts.append(f"revoked {_day(key.revoked_at)}")
    elif key.expires_at is not None:
        parts.append(f"{'expires' if key.valid(time.time()) else 'expired'} {_day(key.expires_at)}")
    return ", ".join(parts)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)
