"""Large bodies as they come: in pieces, straight to a thread that writes them, and not slower than is honest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType

import anyio
from starlette.requests import ClientDisconnect, Request

from tasks.capacity import leaving
from tasks.errors import StenoboxError
from tasks.lookout import Lookout

STALL_SECONDS = 60.0
"""How long a sender may be silent, or send next to nothing."""
LEAST_RATE = 1000
"""Bytes a second below which a sender is as good as silent: slower than any speech codec, so no call would bear it."""
REFILL_SECONDS = 1.0
PIECE_BYTES = 750_000
"""Bytes gathered before each write: three of what uvloop reads at once."""
CHUNK_BYTES = 64
"""What keeping a chunk costs besides its bytes: they may come one by one."""
WRITERS = ThreadPoolExecutor(8, thread_name_prefix="write")
"""Threads of their own: while a disk keeps them all waiting, pages are still answered."""


class Pace:
    """Ends the block when the sender has used up its time: a bucket of STALL_SECONDS that bytes refill at LEAST_RATE.

    A byte a minute is no better than silence. A context manager; raises StenoboxError stalled.
    """

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._left = STALL_SECONDS
        self._count = 0
        self._looked = time.monotonic()
        self._stands = False

    def came(self, count: int) -> None:
        """So many bytes are here. The clock pours them into the bucket: here it would cost more than a chunk."""
        self._count += count

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The clock stands while we are busy with what came."""
        self._refill()
        self._stands = True
        try:
            yield
        finally:
            self._stands, self._looked = False, time.monotonic()

    def _refill(self) -> None:
        now = time.monotonic()
        if not self._stands:
            self._left = min(STALL_SECONDS, self._left - (now - self._looked) + self._count / LEAST_RATE)
        self._looked, self._count = now, 0

    def _tick(self) -> None:
        self._refill()
        if self._left <= 0:
            self._scope.cancel()
        else:
            self._wind()

    def _wind(self) -> None:
        wait = min(REFILL_SECONDS, max(self._left, STALL_SECONDS / 100))
        self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def __enter__(self) -> Pace:
        self._scope.__enter__()
        self._wind()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._timer.cancel()
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


class Pump:
    """Gives chunks to take, which blocks, in a thread: while some are taken, the next ones gather.

    At most about twice PIECE_BYTES are in memory, where many pumps work at once a chunk or two for each. An
    asynchronous context manager: when its block ends, no thread is at it any more, and all chunks are taken, unless the
    block was canceled or take has raised. Raises what take raises.
    """

    working = 0
    """Pumps whose block is under way, of this process."""

    def __init__(self, take: Callable[..., None]) -> None:
        self._take = take
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._taking: Future[None] | None = None
        self._failure: BaseException | None = None

    @property
    def full(self) -> bool:
        """Whether to `make_room` before more is added."""
        return self._bytes * max(1, Pump.working) >= PIECE_BYTES

    def add(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self._bytes += len(chunk) + CHUNK_BYTES

    async def make_room(self) -> None:
        """Wait for the thread, and give it what has gathered."""
        await self._taken()
        if self._chunks:
            self._taking = WRITERS.submit(self._take_all, self._chunks)
            self._chunks, self._bytes = [], 0

    async def drain(self) -> None:
        """Wait until all that was added is taken."""
        await self.make_room()
        await self._taken()

    def _take_all(self, chunks: list[bytes]) -> None:
        try:
            self._take(*chunks)
        except BaseException as error:
            self._failure = error

    async def _taken(self) -> None:
        if self._taking is not None and not self._taking.done():
            # Awaited itself, it would be given up when we are canceled.
            await asyncio.wait([asyncio.wrap_future(self._taking)])
        self._taking = None
        if self._failure is not None:  # for good: what came after a gap would be at a wrong place
            raise self._failure

    async def __aenter__(self) -> Pump:
        Pump.working += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with anyio.CancelScope(shield=True):
                if error is not None and not isinstance(error, ClientDisconnect | StenoboxError):
                    with suppress(Exception):  # there is nobody left to tell
                        await self._taken()
                elif error is None or error is not self._failure:
                    await self.drain()
        finally:
            Pump.working -= 1


async def pour(request: Request, take: Callable[..., None], heard: Callable[[], None] | None = None) -> None:
    """Give the body to take, which blocks and is called in a thread.

    heard: called whenever something has come. Raises what take raises, StenoboxError stalled, and ClientDisconnect;
    what came before those was taken.
    """
    async with Pump(take) as pump:
        with Pace() as pace:
            async for chunk in request.stream():
                pace.came(len(chunk))
                if heard is not None:
                    heard()
                pump.add(chunk)
                if pump.full:
                    with pace.standing():
                        await pump.make_room()
