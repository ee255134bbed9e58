"""uvicorn with what it lacks: an end to headers, in bytes and in time, to requests that wait, and to answers that
nobody reads. A half-open request would stay for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tasks.errors import StenoboxError
from webapp import errors
from webapp.outflow import Outflow
from webapp.security import HEADERS, UNKEPT

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MOST_HEAD_BYTES = 64 * 1024
"""Of a request's first line and headers together, give or take one read from the socket."""
HEAD_SECONDS = 20.0
"""How long they may take from the connection's, or the request's, beginning."""


def _bare(status: str, sentence: str) -> bytes:
    """A refusal from before the application, in the shape and with the headers that all refusals have."""
    text = json.dumps(errors.body(StenoboxError("invalid_request", sentence)))
    own = {"Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(text))}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (own | HEADERS | UNKEPT).items()), "", text]
    return "\r\n".join(lines).encode()


_UNREADABLE = _bare(
    "400 Bad Request", "This is no HTTP request that can be read. If it was meant as HTTPS, use http://."
)
_TOO_LARGE = _bare(
    "431 Request Header Fields Too Large",
    f"The headers of this request are larger than {MOST_HEAD_BYTES // 1024} KiB. Send fewer: cookies, for example.",
)


LEFTOVER_SECONDS = 30.0
"""How long the rest of a refused body may take: a client that is not listening yet must be let finish its sentence, or
it never hears the refusal."""


MOST_WAITING = 8
"""Requests of one connection that wait while an earlier one is answered. Nobody needs more, and each is memory."""


class TooMany(Exception):
    """More requests wait than MOST_WAITING."""


class _Flow(FlowControl):
    """uvicorn's reads on whenever a request is answered, and each read can bring hundreds more."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """One connection. What a body may take is the routes' business: they know what they read."""

    _deadline: asyncio.TimerHandle | None = None
    _leftover: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _waiting_bytes = 0
    _complete = True
    """Whether the whole request is here."""
    _deaf = False
    """What else comes is left unread: this connection ends when all before it is answered."""
    _answered: RequestResponseCycle | None = None
    """The request that is being answered, of several the first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._outflow = Outflow(transport, self.loop)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_leftover()
        self._outflow.stop()
        self._cut()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._deadline is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        self._refuse(_UNREADABLE)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            raise TooMany
        super().on_message_begin()
        self._complete = False
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        if self.pipeline:
            self._waiting_bytes += sum(len(name) + len(value) for name, value in self.headers)
            if self._waiting_bytes > MOST_HEAD_BYTES:
                raise TooMany
        else:
            self._waiting_bytes = 0
        self._cancel_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if len(body) > HIGH_WATER_LIMIT and not self.cycle.body:
            # uvicorn replaces this by `body` itself; to its bytearray it would be copied, and back again.
            self.cycle.body = b""  # type: ignore[assignment]
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._complete = True
        self._cancel_leftover()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._outflow.watch()
        if not self._complete and self._deadline is None and not self.transport.is_closing():
            self._leftover = self.loop.call_later(LEFTOVER_SECONDS, self._end)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._outflow.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._outflow.moved()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, goodbye: bytes) -> None:
        """What came can't be read, or is too much. What came before it, whole, is answered first."""
        self._deaf = True
        self._cancel_deadline()
        last = self.cycle
        if last is None or last.response_complete:
            self.transport.write(goodbye)
            self._end()
        elif last.more_body:  # it is its own body that can't be read
            if last is self._answered and not last.response_started:
                self.transport.write(goodbye)
            self._end()
        else:
            last.keep_alive = False

    def _end(self) -> None:
        self._cut()
        self.transport.close()
        self._outflow.watch()

    def _cut(self) -> None:
        """Nobody is answered any more. uvicorn tells only the last request of a connection, and the others would write
        to what is closed."""
        self.pipeline.clear()
        for cycle in (self._answered, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.flow.resume_writing()

    def _cancel_leftover(self) -> None:
        if self._leftover is not None:
            self._leftover.cancel()
            self._leftover = None

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._refuse, b"")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


OPTIONS: dict[str, Any] = {"http": Protocol, "ws": "none"}
"""How uvicorn speaks HTTP, and nothing else."""
