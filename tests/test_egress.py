"""Where requests may go: the table of addresses, and what a process behind the rules still reaches."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from tasks import egress
from tasks.egress import Rules, fault, is_listed, is_public, read_allowed, read_hosts, resolve, without_query

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "151.101.1.69", "172.15.255.255", "172.32.0.0", "11.0.0.0", "100.63.255.255",
    "100.128.0.0", "169.253.255.255", "192.167.255.255", "223.255.255.255", "168.63.129.15", "2606:4700:4700::1111",
    "2001:4860:4860::8888", "2a00:1450:4001:830::200e", "2003::1", "2001:200::1",
]  # fmt: skip
REFUSED = [
    # loopback, unspecified, private, shared, link-local
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "100.64.0.1", "100.127.255.255", "169.254.1.1", "::", "::1", "fe80::1", "fe80::1%lo", "fec0::1",
    "fc00::1", "fdff::1",
    # metadata and platforms' own: AWS and most, ECS, Alibaba, Oracle, Azure, AWS by IPv6, Fly, Railway
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254",
    "fdaa::3", "fdaa:0:1234:a7b::2", "fd12::1", "fd12:3456::7",
    # multicast, broadcast, reserved, documentation, benchmarks
    "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "ff02::1", "ff0e::1", "192.0.2.1", "198.51.100.1",
    "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
    # an IPv4 address inside: mapped, compatible, NAT64, its local form, 6to4, Teredo
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1",
    "2001:20::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert Rules().permit(address, 80)
    assert Rules().permit(address, 443)


@pytest.mark.parametrize("address", REFUSED)
def test_any_other_address_may_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not Rules().permit(address, 443)


@pytest.mark.parametrize("port", [0, 22, 25, 79, 81, 8080, 6379, 65535, "80", None])
def test_only_the_ports_of_web_servers(port: object) -> None:
    assert not Rules().permit("1.1.1.1", port)


@pytest.mark.parametrize("name", ["localhost", "example.org", "127.1", "0x7f.1", "2130706433", "1.1.1.1.", "", None])
def test_what_is_not_a_numeric_address_is_none(name: object) -> None:
    assert not Rules().permit(name, 80)


def test_the_operator_allows_an_address_with_a_port_and_nothing_around_it() -> None:
    rules = Rules(read_allowed("127.0.0.1:8123, 192.168.1.0/24:8096,[fd00::7]:80,"))
    assert rules.permit("127.0.0.1", 8123)
    assert rules.permit("192.168.1.77", 8096)
    assert rules.permit("fd00::7", 80)
    for address, port in [("127.0.0.1", 80), ("127.0.0.2", 8123), ("192.168.2.1", 8096), ("fd00::8", 80)]:
        assert not rules.permit(address, port)
    assert not rules.permit("::ffff:127.0.0.1", 8123)
    assert rules.ports == {80, 443, 8123, 8096}


@pytest.mark.parametrize("text", ["127.0.0.1", "media.lan:80", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000", ":80"])
def test_an_allowance_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address and a port"):
        read_allowed(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org", "http://example.org:80/a%20b", "HTTPS://EXAMPLE.org/?q=1#f",
        "https://xn--bcher-kva.example/", "http://[2606:4700::1111]/a.mp3", "http://2130706433/",
        "https://example.org:443/",
    ],
)  # fmt: skip
def test_a_link_in_the_right_form(url: str) -> None:
    assert fault(url, Rules()) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with http"),
        ("-U", "begins with http"),
        ("--exec=reboot", "begins with http"),
        ("ytsearch:cats", "begins with http"),
        ("example.org/a.mp3", "begins with http"),
        ("file:///etc/passwd", "begins with http"),
        ("ftp://example.org/a", "begins with http"),
        ("rtmp://example.org/a", "begins with http"),
        ("http://example.org/a b", "begins with http"),
        ("http://example.org/\n", "begins with http"),
        ("http://example.org\\@127.0.0.1/", "begins with http"),
        ("http://", "begins with http"),
        ("http:///etc/passwd", "names no host"),
        ("http://-U/", "names no host"),
        ("http://:80/", "names no host"),
        ("http://a<b>/", "names no host"),
        ("http://user:secret@example.org/", "carries a name or password"),
        ("http://example.org:22/", "names a port"),
        ("http://example.org:99999/", "can't be read"),
        ("http://[::1/", "can't be read"),
        ("https://example.org/" + "a" * 2048, "longer than 2048"),
    ],
)
def test_a_link_that_is_wrong_is_told_why(url: str, reason: str) -> None:
    assert reason in (fault(url, Rules()) or "")


def test_a_port_that_the_operator_allows_may_be_named() -> None:
    assert fault("http://127.0.0.1:8123/a.mp3", Rules(read_allowed("127.0.0.1:8123"))) is None


def test_hosts_are_listed_with_all_below_them() -> None:
    hosts = read_hosts(" Example.org, .media.example.net.,, ")
    assert hosts == ("example.org", "media.example.net")
    assert all(
        is_listed(host, hosts) for host in ("example.org", "www.EXAMPLE.org", "example.org.", "media.example.net")
    )
    assert not any(is_listed(host, hosts) for host in ("badexample.org", "example.net", "org", ""))


def test_logs_get_no_query_and_no_password() -> None:
    assert without_query("https://me:pw@example.org/a?token=secret#x") == "https://example.org/a"


# What a process behind the rules still reaches


class Canary:
    """A server that counts who comes."""

    def __init__(self, family: int = socket.AF_INET, host: str = "127.0.0.1") -> None:
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.hits.append(self.path)
                self.send_response(200 if self.path != "/away" else 302)
                if self.path == "/away":
                    self.send_header("Location", canary.leads_to)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(HTTPServer):
            address_family = socket.AddressFamily(family)

        self.hits: list[str] = []
        self.leads_to = ""
        self.server = Server((host, 0), Handler)
        self.port: int = self.server.server_address[1]


@contextmanager
def canary(family: int = socket.AF_INET, host: str = "127.0.0.1") -> Iterator[Canary]:
    made = Canary(family, host)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def armed(code: str, allowed: str = "", program: str = "", before: str = "") -> Any:
    """Run code in a process behind the rules; what it put into `found`."""
    start = (
        "import json, os, socket, subprocess, sys, urllib.request, ctypes\n"
        f"{before}\n"
        "from tasks import egress\n"
        f"egress.arm(egress.Rules(egress.read_allowed({allowed!r})), {program or None!r})\n"
        "def name(call):\n"
        "    try: return repr(call())\n"
        "    except Exception as error: return type(error).__name__\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{start}{code}\nprint(json.dumps(found))"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_listening_here_is_reached_by_any_form_of_its_address() -> None:
    with canary() as four, canary(socket.AF_INET6, "::1") as six:
        hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "localhost", "[::ffff:127.0.0.1]"]
        urls = [f"http://{host}:{four.port}/" for host in hosts] + [f"http://[::1]:{six.port}/"]
        found = armed(f"found = [name(lambda: urllib.request.urlopen(url, timeout=5).read()) for url in {urls!r}]")
        assert found == ["URLError"] * len(urls)
        assert (four.hits, six.hits) == ([], [])


def test_each_way_to_dial_is_refused_alike_whether_anything_listens_or_not() -> None:
    with canary() as here:
        found = armed(
            f"""
