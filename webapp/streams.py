"""Large bodies as they come: in pieces, straight to a thread that writes them, and not slower than is honest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tasks.errors import StenoboxError

STALL_SECONDS = 60.0
"""How long a sender may be silent, or send next to nothing."""
LEAST_RATE = 1000
"""Bytes a second below which a sender is as good as silent: slower than any speech codec, so no call would bear it."""
REFILL_SECONDS = 1.0
PIECE_BYTES = 1024 * 1024
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


async def pour(request: Request, take: Callable[[bytearray], None], heard: Callable[[], None] | None = None) -> None:
    """Give the body to take, which blocks and is called in a thread, in pieces of about PIECE_BYTES.

    heard: called whenever something has come. Raises what take raises, StenoboxError stalled, and ClientDisconnect;
    what came before those was taken.
    """
    piece = bytearray()
    try:
        with Pace() as pace:
            async for chunk in request.stream():
                pace.came(len(chunk))
                if heard is not None:
                    heard()
                piece += chunk
                if len(piece) >= PIECE_BYTES:
                    full, piece = piece, bytearray()
                    with pace.standing():
                        await run_in_threadpool(take, full)
    except (ClientDisconnect, StenoboxError):
        if piece:
            await run_in_threadpool(take, piece)
        raise
    if piece:
        await run_in_threadpool(take, piece)
