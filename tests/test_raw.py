"""The recording as the whole body: what `curl -T talk.mp3 URL` sends, and what is refused before its bytes come."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from support import wait_until
from test_uploads import answer
from web_support import Live, live

from tasks import media
from tasks.config import Config
from webapp import streams

SUBMIT = "/api/v1/transcriptions"


@pytest.fixture
def server(config: Config) -> Iterator[Live]:
    with live(config) as server:
        yield server


def empty(server: Live) -> bool:
    return server.states() == [] and server.folders() == []


def put(path: str, length: str, *more: str) -> bytes:
    return "\r\n".join([f"PUT {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path", "headers", "name"),
    [
        ("PUT", f"{SUBMIT}/talk.mp3?language=de", {}, "talk.mp3"),
        ("PUT", f"{SUBMIT}/a%2Fb%20c.mp3?language=de", {"Content-Type": "text/plain"}, "b c.mp3"),
        ("PUT", f"{SUBMIT}/?language=de", {}, "recording"),
        ("PUT", f"{SUBMIT}?language=de&name=n.mp3", {}, "n.mp3"),
        ("POST", f"{SUBMIT}?language=de&name=n.mp3", {"Content-Type": "audio/mpeg"}, "n.mp3"),
        ("POST", f"{SUBMIT}?language=de", {"Content-Type": "application/octet-stream"}, "recording"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_a_recording(
    server: Live, method: str, path: str, headers: dict[str, str], name: str, chunked: bool
) -> None:
    data = b"0123456789" * 300_000
    content = iter([data[:5], data[5:]]) if chunked else data
    answer = httpx.request(method, server.url + path, headers=headers, content=content)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"]
    assert (job["source"]["name"], job["source"]["bytes"]) == (name, len(data))
    assert job["params"] == {"model": "demo", "language": "de", "track": None}
    assert media.source(server.config, job["id"]).read_bytes() == data


def test_curl_sends_a_file_by_its_name(server: Live, tmp_path: Path) -> None:
    (tmp_path / "grüße von mir.mp3").write_bytes(b"sound")
    command = ["curl", "-sS", "-T", "grüße von mir.mp3", f"{server.url}{SUBMIT}/"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert '"name":"grüße von mir.mp3"' in done.stdout


@pytest.mark.parametrize(
    ("path", "length", "status", "code"),
    [
        (f"{SUBMIT}/a.mp3?model=huge", "1000", 422, b"unknown_model"),
        (f"{SUBMIT}/a.mp3?speed=2", "1000", 422, b"unknown_field"),
        (f"{SUBMIT}/a.mp3", "2000000001", 413, b"too_large"),
    ],
)
def test_what_is_wrong_is_said_before_the_bytes_come(
    server: Live, path: str, length: str, status: int, code: bytes
) -> None:
    with server.connect() as connection:
        connection.sendall(put(path, length, "Expect: 100-continue"))
        found, _, body = answer(connection)
    assert (found, code in body) == (status, True)
    assert empty(server)


def test_a_full_box_refuses_before_the_bytes_come(tmp_path: Path) -> None:
    with live(Config(data=tmp_path, slots=1, queue_limit=0)) as server:
        assert httpx.put(f"{server.url}{SUBMIT}/a.mp3", content=b"sound").status_code == 202
        with server.connect() as connection:
            connection.sendall(put(f"{SUBMIT}/b.mp3", "1000000000", "Expect: 100-continue"))
            status, headers, _ = answer(connection)
        assert (status, headers["retry-after"].isdigit()) == (429, True)


def test_an_empty_body_is_an_empty_file(server: Live) -> None:
    refused = httpx.put(f"{server.url}{SUBMIT}/a.mp3", content=b"")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "empty_file")
    assert empty(server)


def test_a_body_that_breaks_off_leaves_nothing(server: Live) -> None:
    with server.connect() as connection:
        connection.sendall(put(f"{SUBMIT}/a.mp3", "1000000") + b"x" * 1000)
        wait_until(lambda: server.states() == ["receiving"], 10, every=0.01)
    wait_until(lambda: empty(server), 10)


def test_a_body_of_unknown_length_ends_at_the_limit(tmp_path: Path) -> None:
    with live(Config(data=tmp_path, max_bytes=1_000_000)) as server, server.connect() as connection:
        connection.sendall(f"PUT {SUBMIT}/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(6):  # and no end
            connection.sendall(b"%x\r\n%b\r\n" % (500_000, b"x" * 500_000))
        assert answer(connection)[0] == 413
        wait_until(lambda: empty(server), 10)


def test_a_byte_now_and_then_holds_no_place(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_SECONDS", 1.0)
    with server.connect() as connection:
        connection.sendall(put(f"{SUBMIT}/a.mp3", "1000000"))
        connection.settimeout(0.2)

        def told() -> bytes:
            connection.sendall(b"x")  # never silent for as long as it takes to be called that
            try:
                return connection.recv(1000)
            except TimeoutError:
                return b""

        assert b"408" in wait_until(told, 20, every=0).partition(b"\r\n")[0]
    assert empty(server)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("Content-Range", "bytes 5000-9999/10000", 400), ("Content-Range", "", 400), ("Content-Encoding", "gzip", 415),
     ("Content-Encoding", "identity", 202), ("Content-Encoding", "br, gzip", 415)],
)  # fmt: skip
def test_a_part_or_a_packed_body_is_not_taken_for_the_whole(
    client: TestClient, name: str, value: str, status: int
) -> None:
    for method in ("PUT", "POST"):
        sent = {name: value, "Content-Type": "audio/wav"}
        answer = client.request(method, "/api/v1/transcriptions", content=b"sound", headers=sent)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_who_sends_a_link_in_another_way_is_told_how(client: TestClient, kind: str) -> None:
    body = b'url=https://example.org/a.mp3&x={"url": "https://example.org/a.mp3"}'
    answer = client.post("/api/v1/transcriptions", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert 'curl --json \'{"url":' in answer.json()["error"]["message"]
