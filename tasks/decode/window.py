"""A recording's bytes as libav gets them: where in the file they begin and end, told by the file's own first bytes.

libav never sees a path: it reads a Window, which has no name and leads nowhere else.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator
from itertools import islice

OPENING_SECONDS = 30
"""Of CPU time for a header; libav reads some in a time that grows with the square of their entries."""
ID3_FRAMES = 500
"""Above, libav needs minutes for a tag; what a person keeps in one is a few dozen."""
JUNK_BYTES = 4 * 2**20
"""How far into a file that begins with something else its recording is looked for."""
MOST_ENTRANCES = 12

_MAGIC = re.compile(
    rb"RIFF|RF64|FORM|OggS|fLaC|caff|\.snd|wvpk|#!AMR|FLV\x01|\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11|MAC |TTA1|"
    rb"riff\x2e\x91|....ftyp|\x00\x00\x01\xba",
    re.DOTALL,
)
"""What recordings begin with, as far as it can't well be chance."""


class Window(io.RawIOBase):
    """The bytes of an open file from start to end, as a file of its own. Several may share a descriptor."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, end - start, 0
        self.until: float | None = time.process_time() + OPENING_SECONDS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the first byte")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self.until is not None and time.process_time() > self.until:
            raise TimeoutError("the header takes too long to read")
        left = max(0, self._size - self._at)
        found = os.pread(self._descriptor, left if size < 0 else min(size, left), self._start + self._at)
        self._at += len(found)
        return found


def entrances(descriptor: int) -> Iterator[int]:
    """Where the recording may begin, the likeliest first: after what others put in front of it."""
    first = _after_tags(descriptor, _after_zeros(descriptor, 0))
    yield first
    yield from islice((place for place in _magics(descriptor) if place != first), MOST_ENTRANCES)


def links(descriptor: int, start: int, end: int) -> list[tuple[int, int]]:
    """The stretches of the file that libav is to read one after the other: several where Ogg files were chained, since
    it goes on only where the next has the same shape."""
    if os.pread(descriptor, 4, start) != b"OggS":
        return [(start, end)]
    begins, headers, at = [start], True, start
    while at < end and (page := os.pread(descriptor, 27 + 255, at))[:4] == b"OggS" and len(page) >= 27:
        first = bool(page[5] & 2)
        if first and not headers:
            begins.append(at)
        headers = first
        count = page[26]
        at += 27 + count + sum(page[27 : 27 + count])
    return list(zip(begins, [*begins[1:], end], strict=True))


def claims_too_little(descriptor: int, start: int, end: int) -> bool:
    """Whether a WAV goes on after its sound with what is no chunk: its header was written before its end, and never
    again."""
    head = os.pread(descriptor, 12, start)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return False
    at = start + 12
    for _ in range(1000):
        head = os.pread(descriptor, 8, at)
        size = int.from_bytes(head[4:], "little")
        if len(head) < 8 or not re.fullmatch(rb"[ -~]{4}", head[:4]):
            return False
        if head[:4] == b"data" and 0 < size < 2**32 - 1:
            after = at + 8 + size
            return after + 8 < end and not any(_is_chunk(descriptor, place, end) for place in (after, after + size % 2))
        at += 8 + size + size % 2
    return False


def _is_chunk(descriptor: int, at: int, end: int) -> bool:
    head = os.pread(descriptor, 8, at)
    if head[:4] == bytes(4) or head[:3] in (b"TAG", b"ID3"):  # padding, or a tagger's
        return True
    return bool(re.fullmatch(rb"[A-Za-z0-9_ ]{4}", head[:4])) and at + int.from_bytes(head[4:], "little") <= end


def _after_zeros(descriptor: int, start: int) -> int:
    """The first byte that isn't zero, after a run of zeros that no header begins with."""
    if os.pread(descriptor, 64, start) != bytes(64):
        return start
    at = start
    while block := os.pread(descriptor, 2**20, at):
        if rest := block.lstrip(b"\0"):
            at += len(block) - len(rest)
            for size in (rest[:12], b"\0\0" + rest[:12], bytes(3) + rest[:12]):  # zeros that belong to the header
                if _MAGIC.match(size):
                    return at - (len(size) - len(rest[:12]))
            return at
        at += len(block)
    return start


def _after_tags(descriptor: int, start: int) -> int:
    """What follows ID3 tags that libav shouldn't see: before a header that must come first, and those that are too many
    to read."""
    at = start
    while (head := os.pread(descriptor, 10, at))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        after = at + 10 + size + (10 if head[5] & 16 else 0)
        if _tag_frames(os.pread(descriptor, size, at + 10)) <= ID3_FRAMES:
            following = _after_zeros(descriptor, after)
            here = os.pread(descriptor, 12, following)
            if here[:3] != b"ID3" and not (_MAGIC.match(here) and here[:4] not in (b"fLaC", b"TTA1")):
                return at  # libav reads it, and with it who speaks
        at = _after_zeros(descriptor, after)
    return at


def _tag_frames(tag: bytes) -> int:
    """About how many entries a tag has: names with a size below 64 KiB behind them, wherever they stand."""
    return sum(1 for _ in islice(re.finditer(rb"[A-Z][A-Z0-9]{2,3}\0[\0-\xff]", tag), ID3_FRAMES + 1))


def _magics(descriptor: int) -> Iterator[int]:
    junk = os.pread(descriptor, JUNK_BYTES, 0)
    return (match.start() for match in _MAGIC.finditer(junk))
