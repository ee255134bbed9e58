"""Who sends a request: asked once, for every address, before anything else looks at it."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks import principals
from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.logins import Logins
from tasks.principals import OPERATOR, Principal
from tasks.store import Session
from webapp import rules
from webapp.cookies import token_in
from webapp.errors import respond

NOBODY = Principal("nobody", principals.Scope.READ, "nobody")
"""Whoever asks for what is open to everybody."""


def principal_of(request: HTTPConnection) -> Principal:
    """On whose behalf this request is."""
    principal: Principal = request.scope["principal"]
    return principal


def session_of(request: HTTPConnection) -> Session | None:
    """The session of a browser that is logged in; None for a key, and where there is nothing to log in to."""
    found: Session | None = request.scope.get("session")
    return found


def logins_of(request: HTTPConnection) -> Logins:
    """People's comings and goings at this box."""
    box: Box = request.app.state.box
    return box.logins


def key_in(api_key: str, authorization: str) -> str:
    """The key in these two headers, X-API-Key before the Bearer token; "" without one."""
    if key := api_key.strip():
        return key
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Authentication:
    """Puts the principal into the scope, and refuses who may not do what is asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope["principal"] = await _let_in(scope)
            except StenoboxError as refusal:
                await _refuse(Request(scope), refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _let_in(scope: Scope) -> Principal:
    """The principal. Raises StenoboxError unauthorized, forbidden or database_busy."""
    needed = rules.needed(scope["method"], scope["path"])
    if needed is None:
        return NOBODY
    box: Box = scope["app"].state.box
    access, headers = box.access, Headers(scope=scope)
    key = key_in(headers.get("x-api-key", ""), headers.get("authorization", ""))
    if access.must_look(key):
        await run_in_threadpool(access.look)
    principal = access.by_key(key) if key else None if access.closed else OPERATOR
    if not key and access.closed and (session := await _session(box.logins, HTTPConnection(scope))):
        principal = OPERATOR
        scope["session"] = session
    if principal is None:
        raise unauthorized(key)
    if not key and scope.get("foreign"):  # of a box that asks nobody else for one
        raise StenoboxError(
            "cross_origin", "This request came from a page of another site, which needs a key: send it as X-API-Key."
        )
    if not access.closed and scope.get("forwarded"):
        raise StenoboxError(
            "unnamed_proxy",
            "This request came through a proxy, so others can reach this box, and it has no password. Set one with "
            "`stenobox password` or STENOBOX_PASSWORD, and name the proxy: STENOBOX_PROXIES=127.0.0.1",
        )
    if not principal.may(needed) and _is_there(scope):
        sentence = f"This key has the scope {principal.scope}; what you ask for needs {needed}."
        raise StenoboxError("forbidden", sentence)
    if key and access.use_is_due(key):
        await run_in_threadpool(access.note_use, key)
    return principal


async def _session(logins: Logins, request: HTTPConnection) -> Session | None:
    token = token_in(request)
    if not token:
        return None
    return logins.remembered(token) or await run_in_threadpool(logins.session, token)


def _is_there(scope: Scope) -> bool:
    """Whether any route answers at this address; if not, that is what is said to those who came in."""
    return any(route.matches(scope)[0] is not Match.NONE for route in scope["app"].routes)


def unauthorized(key: str) -> StenoboxError:
    """The refusal of a stranger."""
    if key:
        return StenoboxError(
            "unauthorized", "This key is not known here, or no longer: it was revoked, replaced, or has expired."
        )
    return StenoboxError(
        "unauthorized", "This box is for those who have a key: send it as X-API-Key, or as Authorization: Bearer."
    )


def _refuse(request: Request, refusal: StenoboxError) -> Response:
    """A page that a person wants to see becomes the login; everything else is told."""
    if refusal.code == "unauthorized" and token_in(request) and request.method not in ("GET", "HEAD"):
        refusal = StenoboxError(
            "unauthorized",
            "You were logged out. Log in in a new tab, then come back and reload this page: what you sent goes again.",
        )
    answer = respond(request, refusal)
    if refusal.code != "unauthorized" or answer.headers["content-type"] == "application/json":
        return answer
    if (
        "hx-request" not in request.headers
        and request.method in ("GET", "HEAD")
        and "text/html" in request.headers.get("accept", "")
    ):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" if here == "/" else f"/login?next={quote(here, safe='/')}", 303)
    return answer
