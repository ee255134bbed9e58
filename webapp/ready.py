"""GET /readyz: whether work should be sent here now, and if not, every reason why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tasks import readiness
from tasks.actions import Box
from tasks.readiness import Reason
from tasks.recovery import worker_is_here
from webapp.api import box_of

if TYPE_CHECKING:
    from webapp import shapes


def reasons(box: Box) -> list[Reason]:
    """Why this box is not ready; nothing when it is."""
    found = []
    if box.lookout.leaving:
        found.append(Reason("leaving", "The box is stopping."))
    if not worker_is_here(box.config):
        found.append(readiness.no_worker())
    return found + readiness.reasons(box.config, box.database)


def readyz(request: Request) -> Response:
    """GET /readyz → 200, or 503 with the reasons. Alive is another question: see /healthz."""
    why: list[shapes.NotReady] = [
        {"code": reason.code, "message": reason.message} for reason in reasons(box_of(request))
    ]
    body: shapes.Readiness = {"status": "not ready" if why else "ready", "reasons": why}
    return JSONResponse(body, 503 if why else 200, headers={"Cache-Control": "no-store"})
