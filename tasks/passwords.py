"""Passwords: what may be one, and its hash."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST_CHARACTERS = 8
MOST_BYTES = 1024

_hashing = threading.BoundedSemaphore(2)
"""Each hash takes 19 MiB for a tenth of a second: a crowd waits its turn instead of taking the memory."""


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # not before it is needed: most boxes have no password

    # OWASP's least for argon2id where memory is short: the box's memory is for models.
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def fault(password: str) -> str | None:
    """A sentence when this can't be a new password."""
    if len(password) < LEAST_CHARACTERS:
        return f"The password needs at least {LEAST_CHARACTERS} characters. A few words are easy to remember."
    if len(password.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        return f"The password is longer than {MOST_BYTES} bytes."
    return None


def hash_of(password: str) -> str:
    with _hashing:
        return _hasher().hash(_bytes(password))


def _bytes(password: str) -> bytes:
    """The same for all keyboards: macOS and phones may send an ü as a u and its dots."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def matches(stored: str, password: str) -> bool:
    """Whether this is the password that was stored. Takes as long either way."""
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > MOST_BYTES:
        return False
    with _hashing:
        try:
            return _hasher().verify(stored, _bytes(password))
        except (VerificationError, InvalidHashError):
            pass
        if unicodedata.is_normalized("NFC", password):
            return False
        try:  # stored as it was typed, by a version that didn't normalize
            return _hasher().verify(stored, password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False


def is_dated(stored: str) -> bool:
    """Whether this hash was made with other parameters than today's."""
    return _hasher().check_needs_rehash(stored)
