"""API keys as text: made, recognised, and the digest that is stored instead of them."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "sb_"
"""By which scanners for leaked secrets know our keys."""
RANDOM_CHARACTERS = 32
"""190 bits."""
_ALPHABET = string.digits + string.ascii_letters
_CHECK_CHARACTERS = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_CHARACTERS + _CHECK_CHARACTERS}}}")


def mint() -> str:
    """A new key: prefix, random characters, and a checksum that tells a key from any other text without asking us."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + _checksum(body)


def well_formed(text: str) -> bool:
    """Whether text is a key of ours, known or not: nothing was left out or mistyped."""
    return _FORM.fullmatch(text) is not None and _checksum(text[:-_CHECK_CHARACTERS]) == text[-_CHECK_CHARACTERS:]


def digest(text: str) -> str:
    """What is stored of a key or a token: 64 hex digits. It is random already, so a slow hash would add nothing."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
