"""uvicorn, which leaves in its own way: not ready at once, gone when the worker is."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from types import FrameType

import uvicorn.config
import uvicorn.server
from starlette.applications import Starlette

from tasks.config import Config
from tasks.recovery import worker_is_here
from webapp.protocol import OPTIONS

logger = logging.getLogger(__name__)

SEEN_SECONDS = 0.5
"""How long it can be seen at least that the box is leaving."""
LINGER_SHARE, CLOSE_SHARE = 0.5, 0.3
"""Of the grace time: how long it answers while the worker is leaving, and how long it then waits for what is still
being sent."""

LAST_SECONDS = 2.0
"""For what was broken off then."""


class _NoAlarm(logging.Filter):
    """A request that was cut off because the time to leave was over is no crash, and gets no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            record.msg, record.args, record.exc_info = (
                "a request was cut off: it took longer than the grace time",
                (),
                None,
            )
        return True


class Server(uvicorn.server.Server):
    """On SIGTERM or SIGINT, once or five times, it stays for as long as the worker needs to put its jobs back: people
    and load balancers are told what is happening instead of being refused a connection."""

    def __init__(self, config: Config, app: Starlette) -> None:
        super().__init__(
            uvicorn.config.Config(
                app,
                host=config.host,
                port=config.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # see `proxies`
                **OPTIONS,
                timeout_graceful_shutdown=max(1, round(config.grace * CLOSE_SHARE)),
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_NoAlarm())
        self._box_config = config
        self._app = app
        self._asked: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = time.monotonic()
            if box := getattr(self._app.state, "box", None):  # not yet: it is still starting
                box.leave()

    async def on_tick(self, counter: int) -> bool:
        if self._asked is not None and self._may_go(time.monotonic() - self._asked):
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # Uploads that were broken off still give their places back; uvicorn would leave without them.
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=LAST_SECONDS)

    def _may_go(self, waited: float) -> bool:
        if waited < SEEN_SECONDS:
            return False
        return waited > self._box_config.grace * LINGER_SHARE or not worker_is_here(self._box_config)
