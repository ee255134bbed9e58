"""How fast a client takes what it asked for: who doesn't read is let go, who reads slowly is not."""

from __future__ import annotations

import asyncio
import fcntl
import termios
from contextlib import suppress

STALL_SECONDS = 60.0
"""How long a reader may take nothing, or next to nothing."""
LEAST_RATE = 1000
"""Bytes a second below which a reader is as good as gone: slower than any speech codec."""
LOOK_SECONDS = 1.0


class Outflow:
    """A clock for what one connection has still to send: a bucket of STALL_SECONDS that taken bytes refill at
    LEAST_RATE.

    It runs only while something waits. uvicorn has none: a client that never reads would stay for ever, also after its
    connection was closed on our side, which waits until all is sent.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0.0
        self._waiting = 0
        self._moved = False

    def watch(self) -> None:
        """Something was written, and may have to wait."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._left, self._waiting, self._moved = STALL_SECONDS, self._count(), False
            self._wind()

    def moved(self) -> None:
        """The client has taken much: it is no idler."""
        self._moved = True

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self) -> int:
        """Bytes that the client has not taken, also those that the kernel still holds: it tells us that it has room
        only when there is a lot of it, minutes of a slow reader's."""
        held = bytearray(4)
        with suppress(OSError, AttributeError):  # not there on every system, nor on a closing transport
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
        return self._transport.get_write_buffer_size() + int.from_bytes(held, "little")

    def _wind(self) -> None:
        self._timer = self._loop.call_later(min(LOOK_SECONDS, STALL_SECONDS / 4), self._tick, self._loop.time())

    def _tick(self, since: float) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        waiting = self._count()
        taken = max(0, self._waiting - waiting)
        self._left = min(STALL_SECONDS, self._left - (self._loop.time() - since) + taken / LEAST_RATE)
        if self._moved:
            self._left, self._moved = STALL_SECONDS, False
        self._waiting = waiting
        if self._left > 0:
            self._wind()
        else:
            self._transport.abort()
