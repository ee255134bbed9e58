"""What a job has on disk besides its words: its media, the waveform and the picture."""

from __future__ import annotations

import mimetypes

from starlette.requests import Request
from starlette.responses import Response

from tasks import media
from tasks.chaining import media_of
from tasks.decode.forms import FORMS
from tasks.errors import StenoboxError
from tasks.jobs import Job
from webapp import ranges
from webapp.api import attachment, box_of

_PRIVATE = {"Cache-Control": "private, no-cache"}
TYPES = {
    "aac": "audio/aac",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "asf": "video/x-ms-asf",
    "avi": "video/x-msvideo",
    "caf": "audio/x-caf",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "m4a": "audio/mp4",
    "matroska": "video/webm",  # which browsers play where they know the codecs
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpegts": "video/mp2t",
    "ogg": "audio/ogg",
    "w64": "audio/x-w64",
    "wav": "audio/wav",
    "3gp": "video/3gpp",
}
"""By the container that was found, which says more than a name."""


def show_media(request: Request) -> Response:
    """GET /api/v1/jobs/{id}/media: the sound that was extracted, else what came in; in ranges, to save or to play."""
    box = box_of(request)
    job = box.get(request.path_params["id"])
    path, name = media_of(box, job)
    headers = _PRIVATE | {"Content-Disposition": attachment(name)}
    return ranges.serve(request, path, _media_type(job, name), headers)


def _media_type(job: Job, name: str) -> str:
    """What browsers may take it for: sound or film, never a page."""
    if job.params.format:
        return FORMS[job.params.format].media_type
    guessed = TYPES.get((job.media or {}).get("container", "")) or mimetypes.guess_type(name)[0] or ""
    return guessed if guessed.startswith(("audio/", "video/")) else "application/octet-stream"


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
    return ranges.serve(request, path, media_type, _PRIVATE)
