"""Whose request this is, for limits and turns: a short mark of the key it carries, never the key itself."""

from __future__ import annotations

import hashlib

from starlette.requests import Request


def submitter_of(request: Request) -> str:
    """16 hex digits for the X-API-Key or Bearer token that was sent; "" for a request without one."""
    key = request.headers.get("x-api-key", "").strip()
    if not key:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return hashlib.sha256(key.encode()).hexdigest()[:16] if key else ""


def name_of(request: Request, face: str) -> str:
    """Who did something, for the record of changes: the face and the client's address."""
    return f"{face}, {request.client.host}" if request.client else face
