"""The Settings page: keys of programs, browsers that are logged in, the password."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tasks import __version__, passwords
from tasks.errors import StenoboxError
from tasks.principals import Scope
from webapp.api import box_of
from webapp.auth import session_of
from webapp.bodies import read_fields
from webapp.errors import headers
from webapp.login import address_of, agent_of, enter
from webapp.pages import see
from webapp.templating import templates
from webapp.threads import write

SAID = {
    "revoked": "The key is refused from now on. Its jobs stay.",
    "ended": "That browser is logged out.",
    "others": "All other browsers are logged out.",
    "password": "The password is changed, and all other browsers are logged out.",
}
_ENDS = {"": None, "30": 30.0, "90": 90.0, "365": 365.0}


def show(request: Request) -> Response:
    """GET /settings"""
    return _page(request, said=SAID.get(request.query_params.get("said", ""), ""))


async def create_key(request: Request) -> Response:
    """POST /settings/keys: `name`, `scope`, `max_active`, `expires`. The answer shows the key, once."""
    return await _with_fields(request, _create_key)


async def rotate_key(request: Request) -> Response:
    """POST /settings/keys/rotate: `name`. The answer shows the new text, once."""
    return await _with_fields(request, _rotate_key)


async def revoke_key(request: Request) -> Response:
    """POST /settings/keys/revoke: `name`"""
    return await _with_fields(request, _revoke_key)


async def end_session(request: Request) -> Response:
    """POST /settings/sessions/end: `session`"""
    return await _with_fields(request, _end_session)


async def end_others(request: Request) -> Response:
    """POST /settings/sessions/end-others"""
    return await _with_fields(request, _end_others)


async def change_password(request: Request) -> Response:
    """POST /settings/password: `current`, `new`. Logs everybody out, and this browser in again."""
    return await _with_fields(request, _change_password)


async def _with_fields(request: Request, act: Callable[[Request, dict[str, str]], Response]) -> Response:
    return await write(act, request, await read_fields(request))


def _create_key(request: Request, fields: dict[str, str]) -> Response:
    try:
        key, text = box_of(request).access.create_key(
            fields.get("name", ""),
            fields.get("scope", Scope.SUBMIT),
            max_active=_number(fields.get("max_active", "")),
            days=_ENDS.get(fields.get("expires", "")),
        )
    except StenoboxError as error:
        return _page(request, error=error, typed=fields)
    return _page(request, fresh=(key.name, text))


def _rotate_key(request: Request, fields: dict[str, str]) -> Response:
    key, text = box_of(request).access.rotate_key(fields.get("name", ""))
    return _page(request, fresh=(key.name, text))


def _revoke_key(request: Request, fields: dict[str, str]) -> Response:
    box_of(request).access.revoke_key(fields.get("name", ""))
    return see("/settings?said=revoked")


def _end_session(request: Request, fields: dict[str, str]) -> Response:
    box_of(request).logins.end_session(fields.get("session", ""))
    return see("/settings?said=ended")


def _end_others(request: Request, _: dict[str, str]) -> Response:
    session = session_of(request)
    box_of(request).logins.end_others(session.id if session else "")
    return see("/settings?said=others")


def _change_password(request: Request, fields: dict[str, str]) -> Response:
    logins, address = box_of(request).logins, address_of(request)
    try:
        logins.change_password(fields.get("current", ""), fields.get("new", ""), address)
    except StenoboxError as error:
        return _page(request, error=error)
    return enter(request, logins.begin_session(address, agent_of(request)), "/settings?said=password")


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        sentence = "The limit of active jobs must be a whole number, or empty for none."
        raise StenoboxError("invalid_value", sentence, param="max_active")
    return int(text)


def _page(
    request: Request,
    *,
    said: str = "",
    fresh: tuple[str, str] | None = None,
    error: StenoboxError | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    """fresh: name and text of a key that was just made; typed: what a refused form held."""
    box, session = box_of(request), session_of(request)
    context: dict[str, Any] = {
        "keys": [key for key in box.access.list_keys() if key.revoked_at is None],
        "sessions": box.logins.sessions(),
        "own_session": session.id if session else "",
        "password_is_set": box.logins.password_is_set(),
        "password_is_the_operators": box.logins.password_is_the_operators(),
        "least": passwords.LEAST_CHARACTERS,
        "now": time.time(),
        "said": said,
        "fresh": fresh,
        "error": error,
        "typed": typed or {},
        "version": __version__,
    }
    status = error.kind.status if error else 200
    more = {"Cache-Control": "no-store"} | (headers(error) if error else {})
    return templates.TemplateResponse(request, "settings/index.html", context, status, more)
