"""Half-open connections: heads that never end, bodies that never come, and a box that answers everyone else."""

from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from support import wait_until
from web_support import FORM, Live, live

from tasks.config import Config
from webapp import bodies, protocol, streams
from webapp.protocol import OPTIONS

SUBMIT = "/api/v1/transcriptions"
HALF_OPEN = {
    "silent": b"",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: local",
    "no body": f"POST {SUBMIT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    f"Content-Type: {FORM['Content-Type']}\r\n\r\n".encode(),
    "no raw body": f"PUT {SUBMIT}/a.mp3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n".encode(),
    "no JSON": f"POST {SUBMIT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    "Content-Type: application/json\r\n\r\n{".encode(),
    "a body nobody reads": b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",
    "half a second head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHos",
}


@pytest.fixture
def server(config: Config) -> Iterator[Live]:
    with live(config, **OPTIONS) as server:
        yield server


TIMES = ((protocol, "HEAD"), (protocol, "LEFTOVER"), (streams, "STALL"), (bodies, "MOST"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is waited for only a little."""
    for module, name in TIMES:
        monkeypatch.setattr(module, f"{name}_SECONDS", 1.0)


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection; reads what it said before."""
    while select.select([connection], [], [], 0)[0]:
        try:
            if not connection.recv(65536):
                return True
        except ConnectionResetError:
            return True
    return False


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", HALF_OPEN)
def test_what_never_ends_is_ended(server: Live, kind: str) -> None:
    with server.connect() as connection:
        connection.sendall(HALF_OPEN[kind])
        wait_until(lambda: closed(connection), 20)
    wait_until(lambda: server.states() == [], 10)


def test_300_half_open_connections_slow_nobody_and_are_closed_in_time(
    server: Live, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # both ends are in this process
    if soft < 2000 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
        request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
    for module, name in TIMES:
        monkeypatch.setattr(module, f"{name}_SECONDS", 15.0)
    kinds = list(HALF_OPEN.values())
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(300)]
        for number, connection in enumerate(connections):
            connection.sendall(kinds[number % len(kinds)])
        wait_until(lambda: len(server.server.server_state.connections) == 300, 10, every=0.01)
        for _ in range(5):
            assert httpx.get(server.url + "/healthz", timeout=5).status_code == 200
        assert httpx.get(server.url + "/", timeout=5).status_code == 200
        open_ = set(connections)

        def all_closed() -> bool:
            open_.difference_update([connection for connection in open_ if closed(connection)])
            return not open_

        wait_until(all_closed, 60)
    wait_until(lambda: server.states() == [], 10)
    assert httpx.get(server.url + "/healthz", timeout=5).status_code == 200


def test_a_head_without_end_is_cut_by_its_size(server: Live) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")

        def cut() -> bool:
            try:
                connection.sendall(b"X-More: %b\r\n" % (b"y" * 1000))
            except OSError:
                return True
            return closed(connection)

        wait_until(cut, 20, every=0)


def test_a_refused_client_hears_its_refusal_and_may_go_on(server: Live) -> None:
    with server.connect() as connection:
        connection.sendall(HALF_OPEN["a body nobody reads"])
        assert b"404" in connection.recv(65536)
        connection.sendall(b"x" * 99 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
