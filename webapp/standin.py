"""While the data folder can't be written at the start: an answer for everyone who asks, and a start as soon as it can.

A volume that its host has mounted read-only after an error, or one that is full, heals without us. Leaving instead
would make the host start us again and again, with nobody at the address to say why.
"""

from __future__ import annotations

import errno
import logging
import time
from dataclasses import asdict

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks import __version__, disk, readiness
from tasks.config import Config
from tasks.errors import StenoboxError
from webapp import errors
from webapp.origins import Origins
from webapp.protocol import OPTIONS
from webapp.security import AllowedHosts, SecurityHeaders

logger = logging.getLogger(__name__)

HEALING = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
"""Rights that are missing are not among them: those wait for a person, who is told by a start that fails."""
LOOK_SECONDS = 1.0


def wait_until_writable(config: Config) -> bool:
    """Return at once when the folder can be written, or when only a person can mend it. Else answer for the box until
    it can. False when told to leave meanwhile."""
    if not _ailing(config):
        return True
    logger.warning("%s: %s", config.data, _reason(config))
    server = _Server(config)
    server.run()
    if server.told_to_leave:
        return False
    logger.warning("The data folder %s can be written again: starting.", config.data)
    return True


def _ailing(config: Config) -> bool:
    error = disk.write_error(config.data) if config.data.is_dir() else None
    return error is not None and error.errno in HEALING


def _reason(config: Config) -> str:
    found = readiness.unwritable(config.data)
    return found.message if found else "The data folder can be written again. One moment."


class _Server(uvicorn.Server):
    def __init__(self, config: Config) -> None:
        super().__init__(
            uvicorn.Config(
                _app(config),
                host=config.host,
                port=config.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                **OPTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self._box_config = config
        self._looked = time.monotonic()
        self.told_to_leave = False

    def handle_exit(self, sig: int, frame: object) -> None:
        self.told_to_leave = True
        self.should_exit = True  # not raised again afterwards, as uvicorn does: to leave is no failure

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            if not _ailing(self._box_config):
                self.should_exit = True
        return await super().on_tick(counter)


def _app(config: Config) -> Starlette:
    def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    def readyz(request: Request) -> Response:
        why = [asdict(reason) for reason in readiness.reasons(config, None) if reason.code != "database"]
        return JSONResponse({"status": "not ready", "reasons": why}, 503, headers={"Cache-Control": "no-store"})

    def anything(request: Request) -> Response:
        error = StenoboxError("storage_failing", _reason(config), retry_after=10)
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
            return errors.as_json(error)
        return errors.respond(request, error)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/{path:path}", anything, methods=methods),
        ],
        middleware=[
            Middleware(Origins, config=config),
            Middleware(SecurityHeaders),
            Middleware(AllowedHosts, config=config),
        ],
    )
