"""The web application, assembled."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tasks import media, resumable, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.inbox import Inbox
from tasks.queue import Queue
from webapp import capacity_api, errors, scrape
from webapp.auth import Authentication
from webapp.compression import Compression
from webapp.door import Door
from webapp.origins import Origins
from webapp.proxies import Proxies
from webapp.routes import routes
from webapp.security import HEADERS, UNKEPT, AllowedHosts, SameOrigin, SecurityHeaders
from webapp.threads import write

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 20.0
"""How often places of silent uploads are looked for."""
UNDO_LOOK_SECONDS = 1.0
"""How often it is looked for what can't be undone any more."""
CLEAR_SECONDS = 1.0
"""How soon it is tried again to give back what an earlier process held."""


class _Application(Starlette):
    """With a door before everything else, also before Starlette's own middleware."""

    def __init__(self, config: Config, **options: Any) -> None:
        super().__init__(**options)
        self._config = config

    def build_middleware_stack(self) -> ASGIApp:
        return Proxies(Origins(Door(super().build_middleware_stack(), self._config), self._config), self._config)


async def _on_exception(request: Request, error: Exception) -> Response:
    # Starlette answers unexpected errors outside all middleware.
    response = await errors.on_exception(request, error)
    response.headers.update(HEADERS | UNKEPT)
    return response


def _open(config: Config) -> Box:
    return Box(config, open_database(config), Queue(config.queue_db))


def _clear(box: Box) -> bool:
    """What an earlier web process was receiving has broken (there is one at a time), or is complete and was not queued
    yet. False: a full disk or a busy database, which keeps no web process from starting; it is to be asked again."""
    try:
        broken = store.receiving_of_others(box.database, box.receiver)
        for job_id in broken:  # files first, or a disk that they have filled could take no end of a row
            media.remove(box.config, job_id)
        if broken:
            store.drop_receiving_of_others(box.database, box.receiver)
            box.lookout.forget()
        resumable.settle_all(box)
    except StenoboxError as error:
        logger.warning("uploads that broke still hold their places: %s", error.message)
        return False
    return True


def _drop_own_uploads(box: Box) -> None:
    try:
        for job_id in store.drop_receiving_of_others(box.database, ""):
            media.remove(box.config, job_id)
    except StenoboxError as error:  # the next web process does it
        logger.warning("uploads that broke still hold their places: %s", error.message)


async def _sweep(box: Box, moving: Collection[str], cleared: bool) -> None:
    while True:
        try:
            cleared = cleared or await write(_clear, box)
            await write(resumable.sweep, box, set(moving))
        except StenoboxError as error:  # a busy database: later will do
            logger.warning("silent uploads keep their places a little longer: %s", error.message)
        await anyio.sleep(SWEEP_SECONDS if cleared else CLEAR_SECONDS)


async def _let_go(box: Box) -> None:
    """What was canceled or deleted on a page can't be taken back for ever."""
    while True:
        try:
            await write(box.undos.sweep)
        except StenoboxError as error:  # a busy database: later will do
            logger.warning("what was deleted stays a little longer: %s", error.message)
        await anyio.sleep(UNDO_LOOK_SECONDS)


def create_app(config: Config) -> Starlette:
    """The application for this configuration. Opens the database when it starts."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        box = app.state.box = await run_in_threadpool(_open, config)
        app.state.capacity_threads = anyio.CapacityLimiter(capacity_api.THREADS)
        cleared = await run_in_threadpool(_clear, box)
        app.state.uploads = {}
        stop_metrics = scrape.serve(box, config.metrics) if config.metrics else None
        inbox = Inbox(box, config.inbox) if config.inbox else None
        if inbox:
            inbox.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_sweep, box, app.state.uploads, cleared)
            tasks.start_soon(_let_go, box)
            yield
            tasks.cancel_scope.cancel()
        for stop in (stop_metrics, inbox and inbox.stop):
            if stop:
                await run_in_threadpool(stop)
        await run_in_threadpool(_drop_own_uploads, box)  # those that took longer than the grace time
        box.queue.close()
        box.database.close()

    app = _Application(
        config,
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(Compression),
            Middleware(SecurityHeaders),
            Middleware(AllowedHosts, config=config),
            Middleware(SameOrigin),
            Middleware(Authentication),
        ],
        exception_handlers={
            StenoboxError: errors.on_stenobox_error,
            HTTPException: errors.on_http_exception,
            Exception: _on_exception,
        },
    )
    app.router.redirect_slashes = False  # by the scheme that we see, which may not be the one that was used
    return app
