"""Values of types, out of data. msgspec learns a type when it first meets it, and two threads that have it learn the
same one crash the process (0.22: the second takes what the first has only begun): so each type is learnt as its module
is imported, and nothing else here calls msgspec.convert or decodes into a type.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Reader(Generic[T]):
    """Of one type. Made by a module for itself, not in a function."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)  # learns it, and all that it is made of

    def convert(self, value: Any, *, strict: bool = True) -> T:
        """Of what JSON has become. Raises msgspec.ValidationError."""
        return msgspec.convert(value, self._kind, strict=strict)

    def decode(self, data: bytes) -> T:
        """Of JSON. Raises msgspec.MsgspecError."""
        return self._decoder.decode(data)
