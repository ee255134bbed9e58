"""What a connection may take before it has said what it wants."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from starlette.applications import Starlette
from support import wait_until
from web_support import Live, live

from tasks import media
from tasks.config import Config
from webapp import protocol
from webapp.security import HEADERS
from webapp.server import Server


@pytest.fixture
def box(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with live(config, **protocol.OPTIONS) as box:
        yield box


def answer(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_half_open_request_is_given_up(box: Live, sent: bytes) -> None:
    with box.connect() as connection:
        connection.sendall(sent)
        assert answer(connection) == b""


def test_a_second_request_on_a_connection_has_its_own_time(box: Live) -> None:
    with box.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HT")
        answer(connection)


@pytest.mark.parametrize("head", [b"X: " + b"a" * 2**20, b"X: a\r\n" * 2**17], ids=["one long", "many"])
def test_endless_headers_are_refused(box: Live, head: bytes) -> None:
    with box.connect() as connection:
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head)
            found = answer(connection)
        except ConnectionError:  # it closed while we were still sending
            return
        assert found.startswith((b"HTTP/1.1 431 ", b"")), found[:100]
        assert b"200 OK" not in found


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nBroken\x00\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_no_request_gets_the_headers_of_all_answers(box: Live, sent: bytes) -> None:
    with box.connect() as connection:
        connection.sendall(sent)
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    error = json.loads(body)["error"]
    assert (error["code"], error["type"], error["param"]) == ("invalid_request", "invalid_request_error", None)
    assert "no HTTP request" in error["message"]
    large, _, why = protocol._TOO_LARGE.partition(b"\r\n\r\n")
    assert large.startswith(b"HTTP/1.1 431 ")
    assert "64 KiB" in json.loads(why)["error"]["message"]
    for name, value in HEADERS.items():
        assert f"\r\n{name}: {value}".encode() in head
        assert f"\r\n{name}: {value}\r\n".encode() in protocol._TOO_LARGE


def test_a_long_body_is_not_taken_for_a_head(box: Live) -> None:
    with box.connect() as connection:
        body = b"a" * 300_000
        connection.sendall(
            b"POST /api/v1/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        connection.sendall(body[:200_000])
        assert connection.recv(65536).startswith(b"HTTP/1.1 415")


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_come_as_they_were_sent(box: Live, chunked: bool) -> None:
    """In pieces of every size, on one connection: large ones go past uvicorn's own buffer."""
    chance = random.Random(7)
    sizes = [1, 65_536, 65_537, 300_000, 3_000_000, 70_000, 12]
    with box.connect() as connection:
        for number, size in enumerate(sizes):
            body = chance.randbytes(size)
            address = f"PUT /api/v1/transcriptions/{number}.wav HTTP/1.1\r\nHost: localhost\r\n"
            length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
            connection.sendall(f"{address}{length}\r\n\r\n".encode())
            left = memoryview(body)
            while left:
                piece = left[: chance.choice([1, 1000, 70_000, 500_000])]
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                left = left[len(piece) :]
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            head = connection.recv(65536)
            assert head.startswith(b"HTTP/1.1 202"), head
            job = re.search(rb'"id":"(\w+)"', head)
            assert job
            assert media.source(box.config, job[1].decode()).read_bytes() == body
            box.box.delete(job[1].decode())


def test_uvicorn_trusts_no_proxy_and_says_nothing_of_itself(config: Config) -> None:
    found = Server(config, Starlette()).config
    assert (found.proxy_headers, found.server_header, found.ws, found.http) == (False, False, "none", protocol.Protocol)


# Pipelining


def asked(count: int, path: str = "/healthz", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() * count


def test_a_few_requests_at_once_are_answered_in_order_and_the_connection_stays(box: Live) -> None:
    with box.connect() as connection:
        for _ in range(2):
            connection.sendall(asked(3) + asked(1, "/nothing") + asked(protocol.MOST_WAITING - 3))
            found = b""
            while found.count(b"HTTP/1.1 ") < protocol.MOST_WAITING + 1:
                found += connection.recv(65536)
            statuses = re.findall(rb"HTTP/1.1 (\d+)", found)
            assert statuses == [b"200"] * 3 + [b"404"] + [b"200"] * (protocol.MOST_WAITING - 3)
            assert b"connection: close" not in found.lower()


def test_of_too_many_at_once_the_first_are_answered_and_the_connection_ends(box: Live) -> None:
    with box.connect() as connection:
        connection.sendall(asked(30))  # which fits into one read: of what it doesn't read, a reset takes answers along
        found = answer(connection)
    assert found.count(b"HTTP/1.1 200 OK") == protocol.MOST_WAITING + 1
    assert found.lower().count(b"connection: close") == 1


def test_what_waits_on_a_connection_is_bounded(box: Live) -> None:
    """60 connections that send 3,000 requests each and read nothing; and some whose requests are large."""
    connections = [box.connect() for _ in range(60)]
    most = 0
    try:
        for number, connection in enumerate(connections):
            connection.setblocking(False)
            many = asked(3000, "/login") if number % 2 else asked(100, "/login", f"X: {'a' * 30_000}\r\n")
            with suppress(OSError):  # it reads no more
                connection.send(many)
        for _ in range(20):
            for found in list(box.server.server_state.connections):
                most = max(most, len(found.pipeline))  # type: ignore[union-attr]
                held = sum(sum(map(len, pair)) for c, _ in list(found.pipeline) for pair in c.scope["headers"])  # type: ignore[union-attr]
                assert held <= 2 * protocol.MOST_HEAD_BYTES
            assert httpx.get(box.url + "/healthz", timeout=60).status_code == 200
    finally:
        for connection in connections:
            connection.close()
    assert most <= protocol.MOST_WAITING


def test_a_body_that_waits_its_turn_is_not_read_on(box: Live) -> None:
    """Nor grows in memory meanwhile."""
    with box.connect() as connection:
        connection.sendall(asked(1, "/docs"))
        connection.sendall(
            b"PUT /api/v1/transcriptions/a.wav HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"
        )
        connection.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 20_000_000:
                sent += connection.send(b"x" * 1_000_000)
        for found in list(box.server.server_state.connections):
            assert all(len(cycle.body) < 2_000_000 for cycle, _ in list(found.pipeline))  # type: ignore[union-attr]
        connection.setblocking(True)
        left = 20_000_000 - sent
        thread = threading.Thread(target=lambda: connection.sendall(b"x" * left))
        thread.start()
        found_ = b""
        while b"HTTP/1.1 202" not in found_:
            data = connection.recv(65536)
            assert data, found_[-300:]
            found_ += data
        thread.join()


def test_a_connection_that_breaks_with_requests_waiting_leaves_no_traceback(
    box: Live, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/", "/docs", "/nothing", "/api/v1/jobs"):
        for count in (1, 2, 9, 50):
            with box.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                connection.sendall(asked(count, path) + b"GET /hal")
    wait_until(lambda: not box.server.server_state.connections)
    wait_until(lambda: not box.server.server_state.tasks)
    assert [record for record in caplog.records if record.exc_info or "Exception" in record.message] == []


@pytest.mark.parametrize("rest", [b"\x00nonsense\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost", b"X: " + b"a" * 200_000])
def test_what_came_whole_is_answered_before_the_rest_is_refused(box: Live, rest: bytes) -> None:
    with box.connect() as connection:
        connection.sendall(asked(2, "/openapi.json") + rest)
        found = b""
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                found += data
    if not rest.startswith(b"X"):  # the kernel may throw answers away with what it had not read
        assert found.count(b"HTTP/1.1 200 OK") == 2
        assert found.count(b'"openapi":') == 2
