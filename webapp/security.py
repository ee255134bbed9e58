"""Rules for every request, as small ASGI classes: which hosts, which origins, which headers."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.config import Config
from tasks.errors import StenoboxError
from webapp.errors import respond

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HTTPS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}
"""A browser that came by https once comes by nothing else for a year."""
PROBED = ("/healthz", "/readyz")
"""Answered under every name. Probers of Fly, Kubernetes, Consul and Dokku ask by the box's private address, which
nobody could name beforehand, and neither answer holds anything that a page elsewhere should not read."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
UNKEPT = {"Cache-Control": "no-store"}
"""Of whatever says nothing else: what jobs and settings are is nobody's to keep, nor is a refusal."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class SecurityHeaders:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                for name, value in UNKEPT.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    MutableHeaders(scope=message).update(_HTTPS_ONLY)
            await send(message)

        await self.app(scope, receive, add if scope["type"] == "http" else send)


class Hosts:
    """What a request's Host may be."""

    def __init__(self, config: Config) -> None:
        self._names = frozenset(host.lower() for host in config.allowed_hosts)
        self._addresses = config.answers_addresses

    def hold(self, header: str) -> bool:
        host = host_of(header)
        return host in self._names or (self._addresses and _is_address(host))


class AllowedHosts:
    """Refuses a Host that is not ours: a page elsewhere could rebind its own name to this address."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self.app = app
        self._hosts = Hosts(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if (
            headers is not None and len(headers.getlist("host")) > 1
        ):  # which of them a proxy looked at is anybody's guess
            error = StenoboxError("unknown_host", "This request has several Host headers. Send one.")
            await respond(Request(scope), error)(scope, receive, send)
            return
        if headers is not None and not _is_probe(scope) and not self._hosts.hold(headers.get("host", "")):
            await respond(Request(scope), _unknown(headers.get("host", "")))(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in PROBED and scope["method"] in ("GET", "HEAD")


def _unknown(header: str) -> StenoboxError:
    host = host_of(header)
    named = f"the name {host}" if _NAME.fullmatch(host) else "the name it was asked by"
    example = host if _NAME.fullmatch(host) else "stenobox.example.org"
    return StenoboxError(
        "unknown_host",
        f"This box does not answer to {named}. If that is yours, start it with STENOBOX_HOSTS={example} "
        "(several with commas).",
    )


class SameOrigin:
    """Refuses changes that a browser sends on behalf of another site. Programs send neither header and pass; so do the
    sites that the operator named, which `Authentication` asks for a key."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "http" and scope["method"] not in _SAFE_METHODS
        if changes and not scope.get("foreign") and not is_same_origin(Headers(scope=scope)):
            error = StenoboxError("cross_origin", "This request came from another site, so nothing was changed.")
            await respond(Request(scope), error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_same_origin(headers: Headers) -> bool:
    """Whether no browser says that another site is behind this request."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:  # not an address at all
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        return False
    return ":" not in host or host.startswith("[")


def host_of(header: str) -> str:
    """The host without its port: "[::1]:8000" → "[::1]"."""
    if header.startswith("["):
        return header[: header.find("]") + 1].lower()
    return header.partition(":")[0].lower()
