"""How long who tries to log in must wait: longer with each failure, and never for ever."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_SECONDS = 3600.0
"""Older failures count no more."""
KNOWN_SECONDS = 30 * 86_400.0
"""An address from which somebody logged in is known so long."""
FREE = 5
"""Failures of one address without a wait."""
LONGEST = 60.0
"""Wait of one address, in seconds: whoever forgot the password, or sits beside who guesses it, still comes in."""
FREE_OF_ALL = 100
LONGEST_OF_ALL = 10.0
"""The same for all strangers together: guesses from many addresses are a few a minute, and known ones don't wait."""


@dataclass(frozen=True, slots=True)
class Try:
    """A login that was tried. at: seconds since 1970."""

    at: float
    address: str
    succeeded: bool


def seconds_to_wait(tries: Sequence[Try], address: str, now: float) -> float:
    """From now until this address may try; 0 or less: at once. tries: in the order they came."""
    failures = [one for one in tries if not one.succeeded and now - one.at < WINDOW_SECONDS]
    own = [one for one in failures if one.address == address]
    wait = _wait(own, FREE, 1, LONGEST, now)
    if not any(one.succeeded and one.address == address for one in tries):
        wait = max(wait, _wait(failures, FREE_OF_ALL, 20, LONGEST_OF_ALL, now))
    return wait


def _wait(failures: list[Try], free: int, step: int, longest: float, now: float) -> float:
    if len(failures) < free:
        return 0.0
    delay = min(longest, 2.0 ** min(16, (len(failures) - free) // step))
    return min(longest, failures[-1].at + delay - now)  # also when the clock was set back


def party(address: str) -> str:
    """Those who are taken for one: an IPv6 customer has 2^64 addresses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
