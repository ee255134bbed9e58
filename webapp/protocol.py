"""uvicorn with what it lacks: an end to headers, in bytes and in time. A half-open request would stay for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tasks.errors import StenoboxError
from webapp import errors
from webapp.security import HEADERS

MOST_HEAD_BYTES = 64 * 1024
"""Of a request's first line and headers together, give or take one read from the socket."""
HEAD_SECONDS = 20.0
"""How long they may take from the connection's, or the request's, beginning."""


def _bare(status: str, sentence: str) -> bytes:
    """A refusal from before the application, in the shape and with the headers that all refusals have."""
    text = json.dumps(errors.body(StenoboxError("invalid_request", sentence)))
    own = {"Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(text))}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (own | HEADERS).items()), "", text]
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


class Protocol(HttpToolsProtocol):
    """One connection. What a body may take is the routes' business: they know what they read."""

    _deadline: asyncio.TimerHandle | None = None
    _leftover: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _complete = True
    """Whether the whole request is here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_leftover()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_UNREADABLE)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._complete = False
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
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
        if not self._complete and self._deadline is None and not self.transport.is_closing():
            self._leftover = self.loop.call_later(LEFTOVER_SECONDS, self.transport.close)

    def _cancel_leftover(self) -> None:
        if self._leftover is not None:
            self._leftover.cancel()
            self._leftover = None

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


OPTIONS: dict[str, Any] = {"http": Protocol, "ws": "none"}
"""How uvicorn speaks HTTP, and nothing else."""
