"""Resumable uploads by the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload), at /api/v1/uploads.

Extensions: creation, creation-with-upload, creation-defer-length, checksum, expiration, termination. An upload waits,
once complete, for `POST /api/v1/transcriptions {"upload": ID}`; with `submit` in its metadata it is queued at once.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tasks import resumable
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.names import sent_name
from tasks.resumable import Slice
from tasks.store import Upload
from webapp import admission, bodies, errors
from webapp.api import box_of
from webapp.bodies import media_type
from webapp.resources import rfc3339
from webapp.streams import pour, told_when_stopped
from webapp.submitters import asker_of, submitter_of
from webapp.threads import write

if TYPE_CHECKING:
    from webapp import shapes

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
BYTES = "application/offset+octet-stream"
PATIENCE_SECONDS = 5.0
"""A connection that has been silent for so long gives way to another for the same upload: it is likely dead."""
METADATA_BYTES = 4096
COLLECTION_METHODS, METHODS = ("POST", "OPTIONS"), ("GET", "HEAD", "PATCH", "POST", "DELETE", "OPTIONS")


@dataclass
class _Holder:
    """The request that bytes of an upload come by now."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    left: anyio.Event = field(default_factory=anyio.Event)
    heard: float = field(default_factory=time.monotonic)
    dropped: bool = False
    """Whether its upload was given up meanwhile."""


Holders = dict[str, _Holder]
"""By upload, at `app.state.uploads`; there is one web process."""


async def collection(request: Request) -> Response:
    """POST /api/v1/uploads begins an upload; OPTIONS tells what is possible."""
    if request.method == "OPTIONS":
        return await run_in_threadpool(_abilities, box_of(request), COLLECTION_METHODS)
    return await _answer(request, _begin)


async def one(request: Request) -> Response:
    """/api/v1/uploads/{id}: HEAD how far it is; PATCH the next bytes; DELETE gives it up; GET the same as JSON."""
    if request.method == "OPTIONS":
        return await run_in_threadpool(_abilities, box_of(request), METHODS)
    method = request.method
    if method == "POST":  # for clients whose way knows neither PATCH nor DELETE
        method = request.headers.get("x-http-method-override", "").upper()
    does = {"HEAD": _head, "PATCH": _patch, "DELETE": _delete, "GET": _show}.get(method)
    if does is None:
        sentence = "POST is possible here only with X-HTTP-Method-Override: PATCH, DELETE or HEAD."
        refusal = errors.as_json(StenoboxError("method_not_allowed", sentence))
        refusal.headers["Allow"] = ", ".join(METHODS)
        return refusal
    return await _answer(request, does, any_version=method == "GET")


Does = Callable[[Request, Box], Awaitable[Response]]


async def _answer(request: Request, does: Does, *, any_version: bool = False) -> Response:
    try:
        if not any_version and request.headers.get("tus-resumable") != VERSION:
            raise StenoboxError("unsupported_version", f"Send the header Tus-Resumable: {VERSION}.")
        answer = await does(request, box_of(request))
    except StenoboxError as error:
        answer = errors.as_json(error)
        if error.code == "unsupported_version":
            answer.headers["Tus-Version"] = VERSION
    answer.headers["Tus-Resumable"] = VERSION
    return answer


def _abilities(box: Box, methods: tuple[str, ...]) -> Response:
    headers = {
        "Allow": ", ".join(methods),
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(box.limits().max_bytes),
        "Tus-Checksum-Algorithm": ",".join(resumable.HASHES),
    }
    return Response(status_code=204, headers=headers)


