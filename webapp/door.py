"""The shortest way to say that the box is full: refusals come by the thousand, and each must cost next to nothing."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.actions import Box
from tasks.errors import StenoboxError
from webapp.errors import body, headers
from webapp.security import HEADERS, host_of
from webapp.submitters import mark
from webapp.uploads import announced

PATH = "/api/v1/transcriptions"
_HEADERS = [
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
]


class Door:
    """Answers what the application would answer to a program's submission while the box is full, without the way
    through middleware, routes and form. Whatever is unusual goes that way: this is a shortcut and decides nothing."""

    def __init__(self, app: ASGIApp, hosts: list[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH and self._is_usual(scope):
            refusal = await _refusal(scope)
            if refusal is not None:
                await _answer(refusal, send)
                return
        await self.app(scope, receive, send)

    def _is_usual(self, scope: Scope) -> bool:
        """Nothing but the room is in question: a program that sends a form to one of our names."""
        sent = _headers(scope)
        return (
            len(sent) == len(scope["headers"])
            and b"origin" not in sent
            and b"sec-fetch-site" not in sent
            and host_of(sent.get(b"host", b"").decode("latin-1")) in self.hosts
            and sent.get(b"content-type", b"").startswith(b"multipart/form-data; boundary=")
        )


async def _refusal(scope: Scope) -> StenoboxError | None:
    box: Box = scope["app"].state.box
    sent = {name: value.decode("latin-1") for name, value in _headers(scope).items()}
    key = mark(sent.get(b"x-api-key", ""), sent.get(b"authorization", ""))
    try:
        if box.lookout.must_look(key):
            await run_in_threadpool(box.lookout.look, key)
        size = announced(sent.get(b"content-length", ""))
        box.lookout.check(size, submitter=key, asker=key or (scope["client"] or ("",))[0])
    except StenoboxError as refusal:
        return refusal
    return None


async def _answer(refusal: StenoboxError, send: Send) -> None:
    content = msgspec.json.encode(body(refusal))
    own = [(name.lower().encode(), value.encode()) for name, value in headers(refusal).items()]
    own.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": refusal.kind.status, "headers": own + _HEADERS})
    await send({"type": "http.response.body", "body": content})


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])
