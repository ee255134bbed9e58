"""Threads for what blocks.

What writes may have to wait for a lock that others hold, so it has a few of its own: however many wait there, pages,
reads and files find a thread, and whoever has none yet waits without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from starlette.requests import Request
from starlette.responses import Response

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """So many threads at once, of one event loop."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = threads
        self._limiter: RunVar[CapacityLimiter] = RunVar(name)

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the function returns, called in one of these threads as soon as one is free."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self.limiter())

    def limiter(self) -> CapacityLimiter:
        """Who has a thread now, and who waits for one."""
        try:
            return self._limiter.get()
        except LookupError:
            limiter = CapacityLimiter(self._threads)
            self._limiter.set(limiter)
            return limiter


write = Pool("write", 16)
"""For what may write to the database, or makes a file last."""
check_password = Pool("check_password", 2)
"""For logins, which write and hash: as many at once as `passwords` hashes."""

Endpoint = Callable[[Request], Response | Awaitable[Response]]


def writing(endpoint: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that blocks, called where writing is."""

    @wraps(endpoint)
    async def run(request: Request) -> Response:
        return await write(endpoint, request)

    return run


def is_quick(methods: Any) -> bool:
    """Whether a route with these methods only reads."""
    return set(methods or ("GET",)) <= {"GET", "HEAD"}