async def _begin(request: Request, box: Box) -> Response:
    length, deferred = _number(request, "Upload-Length"), request.headers.get("upload-defer-length")
    if (length is None) == (deferred is None) or deferred not in (None, "1"):
        raise StenoboxError("invalid_request", "Send either Upload-Length or Upload-Defer-Length: 1.")
    if "upload-concat" in request.headers:
        raise StenoboxError("invalid_request", "Uploads can't be joined here: send the file as one, in as many pieces.")
    raw = request.headers.get("upload-metadata", "")
    metadata = _metadata(raw)
    submitter, asker = submitter_of(request), asker_of(request)
    with_bytes = media_type(request) == BYTES
    await admission.check(box.lookout, length, submitter, asker)

    def begin() -> Upload:
        params = box.params(metadata.get("model"), metadata.get("language"), metadata.get("track"))
        plan = (params, raw, metadata.get("submit", "0").lower() not in ("0", "false", "no"))
        name = sent_name(metadata.get("filename") or metadata.get("name") or "recording")
        return resumable.begin(box, name, length, plan, submitter, asker, metadata.get("batch", ""))

    upload = await write(begin)
    location = {"Location": f"/api/v1/uploads/{upload.id}"}
    if with_bytes:
        try:
            upload, offset = await _take(request, box, upload)
        except ClientDisconnect:  # its client never learns where it is
            await write(resumable.drop, box, upload)
            raise StenoboxError("invalid_request", "The upload broke off. Begin it again.") from None
        except StenoboxError:
            await write(resumable.drop, box, upload)
            raise
        location["Upload-Offset"] = str(offset)
    return Response(status_code=201, headers=location | _headers(upload))


async def _head(request: Request, box: Box) -> Response:
    upload = await _find(request, box)
    if upload.id not in _holders(request):
        upload = await write(resumable.settle, box, upload)
    headers = {
        "Upload-Offset": str(await run_in_threadpool(resumable.offset, box, upload)),
        "Cache-Control": "no-store",
    }
    if upload.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(upload.length)
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    return Response(status_code=200, headers=headers | _headers(upload))


async def _show(request: Request, box: Box) -> Response:
    upload = await _find(request, box)
    offset = await run_in_threadpool(resumable.offset, box, upload)
    open_ = resumable.receiving(upload)
    links: shapes.UploadLinks = {"self": f"/api/v1/uploads/{upload.id}"}
    if not open_:
        links["job"] = f"/api/v1/jobs/{upload.id}"
    found: shapes.Upload = {
        "id": upload.id,
        "offset": offset,
        "length": upload.length,
        "complete": upload.length is not None and offset >= upload.length,
        "active": upload.id in _holders(request),
        "metadata": _metadata(upload.metadata),
        "expires_at": rfc3339(upload.expires_at) if open_ else None,
        "job": None if open_ else upload.id,
        "links": links,
    }
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def _patch(request: Request, box: Box) -> Response:
    if media_type(request) != BYTES:
        raise StenoboxError("unsupported_media_type", f"Send the bytes as Content-Type: {BYTES}.")
    upload = await _find(request, box)
    try:
        upload, offset = await _take(request, box, upload)
    except ClientDisconnect:
        raise StenoboxError("invalid_request", "The connection broke. Ask for the offset, and go on there.") from None
    return Response(status_code=204, headers={"Upload-Offset": str(offset)} | _headers(upload))


async def _delete(request: Request, box: Box) -> Response:
    upload = await _find(request, box)
    if (holder := _holders(request).get(upload.id)) is not None:
        holder.dropped = True
        holder.scope.cancel()
        await holder.left.wait()
    await write(resumable.drop, box, upload)
    return Response(status_code=204)


async def _find(request: Request, box: Box) -> Upload:
    return await run_in_threadpool(resumable.find, box, request.path_params["id"], submitter_of(request))


async def _take(request: Request, box: Box, upload: Upload) -> tuple[Upload, int]:
    """Write the body at the end of the upload. Returns the upload as it is then, and its offset."""
    start = _number(request, "Upload-Offset") if request.method != "POST" or "upload-offset" in request.headers else 0
    if start is None:
        raise StenoboxError("invalid_request", "Send the header Upload-Offset: where these bytes belong.")
    bodies.check_encoding(request)
    hash_name, digest = _checksum(request)
    told = _number(request, "Upload-Length")
    coming, submitter = int(request.headers.get("content-length") or 0), submitter_of(request)
    place = ExitStack()

    def begin() -> Slice | Upload:
        found = resumable.find(box, upload.id, submitter)
        offset = resumable.offset(box, found)
        if start != offset:
            raise StenoboxError("offset_mismatch", f"This upload is at {offset:,}, not at {start:,}. Go on there.")
        if told is not None and resumable.receiving(found):
            found = resumable.with_length(box, found, told, offset + coming)
        if found.length is not None and offset + coming > found.length:
            raise StenoboxError("too_large", f"That would be more than the {found.length:,} bytes announced.")
        if not resumable.receiving(found):  # an empty request after the end
            return found
        if found.length is not None and coming and offset + coming == found.length:
            box.queue.warm(found.id)  # the engine may have left since the first bytes
        return place.enter_context(resumable.receive(box, found, hash_name))

    async with _hold(request, upload) as holder:
        piece = await write(begin)
        if isinstance(piece, Upload):
            return piece, start
        await _write(request, piece, place, holder, digest)
    return piece.upload, piece.size


