"""The steps besides transcription: each takes a file, an upload, a link or another job, and its result can be the next
one's source."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tasks.jobs import JobKind
from webapp.api import create


async def create_extraction(request: Request) -> Response:
    """POST /api/v1/audio-extractions: as for transcriptions, with `format`, `bitrate`, `language`, `track` → 202."""
    return await create(request, JobKind.EXTRACTION)


async def create_download(request: Request) -> Response:
    """POST /api/v1/downloads: keep the media as it is; most useful with `url` → 202."""
    return await create(request, JobKind.DOWNLOAD)
