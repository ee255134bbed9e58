"""The shortest way to say that the box is full: refusals come by the thousand, and each must cost next to nothing."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks import principals
from tasks.access import Access
from tasks.actions import Box
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.principals import OPERATOR, Principal
from webapp.admission import foresee
from webapp.auth import key_in
from webapp.errors import body, headers
from webapp.security import HEADERS, UNKEPT, Hosts
from webapp.uploads import announced

PATH = "/api/v1/transcriptions"
_HEADERS = [
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in (HEADERS | UNKEPT).items()),
]


class Door:
    """Answers what the application would answer to a program's submission while the box is full, without the way
    through middleware, routes and form. Whatever is unusual goes that way: this is a shortcut and decides nothing."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self.app = app
        self._hosts = Hosts(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH:
            headers: list[tuple[bytes, bytes]] = scope["headers"]
            sent = dict(headers)
            if len(sent) == len(headers) and not scope.get("forwarded") and self._is_usual(sent):
                refusal = await _refusal(scope["app"].state.box, sent, scope["client"])
                if refusal is not None:
                    await _answer(refusal, send)
                    return
        await self.app(scope, receive, send)

    def _is_usual(self, sent: dict[bytes, bytes]) -> bool:
        """Nothing but the room is in question: a program that sends a form to one of our names."""
        return (
            sent.get(b"content-type", b"").startswith(b"multipart/form-data; boundary=")
            and b"origin" not in sent
            and b"sec-fetch-site" not in sent
            and b"idempotency-key" not in sent  # its job may have been accepted before
            and self._hosts.hold(sent.get(b"host", b"").decode("latin-1"))
        )


async def _refusal(box: Box, sent: dict[bytes, bytes], client: tuple[str, int] | None) -> StenoboxError | None:
    principal = await _principal(box.access, sent)
    if principal is None:
        return None
    key = principal.submitter
    size = announced(sent.get(b"content-length", b""))
    return await foresee(box.lookout, size, key, key or (client[0] if client else ""))


async def _principal(access: Access, sent: dict[bytes, bytes]) -> Principal | None:
    """Who may submit; None for all others, whom the application tells why not."""
    key = ""
    if b"x-api-key" in sent or b"authorization" in sent:
        key = key_in(sent.get(b"x-api-key", b"").decode("latin-1"), sent.get(b"authorization", b"").decode("latin-1"))
    if access.must_look(key):
        try:
            await run_in_threadpool(access.look)
        except StenoboxError:
            return None
    if not key:
        return None if access.closed else OPERATOR
    principal = access.by_key(key)
    return principal if principal and principal.may(principals.Scope.SUBMIT) else None


async def _answer(refusal: StenoboxError, send: Send) -> None:
    start, end = _messages(refusal.code, refusal.message, refusal.param, refusal.retry_after)
    await send(start)
    await send(end)


@lru_cache(maxsize=256)  # most of those who come at the same time are told the same
def _messages(code: str, message: str, param: str | None, retry_after: int | None) -> tuple[Message, Message]:
    """The answer as ASGI messages, which servers do not change."""
    refusal = StenoboxError(code, message, param=param, retry_after=retry_after)
    content = msgspec.json.encode(body(refusal))
    own = [(name.lower().encode(), value.encode()) for name, value in headers(refusal).items()]
    own.append((b"content-length", str(len(content)).encode()))
    start = {"type": "http.response.start", "status": refusal.kind.status, "headers": own + _HEADERS}
    return start, {"type": "http.response.body", "body": content}
