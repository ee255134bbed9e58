"""Whose a request is, for limits, turns and the record of changes."""

from __future__ import annotations

from starlette.requests import Request

from webapp.auth import principal_of


def submitter_of(request: Request) -> str:
    """The mark on the jobs of who asks; "" for people."""
    return principal_of(request).submitter


def asker_of(request: Request) -> str:
    """Who is told when to come back: the key's mark, else the client's address."""
    return submitter_of(request) or (request.client.host if request.client else "")


def name_of(request: Request, face: str) -> str:
    """Who did something, for the record of changes: the face, the key if one was sent, and the client's address."""
    key = principal_of(request).name if submitter_of(request) else ""
    return ", ".join(filter(None, (face, key, request.client.host if request.client else "")))