def tcp(to, family=socket.AF_INET):
    with socket.socket(family) as one: one.connect(to)
def tcp_ex(to):
    with socket.socket() as one: return one.connect_ex(to)
def udp(to):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.sendto(b"x", to)
def message(to):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.sendmsg([b"x"], [], 0, to)
open_, closed = ("127.0.0.1", {here.port}), ("127.0.0.1", 1)
found = [[name(lambda: way(to)) for way in (tcp, tcp_ex, udp, message, lambda a: socket.create_connection(a))]
         for to in (open_, closed, ("localhost", {here.port}))]
found.append(name(lambda: tcp("/run/docker.sock", socket.AF_UNIX)))
found.append(name(lambda: socket.socket().bind(("127.0.0.1", 0))))
"""
        )
        assert found[0] == found[1] == [*["ConnectionRefusedError"] * 4, "gaierror"]
        assert found[2] == [*["ConnectionRefusedError"] * 4, "gaierror"]
        assert found[3:] == ["ConnectionRefusedError", "PermissionError"]
        assert here.hits == []


def test_what_is_allowed_is_reached_and_a_redirect_from_there_is_not() -> None:
    with canary() as allowed, canary() as other:
        allowed.leads_to = f"http://127.0.0.1:{other.port}/inside"
        found = armed(
            f"""
