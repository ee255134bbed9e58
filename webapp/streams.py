"""Large bodies as they come: in pieces, straight to a thread that writes them, and not slower than is honest."""

from __future__ import annotations

import asyncio
import math
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tasks.capacity import leaving
from tasks.errors import StenoboxError
from tasks.lookout import Lookout

STALL_SECONDS = 60.0
"""How long a sender may be silent, or send next to nothing."""
LEAST_RATE = 1000
"""Bytes a second below which a sender is as good as silent: slower than any speech codec, so no call would bear it."""
REFILL_SECONDS = 1.0
PIECE_BYTES = 512 * 1024
"""Bytes gathered before each write."""


class Pace:
    """Ends the block when the sender has used up its time: a bucket of STALL_SECONDS that bytes refill at LEAST_RATE.

    A byte a minute is no better than silence. A context manager; raises StenoboxError stalled.
    """

    def __init__(self) -> None:
        self._refilled = anyio.current_time()
        self._scope = anyio.CancelScope(deadline=self._refilled + STALL_SECONDS)
        self._count = 0

    def came(self, count: int) -> None:
        """So many bytes are here. Poured into the bucket once a second: to move a deadline costs more than a chunk."""
        self._count += count
        if anyio.current_time() - self._refilled >= min(REFILL_SECONDS, STALL_SECONDS / 4):
            self._refill()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The clock stands while we are busy with what came."""
        left = self._refill()
        self._scope.deadline = math.inf
        try:
            yield
        finally:
            self._refilled = anyio.current_time()
            self._scope.deadline = self._refilled + left

    def _refill(self) -> float:
        now = anyio.current_time()
        left = min(STALL_SECONDS, self._scope.deadline - now + self._count / LEAST_RATE)
        self._scope.deadline, self._refilled, self._count = now + left, now, 0
        return left

    def __enter__(self) -> Pace:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        swallowed = self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise StenoboxError(
                "stalled",
                f"Next to nothing came for {STALL_SECONDS:.0f} s, so the upload was given up. Send it again.",
            )
        return swallowed


@contextmanager
def told_when_stopped(lookout: Lookout) -> Iterator[None]:
    """A server that stops cancels what is still coming in once it has waited for it: its client is told why, instead of
    losing its connection."""
    try:
        yield
    except asyncio.CancelledError:
        if not lookout.leaving:
            raise
        raise leaving() from None


class Piece:
    """Bytes that have come and are not written yet, PIECE_BYTES at most. Its memory serves the next piece too, and is
    the kernel's again once the body has come: taken from the heap, it would leave holes there for good."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, PIECE_BYTES))
        self._used = 0

    @property
    def full(self) -> bool:
        return self._used == len(self._memory)

    def add(self, data: bytes | memoryview) -> memoryview:
        """Take as much as there is room for. Returns the rest."""
        view = memoryview(data)
        fits = view[: len(self._memory) - self._used]
        self._memory[self._used : self._used + len(fits)] = fits
        self._used += len(fits)
        return view[len(fits) :]

    def drain(self) -> memoryview:
        """What is here, to be written before more is added."""
        used, self._used = self._used, 0
        return self._memory[:used]


async def pour(request: Request, take: Callable[[memoryview], None], heard: Callable[[], None] | None = None) -> None:
    """Give the body to take, which blocks and is called in a thread, in pieces of about PIECE_BYTES.

    heard: called whenever something has come. Raises what take raises, StenoboxError stalled, and ClientDisconnect;
    what came before those was taken.
    """
    piece = Piece()
    try:
        with Pace() as pace:
            async for chunk in request.stream():
                pace.came(len(chunk))
                if heard is not None:
                    heard()
                rest = piece.add(chunk)
                while piece.full:
                    with pace.standing():
                        await run_in_threadpool(take, piece.drain())
                    rest = piece.add(rest)
    except (ClientDisconnect, StenoboxError):
        await _take_rest(piece, take)
        raise
    await _take_rest(piece, take)


async def _take_rest(piece: Piece, take: Callable[[memoryview], None]) -> None:
    if data := piece.drain():
        await run_in_threadpool(take, data)
