"""Who may use which address: one table, and what it doesn't name is for nobody but the operator."""

from __future__ import annotations

from tasks.principals import Scope

OPEN = (
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/login",
    "/logout",
    "/setup",
    "/static",
)
"""For everybody. An address stands for itself and all below it."""

OWN = (
    "/jobs",
    "/links",
    "/batches",
    "/api/v1/jobs",
    "/api/v1/transcriptions",
    "/api/v1/audio-extractions",
    "/api/v1/downloads",
    "/api/v1/uploads",
    "/api/v1/links",
    "/api/v1/batches",
    "/api/v1/capacity",
    "/transcribe",
    "/download",
    "/extract-audio",
)
"""For everyone who came in: reading needs the scope `read`, the rest `submit`. What is there is their own (see
`Box.seen_by`). The front page belongs to these, but not all below it."""

OPERATORS = (
    "/limits",
    "/settings",
    "/api/v1/settings",
    "/api/v1/pause",
    "/api/v1/resume",
    "/api/v1/drain",
    "/api/v1/unload",
)
"""For the scope `admin`."""

_READING = ("GET", "HEAD", "OPTIONS")


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None for an address that is open to everybody."""
    if _within(path, OPEN):
        return None
    if path == "/" or _within(path, OWN):
        return Scope.READ if method in _READING else Scope.SUBMIT
    return Scope.ADMIN


def named(path: str) -> bool:
    """Whether the table says something about this address."""
    return path == "/" or _within(path, (*OPEN, *OWN, *OPERATORS))


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)
