"""Egress: where requests to addresses that strangers chose may go. Public web servers, and nothing else.

A name says nothing: a redirect, a playlist's segment or a second look at the name server may lead anywhere. So the
rule is about the numeric address and port that are dialled, at the moment they are dialled:

- `arm` puts a whole process behind the rule, for good, whatever library dials; downloads run in a child that does.
- `transport` puts one httpx client behind it, for requests made by a process that has others to make.

Whoever asked is never told which rule refused, nor whether anything listened: all of it reads as unreachable.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = (80, 443)
MOST_CHARACTERS = 2048
"""The longest address that is taken: servers and browsers know none longer."""

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        # Python's own tables differ between versions, so everything that matters is written out.
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's own services for its machines, at an address that looks public
        "2001::/23",  # Teredo, ORCHID and other protocols' own
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
    )
)  # fmt: skip
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is the public internet's. Outside are loopback, link-local and private addresses (Fly's fdaa::/16
and Railway's fd12::/16 among them), multicast, NAT64 (64:ff9b::/96) and IPv4 in mapped or compatible form."""


def is_public(address: Address) -> bool:
    """Whether an address is one machine's on the public internet, and not an IPv4 address in disguise."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or address.scope_id):
        return False
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True, slots=True)
class Rules:
    """allowed: networks with a port that the operator lets requests go to besides the public ones, such as a media
    server in the same house."""

    allowed: tuple[tuple[Network, int], ...] = ()

    @property
    def ports(self) -> frozenset[int]:
        """Every port that may be dialled somewhere."""
        return frozenset(PORTS).union(port for _, port in self.allowed)

    def permit(self, address: object, port: object) -> bool:
        """Whether this numeric address and port may be dialled. A name is no address."""
        try:
            found = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        if any(port == allowed and found in network for network, allowed in self.allowed):
            return True
        return port in PORTS and is_public(found)


def read_allowed(text: str) -> tuple[tuple[Network, int], ...]:
    """`127.0.0.1:8123, 192.168.1.0/24:8096, [fd00::7]:80` → networks with ports. Raises ValueError with the part that
    can't be read."""
    allowed = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        network, _, port = part.rpartition(":")
        try:
            number = int(port) if port.isascii() and port.isdigit() else 0
            if not 0 < number < 65_536:
                raise ValueError
            allowed.append((ipaddress.ip_network(network.replace("[", "").replace("]", "")), number))
        except ValueError:
            raise ValueError(f"{part!r} is not an address and a port") from None
    return tuple(allowed)


def read_hosts(text: str) -> tuple[str, ...]:
    """`example.org, media.example.net` → names in lower case, without dots around them."""
    return tuple(name for part in text.split(",") if (name := part.strip().strip(".").lower()))


def is_listed(host: str, hosts: Iterable[str]) -> bool:
    """Whether a host is one of these, or below one of them."""
    host = host.rstrip(".").lower()
    return any(host == name or host.endswith(f".{name}") for name in hosts)


def fault(url: str, rules: Rules) -> str | None:
    """What is wrong with the form of a URL, as the end of a sentence; None if nothing is. Where it leads is only known
    once it is dialled."""
    if len(url) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    if not re.fullmatch(r"https?://[^\s\\]+", url, re.ASCII | re.IGNORECASE) or not url.isprintable():
        return "is not one that begins with http:// or https://"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "can't be read"
    if "@" in parts.netloc:
        return "carries a name or password; only public links can be fetched"
    if not host or host.startswith(("-", ".")) or not re.fullmatch(r"[\w.:%-]+", host):
        return "names no host"
    if port is not None and port not in rules.ports:
        return "names a port; only web servers at the usual ports can be asked"
    return None


def without_query(url: str) -> str:
    """A URL as logs may have it: what follows the path can be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def resolve(host: str, port: int, rules: Rules) -> list[str]:
    """The numeric addresses of a name that may be dialled. Empty when there are none, or no such name."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(to[0]) for *_, to in answers if rules.permit(to[0], port)]


def transport(rules: Rules) -> httpx.HTTPTransport:
    """For httpx.Client(transport=…): each connection goes to an address that was checked, also after a redirect or
    when the name has meanwhile another one. Raises httpx.ConnectError for all that may not be."""
    import httpcore
    import httpx

    class Backend(httpcore.SyncBackend):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Any = None,
        ) -> httpcore.NetworkStream:
            for address in resolve(host, port, rules):
                try:
                    return super().connect_tcp(address, port, timeout, local_address, socket_options)
                except httpcore.NetworkError:
                    continue
            raise httpcore.ConnectError("unreachable")

        def connect_unix_socket(
            self, path: str, timeout: float | None = None, socket_options: Any = None
        ) -> httpcore.NetworkStream:
            raise httpcore.ConnectError("unreachable")

    made = httpx.HTTPTransport(trust_env=False)
    made._pool = httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=Backend())
    return made


_DIALS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_STARTS = ("subprocess.Popen", "os.posix_spawn", "os.exec")
_NEVER = ("os.system", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "pty.spawn", "ctypes.dlopen", "socket.bind")


def arm(rules: Rules, program: str | None = None, on_refused: Callable[[str], None] = lambda _: None) -> None:
    """Put this process behind the rules until it ends: nothing takes an audit hook away. program: the absolute path of
    the only program that may be started; on_refused: told of each address that something led to, for the operator and
    never part of an answer. Native code that dials by itself is not seen: import none that does."""
    lookup = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        found = []
        for answer in lookup(host, port, *arguments, **options):
            to: Any = answer[4]
            if rules.permit(*to[:2]):
                found.append(answer)
            else:
                on_refused(f"{to[0]}:{to[1]}")
        if not found:  # as for a name that isn't there
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _DIALS:
            _check_dial(rules, on_refused, *arguments[:2])
        elif event in _STARTS:
            if program is None or os.fsdecode(arguments[0]) != program:
                raise PermissionError(errno.EPERM, "no program may be started here")
        elif event in _NEVER:
            raise PermissionError(errno.EPERM, "not allowed here")

    socket.getaddrinfo = getaddrinfo
    sys.addaudithook(check)


def _check_dial(rules: Rules, on_refused: Callable[[str], None], dialling: socket.socket, to: Any) -> None:
    if to is None:  # sendmsg on a connection that was checked when it was made
        return
    if dialling.family in (socket.AF_INET, socket.AF_INET6) and isinstance(to, tuple) and rules.permit(*to[:2]):
        return
    on_refused(f"{to[0]}:{to[1]}" if isinstance(to, tuple) and len(to) > 1 else "a local socket")
    raise ConnectionRefusedError(errno.ECONNREFUSED, "unreachable")
