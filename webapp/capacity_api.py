"""GET /api/v1/capacity: what this box can hold, why, and when the next place is free. Answers in any state."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks.capacity import Limits, Load
from tasks.machine import Bound
from tasks.slots import Plan
from tasks.survey import Survey
from webapp.api import box_of

if TYPE_CHECKING:
    from webapp import shapes

PATIENCE_SECONDS = 0.5
"""How long the database may take; after that the answer comes from memory, without the load."""
THREADS = 4
"""Of its own: when the database is busy, every other thread waits for it."""


async def show_capacity(request: Request) -> Response:
    """GET /api/v1/capacity"""
    box, found = box_of(request), None
    with anyio.move_on_after(PATIENCE_SECONDS):
        limiter = request.app.state.capacity_threads
        found = await anyio.to_thread.run_sync(box.survey, abandon_on_cancel=True, limiter=limiter)
    return JSONResponse(
        survey_json(box.remembered_survey() if found is None else found), headers={"Cache-Control": "no-store"}
    )


def survey_json(survey: Survey) -> shapes.Capacity:
    """A survey as the API tells it. Memory is in bytes; `value` of a line is in its `unit`."""
    plan, load, devices = survey.plan, survey.load, survey.devices
    return {
        "limits": msgspec.structs.asdict(survey.limits),
        "slots": {
            "in_force": survey.limits.slots,
            "fixed": survey.fixed,
            "maximum": plan.maximum,
            "recommended": plan.recommended,
        },
        "arithmetic": {
            "model": plan.model,
            "device": devices.recognition,
            "batch": plan.batch,
            "threads": plan.threads,
            "maximum": plan.maximum,
            "recommended": plan.recommended,
            "lines": [
                {"text": line.text, "value": line.value, "unit": cast("shapes.Unit", line.unit)} for line in plan.lines
            ],
        },
        "devices": {
            "recognition": devices.recognition,
            "voice_detection": devices.voice_detection,
            "alignment": devices.alignment,
            "why": devices.why,
            "gpu": {"name": devices.gpu.name, "memory_bytes": devices.gpu.memory} if devices.gpu else None,
        },
        "memory": {
            "limit_bytes": survey.memory.limit.value,
            "used_bytes": survey.memory.used,
            "bounds": _bounds(survey.memory.bounds),
        },
        "cpus": {
            "count": survey.cpus.count,
            "warning": survey.cpus.warning,
            "bounds": _bounds(survey.cpus.bounds),
        },
        "disk": survey.disk and {"free_bytes": survey.disk[0], "total_bytes": survey.disk[1]},
        "state": {
            "code": survey.reasons[0].code if survey.reasons else "open",
            "reasons": [{"code": one.code, "message": one.message} for one in survey.reasons],
        },
        "warnings": survey.warnings,
        "load": _load(load, survey.limits),
        "next_free_seconds": survey.next_free_seconds,
        "models": {name: _model(found) for name, found in survey.models.items()},
    }


def _load(load: Load | None, limits: Limits) -> shapes.BoxLoad | None:
    if load is None:
        return None
    return {
        "running": load.running,
        "queued": load.queued,
        "receiving": load.receiving,
        "places": limits.places,
        "guard": load.guard,
    }


def _bounds(bounds: tuple[Bound, ...]) -> list[shapes.Bound]:
    tightest = min(bounds, key=lambda bound: bound.value)
    return [{"name": bound.name, "value": bound.value, "tightest": bound is tightest} for bound in bounds]


def _model(plan: Plan) -> shapes.Fit:
    return {"maximum": plan.maximum, "recommended": plan.recommended}
