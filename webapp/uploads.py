"""A multipart form read in one pass: each file goes straight to its final place, in pieces, never through memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import python_multipart.multipart
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tasks import store
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.names import sent_name
from tasks.receiving import Receiving
from tasks.repeats import HEADER, Repeat, check_key
from webapp import admission, bodies, streams
from webapp.dispositions import read_disposition
from webapp.streams import Pace, Pump
from webapp.submitters import asker_of, submitter_of
from webapp.threads import write

FIELD_BYTES = 4096
FORM_BYTES = 80 * 1024
"""What the form around a file adds to the length of the request, at most."""
HEADER_BYTES = 4096
"""All that stands before one part's content: its name, the file's, its type."""
MOST_FILES = 100
"""In one form, whose files are all taken or none: what comes after a hundred others is better sent by itself."""
SETTLE_SECONDS, SETTLE_EVERY = 20.0, 0.1
"""How long a repeat waits for the first one with its key to arrive, and how often it looks."""


@dataclass
class Upload:
    """One file of the form: the place it got and the name its sender gave it."""

    receiving: Receiving | Repeat
    name: str


@dataclass
class Form:
    """What the form held. fields: text fields by name; uploads: files in order, all bytes written, not yet queued."""

    fields: dict[str, str] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)


@asynccontextmanager
async def read_form(
    request: Request, box: Box, *, allowed: tuple[str, ...], several: bool, warm: bool = True,
    check: Callable[[dict[str, str]], object] = lambda fields: None,
) -> AsyncIterator[Form]:  # fmt: skip
    """Read the request's form. Places of files that were not queued when the block ends are given back.

    The first place is taken before the body is read, so a full box answers before anything was sent.
    allowed: names of text fields. several: whether more than one file may come. warm: whether a model will be needed.
    check: given the fields so far, after each: what is wrong with them is said before the file's bytes come.
    Raises StenoboxError: the refusals of admission and everything that can be wrong with a form.
    """
    boundary = _boundary(request)
    size = None if several else announced(request.headers.get("content-length", "").encode("latin-1"))
    submitter, asker = submitter_of(request), asker_of(request)
    key = "" if several else key_of(request)
    if not (key != "" and await run_in_threadpool(is_known, box, submitter, key)):
        await admission.check(box.lookout, size, submitter, asker)
    stack = ExitStack()
    try:
        receive = partial(box.receive, submitter=submitter, asker=asker, key=key, warm=warm)
        first = await write(stack.enter_context, receive("recording", size))
        reader = _Reader(box, receive, stack, first, boundary, allowed, several, check)
        with streams.told_when_stopped(box.lookout):
            async with reader.pump:
                with Pace() as pace:
                    async for chunk in request.stream():
                        pace.came(len(chunk))
                        with pace.standing():
                            await reader.feed(chunk)
            form = reader.finish()
            for upload in form.uploads:
                await settle(upload.receiving)
        yield form
    except ClientDisconnect:
        raise StenoboxError("invalid_request", "The upload broke off before its end. Send it again.") from None
    finally:
        with anyio.CancelScope(shield=True):  # also when the server is being stopped
            await write(stack.close)


def key_of(request: Request) -> str:
    """The request's Idempotency-Key, "" without one. Raises StenoboxError invalid_value."""
    return check_key(request.headers.get(HEADER))


def is_known(box: Box, submitter: str, key: str) -> bool:
    """Whether the key stands for a job already: then it is not refused because the box is full."""
    return store.find_key(box.database, submitter, key) is not None


async def settle(receiving: Receiving | Repeat) -> None:
    """A repeat that came beside the first one with its key waits until that has arrived. Takes no thread meanwhile:
    the first one needs them to write."""
    if isinstance(receiving, Repeat):
        with anyio.move_on_after(SETTLE_SECONDS):
            while not await run_in_threadpool(receiving.settled):
                await anyio.sleep(SETTLE_EVERY)


def _boundary(request: Request) -> bytes:
    header = request.headers.get("content-type", "")[:HEADER_BYTES]  # its parser is quadratic
    kind, options = python_multipart.multipart.parse_options_header(header)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        sentence = "Send the recording as multipart/form-data with a part named file, as `curl -F file=@talk.mp3` does."
        if kind != b"multipart/form-data":
            sentence += ' A link goes as JSON: `curl --json \'{"url": "https://…"}\'`.'
        raise StenoboxError("unsupported_media_type", sentence)
    bodies.check_encoding(request)
    return boundary


def announced(length: bytes) -> int | None:
    """The file's size as far as the request's Content-Length tells; the form around it takes a little."""
    try:
        return max(0, int(length) - FORM_BYTES)
    except ValueError:
        return None


