"""Who really asks, when a proxy stands before the box: believed only of proxies that were named."""

from __future__ import annotations

import ipaddress
import logging
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.config import Config

logger = logging.getLogger(__name__)

_FORWARDED = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"fly-client-ip",
    b"cf-connecting-ip",
    b"true-client-ip",
)
"""What proxies add, of which each alone tells that there is one."""


class Proxies:
    """Puts the client's own address, and the scheme it used, into the scope; or `forwarded`, where a proxy that nobody
    named passed a request on: who sent it can't be known then, only that it need not be somebody on this machine."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self.app = app
        self._networks = config.trusted_proxies
        self._header = config.client_header.lower().encode()
        self._signs = frozenset((*_FORWARDED, self._header))
        self._warned = False
        self._is_trusted = lru_cache(maxsize=256)(self._find)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            peer = (scope.get("client") or ("", 0))[0]
            if self._networks and self._is_trusted(peer):
                self._believe(scope)
            elif any(name in self._signs for name, _ in scope["headers"]):
                scope["forwarded"] = True
                self._warn(peer)
        await self.app(scope, receive, send)

    def _warn(self, peer: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "a request from %s says that it was forwarded, which is not believed: if that is your proxy, name "
                "it with STENOBOX_PROXIES",
                peer or "nobody",
            )

    def _believe(self, scope: Scope) -> None:
        sent = b",".join(value for name, value in scope["headers"] if name == self._header).decode("latin-1")
        # From the right: what stands further left is what somebody before our proxies claimed.
        for text in reversed(sent.split(",")):
            address = _address(text)
            if address is None:
                break
            scope["client"] = (address, 0)
            if not self._is_trusted(address):
                break
        schemes = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
        scheme = b",".join(schemes).decode("latin-1").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https"):
            scope["scheme"] = scheme

    def _find(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


def _address(text: str) -> str | None:
    """An address as proxies write it, some with a port; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
