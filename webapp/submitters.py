"""Whose request this is, for limits and turns: a short mark of the key it carries, never the key itself."""

from __future__ import annotations

import hashlib

from starlette.requests import Request


def submitter_of(request: Request) -> str:
    """The mark of the key that was sent; "" for a request without one."""
    return mark(request.headers.get("x-api-key", ""), request.headers.get("authorization", ""))


def mark(api_key: str, authorization: str) -> str:
    """16 hex digits for the X-API-Key or Bearer token of these headers; "" without either."""
    key = api_key.strip()
    if not key:
        scheme, _, token = authorization.partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return hashlib.sha256(key.encode()).hexdigest()[:16] if key else ""


def asker_of(request: Request) -> str:
    """Who is told when to come back: the key's mark, else the client's address."""
    return submitter_of(request) or (request.client.host if request.client else "")


def name_of(request: Request, face: str) -> str:
    """Who did something, for the record of changes: the face and the client's address."""
    return f"{face}, {request.client.host}" if request.client else face