class _Reader:
    """Turns the parser's callbacks into fields and files. The parser is push-style: events queue up here."""

    def __init__(
        self,
        box: Box,
        receive: Callable[[str], AbstractContextManager[Receiving | Repeat]],
        stack: ExitStack,
        first: Receiving | Repeat,
        boundary: bytes,
        allowed: tuple[str, ...],
        several: bool,
        check: Callable[[dict[str, str]], object],
    ) -> None:
        self._box = box
        self._receive = receive
        self._stack = stack
        self._spare: Receiving | Repeat | None = first
        self._allowed = allowed
        self._several = several
        self._check = check
        self._form = Form()
        self._events: list[tuple[str, bytes]] = []
        try:
            self._parser = python_multipart.multipart.MultipartParser(boundary, self._callbacks())
        except FormParserError:  # the boundary is too long
            raise _malformed() from None
        self._header_name = b""
        self._header_value = b""
        self._header_bytes = 0
        self._after_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._upload: Upload | None = None
        self.pump = Pump(self._write)
        self._ended = False

    def _callbacks(self) -> Any:
        def data(event: str) -> Any:
            return lambda chunk, start, end: self._events.append((event, chunk[start:end]))

        def mark(event: str) -> Any:
            return lambda: self._events.append((event, b""))

        return {
            "on_part_begin": mark("part_begin"),
            "on_header_field": data("header_name"),
            "on_header_value": data("header_value"),
            "on_header_end": mark("header_end"),
            "on_headers_finished": mark("headers_finished"),
            "on_part_data": data("part_data"),
            "on_part_end": mark("part_end"),
            "on_end": mark("end"),
        }

    async def feed(self, chunk: bytes) -> None:
        if self._ended:
            self._after_bytes += len(chunk)
            if self._after_bytes > FORM_BYTES:  # it would keep its place for as long as it likes
                raise _malformed()
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _malformed() from None
        events, self._events = self._events, []
        for event, data in events:
            await self._on(event, data)

    def finish(self) -> Form:
        if not self._ended:
            raise _malformed()
        if not self._form.uploads:
            raise StenoboxError("missing_file", "There is no file in this form: send it as `file`.", param="file")
        return self._form

    async def _on(self, event: str, data: bytes) -> None:
        match event:
            case "part_data" if self._upload is not None:
                self.pump.add(data)
                if self.pump.full:
                    await self.pump.make_room()
            case "part_data":
                self._text += data
                if len(self._text) > FIELD_BYTES:
                    raise StenoboxError("invalid_value", "A field of this form is too long.", param=self._field)
            case "header_name":
                self._header_name += data
                self._count_header(data)
            case "header_value":
                self._header_value += data
                self._count_header(data)
            case "header_end":
                self._headers[self._header_name.lower()] = self._header_value
                self._header_name = self._header_value = b""
            case "headers_finished":
                await self._begin()
            case "part_end" if self._upload is not None:
                await self.pump.drain()
                self._upload = None
            case "part_end" if self._field is not None:
                fields = self._form.fields
                fields[self._field] = self._text.decode("utf-8", "replace").strip()
                self._field, self._text = None, bytearray()
                self._check(fields)
                if "model" in fields:
                    await run_in_threadpool(self._box.params, fields["model"], fields.get("language"))
            case "end":
                self._ended = True

    async def _begin(self) -> None:
        name, file = read_disposition(self._headers.get(b"content-disposition", b""))
        kind = self._headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1").strip().lower()
        self._headers, self._header_bytes = {}, 0
        if file is None and bodies.is_recording(kind):  # programs that send from memory know no name
            file = ""
        if file is not None and name == "file":
            await self._begin_file(sent_name(file))
        elif name == "file":
            sentence = "The part `file` has no file name: send it as `curl -F file=@talk.mp3` does."
            raise StenoboxError("missing_file", sentence, param="file")
        elif name not in self._allowed:
            known = ", ".join(("file", *self._allowed))
            raise StenoboxError(
                "unknown_field", f"There is no field {name[:40]!r} here. There are: {known}.", param=name[:40]
            )
        elif name in self._form.fields:
            raise StenoboxError("invalid_request", f"The field {name} comes twice in this form.", param=name)
        else:
            self._field = name

    def _count_header(self, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES:
            raise _malformed()

    async def _begin_file(self, name: str) -> None:
        if self._form.uploads and not self._several:
            raise StenoboxError("invalid_request", "Send one file a request; nothing was taken.", param="file")
        if len(self._form.uploads) == MOST_FILES:
            sentence = f"One form may hold {MOST_FILES} files; nothing was taken. Send the others in another one."
            raise StenoboxError("invalid_request", sentence, param="file")
        receiving, self._spare = self._spare, None
        if receiving is None:
            receiving = await write(self._stack.enter_context, self._receive(name))
        self._upload = Upload(receiving, name)
        self._form.uploads.append(self._upload)

    def _write(self, *chunks: bytes) -> None:
        assert self._upload is not None
        self._upload.receiving.write(*chunks)


def _malformed() -> StenoboxError:
    return StenoboxError("invalid_request", "This form can't be read: it is cut off or not multipart/form-data.")
