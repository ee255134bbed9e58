"""Addresses of programs: they say which query parameters they read, and refuse all others instead of ignoring them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette import routing
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tasks.errors import StenoboxError
from webapp.threads import is_quick, writing


class Route(routing.Route):
    """Starlette's, whose endpoints that block are called in the threads for writing, unless they only read."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, methods: list[str] | None = None, name: str | None = None
    ) -> None:
        if not (inspect.iscoroutinefunction(endpoint) or is_quick(methods)):
            endpoint = writing(endpoint)
        super().__init__(path, endpoint, methods=methods, name=name)


class Endpoint(Route):
    """A route that is in the OpenAPI document (see `openapi`). query: the parameters that it reads; None: whatever
    comes is ignored, for programs that add something of their own to the address of a health check."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        query: tuple[str, ...] | None = (),
        methods: list[str] | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.query = query

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.query is not None and scope["query_string"] and scope["method"] in (self.methods or ()):
            check_query(Request(scope), self.query)
        await super().handle(scope, receive, send)


def check_query(request: Request, known: Sequence[str], where: str = "in this query") -> None:
    """Raises StenoboxError unknown_field, or invalid_value for a parameter that comes twice."""
    check_names(request.query_params, known, where)
    names = [name for name, _ in request.query_params.multi_items()]
    for name in request.query_params:
        if names.count(name) > 1:
            raise StenoboxError("invalid_value", f"{name} comes twice in this query.", param=name)


def check_names(names: Iterable[str], known: Sequence[str], where: str = "here") -> None:
    """Raises StenoboxError unknown_field with the names that there are."""
    for name in names:
        if name not in known:
            there = f" There are: {', '.join(known)}." if known else ""
            raise StenoboxError("unknown_field", f"There is no field {name[:40]!r} {where}.{there}", param=name[:40])


def limit_of(request: Request, most: int, usual: int = 50) -> int:
    """How many are asked for: `limit` in the query, from 1 to most. Raises StenoboxError invalid_value."""
    text = request.query_params.get("limit", str(usual))
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise StenoboxError("invalid_value", f"limit must be a number from 1 to {most}.", param="limit")
    return int(text)
