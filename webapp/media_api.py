"""What a job has on disk besides its words: the waveform and the picture."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tasks import media
from tasks.errors import StenoboxError
from webapp.api import box_of

_PRIVATE = {"Cache-Control": "private, no-cache"}


def show_peaks(request: Request) -> Response:
    """GET /api/v1/jobs/{id}/peaks: {"seconds_per_peak", "peaks": [0..255, …]}, once the recording is decoded."""
    return _extra(request, "peaks.json", "application/json", "The waveform of this recording")


def show_cover(request: Request) -> Response:
    """GET /api/v1/jobs/{id}/cover: the recording's picture as a JPEG of up to 320 × 320 pixels."""
    return _extra(request, "cover.jpg", "image/jpeg", "A picture of this recording")


def _extra(request: Request, name: str, media_type: str, what: str) -> Response:
    box = box_of(request)
    job = box.get(request.path_params["id"])
    path = media.extra(box.config, job.id, name)
    if not path.is_file():
        if job.finished:
            raise StenoboxError("not_found", f"{what} is not there.")
        raise StenoboxError("not_finished", f"{what} is not there yet. Ask again when it has been read.")
    return FileResponse(path, media_type=media_type, headers=_PRIVATE)