base = "http://127.0.0.1:{allowed.port}"
found = [name(lambda: urllib.request.urlopen(base + path, timeout=5).read()) for path in ("/", "/away")]
""",
            allowed=f"127.0.0.1:{allowed.port}",
        )
        assert found == ["b'ok'", "URLError"]
        assert (allowed.hits, other.hits) == (["/", "/away"], [])


def test_a_name_that_turns_to_an_inner_address_is_not_followed() -> None:
    with canary() as here:
        answers = f"""
def lookup(host, port, *more, **others):
    address = {{"inner.example": "127.0.0.1", "mapped.example": "::ffff:127.0.0.1", "far.example": "10.1.2.3"}}[host]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return [(family, socket.SOCK_STREAM, 6, "", (address, {here.port}))]
"""
        visits = f"""
names = ("inner.example", "mapped.example", "far.example")
visit = lambda host: name(lambda: urllib.request.urlopen(f"http://{{host}}:{here.port}/", timeout=5))
found = [visit(host) for host in names]
socket.getaddrinfo = lookup  # the answer has changed since it was checked: what is dialled counts
found += [visit(host) for host in names]
"""
        assert armed(visits, before=f"{answers}socket.getaddrinfo = lookup") == ["URLError"] * 6
        assert here.hits == []


def test_no_program_starts_but_the_one_that_is_named() -> None:
    ways = """
found = [name(call) for call in (
    lambda: subprocess.run(["/bin/echo", "no"], capture_output=True).stdout,
    lambda: subprocess.run("echo no", shell=True, capture_output=True).stdout,
    lambda: subprocess.run(["/bin/true"], capture_output=True).returncode,
    lambda: subprocess.Popen(["true"], executable="/bin/echo"),
    lambda: os.system("true"),
    lambda: os.posix_spawn("/bin/echo", ["echo"], {}),
    lambda: os.fork(),
    lambda: os.execv("/bin/echo", ["echo"]),
    lambda: ctypes.CDLL("libc.so.6"),
)]
"""
    assert armed(ways, program="/bin/true") == ["PermissionError", "PermissionError", "0", *["PermissionError"] * 6]
    assert armed(ways)[2] == "PermissionError"


def test_a_public_address_is_still_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is sent: the dial is checked before the kernel is asked, and this one would go on.
    told: list[str] = []
    with socket.socket() as one:
        egress._check_dial(Rules(), told.append, one, ("93.184.216.34", 443))
        assert told == []
        with pytest.raises(ConnectionRefusedError):
            egress._check_dial(Rules(), told.append, one, ("93.184.216.34", 8443))
    assert told == ["93.184.216.34:8443"]


# One httpx client behind them


@pytest.fixture
def client() -> Iterator[Callable[[str], httpx.Client]]:
    made: list[httpx.Client] = []

    def open_client(allowed: str = "") -> httpx.Client:
        made.append(httpx.Client(transport=egress.transport(Rules(read_allowed(allowed))), follow_redirects=True))
        return made[-1]

    yield open_client
    for one in made:
        one.close()


def test_a_client_reaches_what_is_allowed_and_nothing_it_redirects_to(client: Callable[[str], httpx.Client]) -> None:
    with canary() as allowed, canary() as other:
        allowed.leads_to = f"http://127.0.0.1:{other.port}/inside"
        http = client(f"127.0.0.1:{allowed.port}")
        assert http.get(f"http://127.0.0.1:{allowed.port}/").text == "ok"
        assert http.get(f"http://localhost:{allowed.port}/").text == "ok"
        said = set()
        for url in (f"http://127.0.0.1:{allowed.port}/away", f"http://localhost:{other.port}/", "http://127.0.0.1:1/"):
            with pytest.raises(httpx.ConnectError) as refused:
                http.get(url)
            said.add(str(refused.value))
        assert said == {"unreachable"}
        assert other.hits == []


def test_a_client_asks_nothing_through_a_local_socket_and_sees_a_closed_port_as_unreachable(
    client: Callable[[str], httpx.Client],
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(httpx.ConnectError, match="unreachable"):
            client(f"127.0.0.1:{port}").get(f"http://127.0.0.1:{port}/")
    backend = egress.transport(Rules())._pool._network_backend  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="unreachable"):
        backend.connect_unix_socket("/run/docker.sock")


def test_a_name_nobody_knows_has_no_addresses() -> None:
    assert resolve("no.such.name.invalid", 80, Rules()) == []
    assert resolve("a" * 64 + ".example", 80, Rules()) == []
    assert resolve("localhost", 80, Rules()) == []
