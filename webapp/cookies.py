"""The cookie that a browser is logged in by."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from tasks.logins import LONGEST_SECONDS


def token_in(request: HTTPConnection) -> str:
    """The session's token; "" without one."""
    return request.cookies.get(_name(request), "")


def put_token(response: Response, request: Request, token: str) -> None:
    """Log this browser in."""
    response.set_cookie(
        _name(request),
        token,
        max_age=round(LONGEST_SECONDS),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def drop_token(response: Response, request: Request) -> None:
    """Log this browser out."""
    response.delete_cookie(
        _name(request), path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )


def _name(request: HTTPConnection) -> str:
    # The prefix makes browsers refuse one that was set for a whole domain, or without encryption.
    return "__Host-stenobox" if request.url.scheme == "https" else "stenobox"
