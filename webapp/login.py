"""How people come in and leave: login, logout, and the page that sets the first password."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tasks import __version__, passwords
from tasks.errors import StenoboxError
from webapp.auth import logins_of
from webapp.bodies import read_fields
from webapp.cookies import drop_token, put_token, token_in
from webapp.errors import headers
from webapp.templating import templates
from webapp.threads import check_password, write


def show_login(request: Request) -> Response:
    """GET /login?next="""
    logins = logins_of(request)
    following = local(request.query_params.get("next", ""))
    if not logins.password_is_set() and not logins.closed():
        return RedirectResponse(following, 303)  # there is nothing to log in to
    return _page(
        request,
        "doors/login.html",
        following=following,
        password_is_set=logins.password_is_set(),
        ended=_has_ended(request),
    )


def _has_ended(request: Request) -> bool:
    """Whether this browser was logged in, and no longer is: by its time, a changed password or another browser."""
    token = token_in(request)
    return bool(token) and logins_of(request).session(token) is None


async def log_in(request: Request) -> Response:
    """POST /login: `password`, `next`."""
    fields = await read_fields(request)
    return await check_password(_log_in, request, fields)


def _log_in(request: Request, fields: dict[str, str]) -> Response:
    logins, following = logins_of(request), local(fields.get("next", ""))
    try:
        token = logins.log_in(fields.get("password", ""), address_of(request), agent_of(request), token_in(request))
    except StenoboxError as error:
        known = logins.password_is_set()
        return _page(request, "doors/login.html", error=error, following=following, password_is_set=known, ended=False)
    return enter(request, token, following)


async def log_out(request: Request) -> Response:
    """POST /logout"""
    await write(logins_of(request).log_out, token_in(request))
    response = RedirectResponse("/login", 303)
    drop_token(response, request)
    return response


def show_set_up(request: Request) -> Response:
    """GET /setup?token=: where the link leads that is printed at the first start."""
    token = request.query_params.get("token", "")
    return _page(request, "doors/setup.html", token=token, invited=logins_of(request).is_invited(token))


async def set_up(request: Request) -> Response:
    """POST /setup: `token`, `password`. Sets the password, once, and logs in."""
    fields = await read_fields(request)
    return await check_password(_set_up, request, fields)


def _set_up(request: Request, fields: dict[str, str]) -> Response:
    logins, token = logins_of(request), fields.get("token", "")
    try:
        logins.set_up(token, fields.get("password", ""))
    except StenoboxError as error:
        return _page(request, "doors/setup.html", error=error, token=token, invited=error.code == "invalid_value")
    return enter(request, logins.begin_session(address_of(request), agent_of(request)), "/")


def enter(request: Request, token: str, following: str) -> Response:
    """Go there, logged in."""
    response = RedirectResponse(following, 303)
    put_token(response, request, token)
    return response


def local(text: str) -> str:
    """An address on this box, or the front page: never one elsewhere, however it is written."""
    there = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if there else "/"


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def agent_of(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _page(request: Request, name: str, *, error: StenoboxError | None = None, **context: Any) -> Response:
    context |= {"error": error, "version": __version__, "least": passwords.LEAST_CHARACTERS}
    status = error.kind.status if error else 200
    more = {"Cache-Control": "no-store"} | (headers(error) if error else {})
    more.pop("WWW-Authenticate", None)  # a browser would ask for it in a window of its own
    return templates.TemplateResponse(request, name, context, status, more)
