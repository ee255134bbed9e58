"""Who never reads what it asked for is let go; who reads slowly gets all of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from support import BUSY_SECONDS, wait_until
from web_support import Live, live

from tasks.config import Config
from webapp import outflow, protocol

SIZE = 12_000_000


@pytest.fixture
def box(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(outflow, "STALL_SECONDS", 1.0)
    with live(config, **protocol.OPTIONS) as box:
        yield box


@pytest.fixture
def media(box: Live) -> str:
    with box.box.receive("talk.wav") as receiving:
        receiving.write(bytes(SIZE))
        job = receiving.queue(box.box.params(None, None))
    return f"/api/v1/jobs/{job.id}/media"


def ask(box: Live, path: str, count: int = 1) -> socket.socket:
    """A connection with a small window that has asked."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(BUSY_SECONDS)
    connection.connect(("127.0.0.1", box.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * count)
    return connection


def nobody_is_left(box: Live) -> bool:
    return not box.server.server_state.connections and not box.server.server_state.tasks


def test_who_does_not_read_a_download_is_let_go(box: Live, media: str) -> None:
    with ask(box, media):
        wait_until(lambda: nobody_is_left(box))


def test_who_does_not_read_pages_is_let_go(box: Live) -> None:
    """Also after its connection was ended on our side, which waits for what is still to be sent."""
    connections = [ask(box, "/docs", count) for count in (1, 5, 9, 40) for _ in range(3)]
    try:
        wait_until(lambda: nobody_is_left(box))
    finally:
        for connection in connections:
            connection.close()


def test_who_reads_slowly_gets_all_of_it(box: Live, media: str) -> None:
    with ask(box, media) as connection:
        count, until = 0, time.monotonic() + 5 * outflow.STALL_SECONDS
        while time.monotonic() < until:
            count += len(connection.recv(2000))
            time.sleep(0.02)  # a reader of 100 kB/s, which the kernel's buffers hide for longer than it may stall
        assert count < SIZE / 4
        while count < SIZE:
            data = connection.recv(65536)
            assert data, count
            count += len(data)
