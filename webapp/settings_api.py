"""REST for what a person may change while the box runs: see and change settings, who changed what, open and close."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks import store
from tasks.actions import Box
from webapp.api import box_of
from webapp.bodies import read_json
from webapp.endpoints import limit_of
from webapp.resources import stamp
from webapp.submitters import name_of
from webapp.threads import write

if TYPE_CHECKING:
    from webapp import shapes

MOST_CHANGES = 500
UNLOADING = "The model leaves memory now, unless a recording is being transcribed. The next one loads it again."


def show_settings(request: Request) -> Response:
    """GET /api/v1/settings"""
    return JSONResponse(_settings_json(box_of(request)))


async def change_settings(request: Request) -> Response:
    """PATCH /api/v1/settings: a JSON object of settings to change; null takes a change back. All or none."""
    box, changes = box_of(request), await read_json(request)
    await write(partial(box.change_settings, changes, name_of(request, "API"), text=False))
    return JSONResponse(await run_in_threadpool(_settings_json, box))


def pause(request: Request) -> Response:
    """POST /api/v1/pause: nothing starts, nothing is taken; what runs goes on."""
    return _set_intake(request, "paused")


def resume(request: Request) -> Response:
    """POST /api/v1/resume"""
    return _set_intake(request, "open")


def drain(request: Request) -> Response:
    """POST /api/v1/drain: what is here is finished, nothing new is taken."""
    return _set_intake(request, "draining")


def unload(request: Request) -> Response:
    """POST /api/v1/unload: the model leaves memory, unless something uses it; 202. The next job loads it again."""
    box_of(request).queue.unload()
    said: shapes.Said = {"message": UNLOADING}
    return JSONResponse(said, 202)


def list_changes(request: Request) -> Response:
    """GET /api/v1/settings/changes?limit=: newest first."""
    limit = limit_of(request, MOST_CHANGES)
    changes: list[shapes.Change] = [
        {"at": stamp(change.at), "by": change.by, "name": change.name, "old": change.old, "new": change.new}
        for change in store.list_changes(box_of(request).database, limit)
    ]
    found: shapes.Changes = {"changes": changes}
    return JSONResponse(found)


def _set_intake(request: Request, intake: str) -> Response:
    box = box_of(request)
    box.change_settings({"intake": intake}, name_of(request, "API"))
    return JSONResponse(_settings_json(box))


def _settings_json(box: Box) -> shapes.SettingsInForce:
    """`settings` can be sent back as it is. changed: those that a person has changed from their first value."""
    limits, choices = box.limits(), store.choices(box.database)
    settings = msgspec.structs.asdict(limits)
    if not box.planner.slots_are_fixed():
        settings["slots"] = "auto"
    return {"settings": settings, "slots_in_force": limits.slots, "changed": sorted(choices)}