async def _write(request: Request, piece: Slice, place: ExitStack, holder: _Holder, digest: bytes) -> None:
    """Write the body, and leave the place of its slice, whatever happens."""

    def heard() -> None:
        holder.heard = time.monotonic()

    def finish() -> None:
        with place:
            if piece.hash is not None:
                piece.verify(digest)
            piece.keep_length()
            if piece.upload.submit and piece.size == piece.upload.length:
                piece.finish()

    try:
        with told_when_stopped(piece.box.lookout):
            await pour(request, piece.write, heard)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await write(place.__exit__, type(error), error, error.__traceback__)
        raise
    await write(finish)


@asynccontextmanager
async def _hold(request: Request, upload: Upload) -> AsyncIterator[_Holder]:
    """One request at a time adds to an upload. Raises StenoboxError locked."""
    holders = _holders(request)
    if (other := holders.get(upload.id)) is not None:
        if time.monotonic() - other.heard < PATIENCE_SECONDS:
            raise StenoboxError("locked", "Another request sends bytes for this upload now. Try again.", retry_after=1)
        other.scope.cancel()
        await other.left.wait()
        if upload.id in holders:
            raise StenoboxError("locked", "Another request sends bytes for this upload now. Try again.", retry_after=1)
    holder = holders[upload.id] = _Holder()
    try:
        with holder.scope:
            yield holder
        if holder.scope.cancelled_caught and holder.dropped:
            raise StenoboxError("gone", "This upload was given up. Send the file again.")
        if holder.scope.cancelled_caught:
            raise StenoboxError("locked", "Another request for this upload took over.")
    finally:
        del holders[upload.id]
        holder.left.set()


def _holders(request: Request) -> Holders:
    holders: Holders = request.app.state.uploads
    return holders


def _headers(upload: Upload) -> dict[str, str]:
    """When it expires, or which job it has become."""
    if resumable.receiving(upload):
        return {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}
    return {"Stenobox-Job": f"/api/v1/jobs/{upload.id}"}


def _number(request: Request, name: str) -> int | None:
    text = request.headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise StenoboxError("invalid_request", f"{name} must be a whole number of bytes.", param=name)
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """{"filename": "talk.mp3"} from "filename dGFsay5tcDM=". Unknown names are the client's own; tus allows them."""
    found: dict[str, str] = {}
    if len(header) > METADATA_BYTES:
        raise StenoboxError("invalid_value", "Upload-Metadata is too long.", param="Upload-Metadata")
    for pair in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            text = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise StenoboxError(
                "invalid_value",
                f"The value of {name[:40]!r} in Upload-Metadata is not base64.",
                param="Upload-Metadata",
            ) from None
        if name in found:
            raise StenoboxError(
                "invalid_value", f"{name[:40]!r} comes twice in Upload-Metadata.", param="Upload-Metadata"
            )
        found[name] = text if value.strip() or name != "submit" else "1"
    return found


def _checksum(request: Request) -> tuple[str | None, bytes]:
    header = request.headers.get("upload-checksum")
    if header is None:
        return None, b""
    name, _, value = header.strip().partition(" ")
    if name not in resumable.HASHES:
        known = ", ".join(resumable.HASHES)
        raise StenoboxError(
            "invalid_request", f"Upload-Checksum must begin with one of {known}.", param="Upload-Checksum"
        )
    try:
        return name, base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise StenoboxError("invalid_request", "Upload-Checksum is not base64.", param="Upload-Checksum") from None
