"""Uploads: who is let in and when, what a broken one leaves, and that a form reads the same however it is cut."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from support import BUSY_SECONDS, Served, free_port, wait_until
from web_support import BOUNDARY, END, FORM, Live, field_part, file_part, live, part

from tasks import lookout, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.principals import OPERATOR
from tasks.queue import Queue
from webapp import streams, uploads
from webapp.uploads import read_form

SUBMIT = "/api/v1/transcriptions"
OPEN = part('name="file"; filename="talk.mp3"', b"")[:-2]
CLOSE = b"\r\n" + END


@pytest.fixture
def server(config: Config) -> Iterator[Live]:
    """A real uvicorn with room for three jobs."""
    with live(config) as server:
        yield server


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Live]:
    """A real uvicorn with room for one job."""
    with live(Config(data=tmp_path / "data", slots=1, queue_limit=0)) as server:
        yield server


def head(length: int | None, *more: str, path: str = SUBMIT) -> bytes:
    """The head of a submission; length None: in chunks."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {FORM['Content-Type']}", *more]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket, seconds: float = BUSY_SECONDS) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers, body."""
    connection.settimeout(seconds)
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, stream.read(int(headers.get("content-length", 0)))


def receiving(server: Live, count: int = 1) -> None:
    """Wait until so many uploads hold a place."""
    wait_until(lambda: server.states().count("receiving") == count, 5, every=0.01)


def empty(server: Live) -> bool:
    return server.states() == [] and server.folders() == []


def submit(server: Live, data: bytes = b"sound") -> httpx.Response:
    return httpx.post(server.url + SUBMIT, files={"file": ("talk.mp3", data)}, timeout=BUSY_SECONDS)


# Who is let in, and when


def test_the_refused_get_their_answer_instead_of_the_go_ahead(narrow: Live) -> None:
    assert submit(narrow).status_code == 202
    with narrow.connect() as connection:
        connection.sendall(head(1_000_000_000, "Expect: 100-continue"))
        status, headers, body = answer(connection)
    assert status == 429  # the first thing that came, so there was no 100 before it
    assert re.fullmatch(r"[1-9]\d*", headers["retry-after"])
    assert b"queue_full" in body


def test_the_admitted_get_the_go_ahead_only_with_a_place_in_hand(narrow: Live) -> None:
    body = OPEN + b"sound" + CLOSE
    with narrow.connect() as connection:
        connection.sendall(head(len(body), "Expect: 100-continue"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert narrow.states() == ["receiving"]
        connection.sendall(body)
        assert answer(connection)[0] == 202
    assert narrow.states() == ["queued"]


@pytest.mark.parametrize("path", [SUBMIT, "/jobs"])
def test_the_refused_get_their_answer_before_they_send_a_byte_of_the_body(narrow: Live, path: str) -> None:
    assert submit(narrow).status_code == 202
    with narrow.connect() as connection:
        connection.sendall(head(1_000_000_000, path=path))
        status, headers, _ = answer(connection)
    assert (status, headers["retry-after"]) == (429, "30")
    assert narrow.states() == ["queued"]


def test_a_recording_announced_as_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with live(Config(data=tmp_path, max_bytes=1_000_000)) as server, server.connect() as connection:
        connection.sendall(head(2_000_000, "Expect: 100-continue"))
        assert answer(connection)[0] == 413
        assert empty(server)


def test_a_recording_of_unknown_length_is_refused_as_soon_as_it_is_too_large(tmp_path: Path) -> None:
    with live(Config(data=tmp_path, max_bytes=1_000_000)) as server, server.connect() as connection:
        connection.sendall(head(None))
        for piece in [OPEN, *[b"x" * 500_000] * 6]:  # and no end
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert answer(connection)[0] == 413
        wait_until(lambda: empty(server), 5)


def test_a_place_is_held_from_the_first_header_on(narrow: Live) -> None:
    body = OPEN + b"sound" + CLOSE
    with narrow.connect() as connection:
        connection.sendall(head(len(body)))
        receiving(narrow)
        refused = submit(narrow)
        assert refused.status_code == 429
        assert "1 waiting" in refused.json()["error"]["message"]
        for at in range(0, len(body), 40):  # slowly
            connection.sendall(body[at : at + 40])
        assert answer(connection)[0] == 202
    assert narrow.states() == ["queued"]


def test_a_sender_that_stalls_loses_its_place(narrow: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_SECONDS", 0.3)
    with narrow.connect() as connection:
        connection.sendall(head(1_000_000) + OPEN)
        status, _, body = answer(connection)
        assert (status, b'"stalled"' in body) == (408, True)
        assert empty(narrow)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"model": "huge"}, b"unknown_model"), ({"model": "demo", "language": "fr"}, b"unknown_language")],
)
def test_a_wrong_model_or_language_is_refused_before_the_recording_is_sent(
    narrow: Live, fields: dict[str, str], code: bytes
) -> None:
    with narrow.connect() as connection:
        connection.sendall(head(1_000_000_000) + b"".join(field_part(*field) for field in fields.items()) + OPEN)
        status, _, body = answer(connection)
        assert (status, code in body) == (422, True)
        wait_until(lambda: empty(narrow), 5)


def test_of_64_at_once_exactly_as_many_are_let_in_as_there_are_places(tmp_path: Path) -> None:
    async def storm(server: Live) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=BUSY_SECONDS, limits=limits) as client:
            posts = (client.post(server.url + SUBMIT, files={"file": ("a.mp3", b"x" * 3000)}) for _ in range(64))
            return await asyncio.gather(*posts)

    with live(Config(data=tmp_path, slots=2, queue_limit=8)) as server:
        answers = asyncio.run(storm(server))
        assert Counter(a.status_code for a in answers) == {202: 10, 429: 54}
        assert all(re.fullmatch(r"[1-9]\d*", a.headers["retry-after"]) for a in answers if a.status_code == 429)
        admitted = {a.json()["id"] for a in answers if a.status_code == 202}
        assert {folder.name for folder in server.folders()} == admitted == store.ids(server.box.database)
        assert set(server.states()) == {"queued"}


def test_64_slow_uploads_hold_exactly_as_many_places_as_there_are(tmp_path: Path) -> None:
    connections: list[socket.socket] = []
    with live(Config(data=tmp_path, slots=2, queue_limit=8)) as server:
        try:
            for _ in range(64):
                connections.append(server.connect())
            for connection in connections:
                connection.sendall(head(1_000_000) + OPEN + b"x" * 1000)
            refused: set[socket.socket] = set()

            def all_known() -> bool:
                refused.update(select.select(set(connections) - refused, [], [], 0)[0])
                return len(refused) == 54 and len(server.states()) == 10

            wait_until(all_known, 20, every=0.02)
            assert {answer(connection)[0] for connection in refused} == {429}
            assert server.states() == ["receiving"] * 10
        finally:
            for connection in connections:
                connection.close()
        wait_until(lambda: empty(server), 10)


# What breaks off leaves nothing


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_an_upload_that_breaks_off_gives_its_place_and_its_disk_back(
    narrow: Live, reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "FRESH_SECONDS", 0)  # the place is free at once, the memory of it is not
    with narrow.connect() as connection:
        connection.sendall(head(50_000_000) + OPEN + b"x" * 3_000_000)
        wait_until(lambda: any(f.stat().st_size > 1_000_000 for f in narrow.config.media.glob("*/source.part")), 5)
        assert submit(narrow).status_code == 429
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: empty(narrow), 5)
    assert submit(narrow).status_code == 202


def test_a_form_that_is_wrong_gives_its_place_back_while_its_sender_is_still_sending(narrow: Live) -> None:
    with narrow.connect() as connection:
        connection.sendall(head(50_000_000) + field_part("speed", "2"))
        assert answer(connection)[0] == 422
        assert empty(narrow)


def test_a_page_that_stays_full_for_the_second_file_takes_neither(tmp_path: Path) -> None:
    with live(Config(data=tmp_path, slots=1, queue_limit=0)) as server:
        files = [("file", ("a.mp3", b"one")), ("file", ("b.mp3", b"two"))]
        assert httpx.post(server.url + "/jobs", files=files, timeout=BUSY_SECONDS).status_code == 429
        assert empty(server)


def test_a_server_that_is_stopped_during_an_upload_leaves_nothing_of_it(tmp_path: Path) -> None:
    config = Config(data=tmp_path / "data")
    port = free_port()
    environment = {
        **os.environ, "STENOBOX_DATA": str(config.data), "STENOBOX_PORT": str(port), "STENOBOX_GRACE": "1"
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "webapp.cli", "web"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def connect() -> socket.socket | None:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=BUSY_SECONDS)
        except ConnectionRefusedError:
            return None

    try:
        connection: socket.socket = wait_until(connect, 30)
        with connection:
            connection.sendall(head(50_000_000) + OPEN + b"x" * 3_000_000)
            wait_until(lambda: list(config.media.glob("*/source.part")), 10)
            process.send_signal(signal.SIGTERM)
            process.wait(BUSY_SECONDS)
    finally:
        process.kill()
        process.wait()
    database = open_database(config)
    try:
        assert store.ids(database) == set()
    finally:
        database.close()
    assert list(config.media.iterdir()) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


# Big ones


def test_200_megabytes_arrive_byte_for_byte_in_flat_memory(served: Served) -> None:
    [pid] = served.children("webapp.cli web")
    web = psutil.Process(pid)
    block = b"not a recording " * (1 << 16)
    count, sha = 200, hashlib.sha256()
    small = served.post(SUBMIT, files={"file": ("small.bin", block)})  # what a first upload costs once
    before = web.memory_info().rss
    peak, stop = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.01):
            peak = max(peak, web.memory_info().rss)

    def body() -> Iterator[bytes]:
        yield OPEN
        for number in range(count):
            piece = number.to_bytes(8, "big") + block[8:]
            sha.update(piece)
            yield piece
        yield CLOSE

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        length = len(OPEN) + count * len(block) + len(CLOSE)
        sent = served.post(SUBMIT, content=body(), headers=FORM | {"Content-Length": str(length)})
    finally:
        stop.set()
        thread.join()
    job = sent.json()
    try:
        assert sent.status_code == 202
        assert job["source"]["bytes"] == count * len(block)
        with (served.data / "media" / job["id"] / "source").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").digest() == sha.digest()
        assert peak - before <= 30_000_000
    finally:
        for done in (job, small.json()):
            httpx.delete(served.url + done["links"]["self"], timeout=BUSY_SECONDS)


# However a form is cut, it reads the same


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    config = Config(data=tmp_path_factory.mktemp("roomy"), slots=1, queue_limit=100)
    database, queue = open_database(config), Queue(config.queue_db)
    yield Box(config, database, queue)
    queue.close()
    database.close()


def read(box: Box, chunks: list[bytes], *, several: bool = True) -> Any:
    """What read_form makes of a body in these chunks: fields and files, or the code of the error."""

    async def receive() -> Any:
        chunk = chunks[receive.at]  # type: ignore[attr-defined]
        receive.at += 1  # type: ignore[attr-defined]
        return {"type": "http.request", "body": chunk, "more_body": receive.at < len(chunks)}  # type: ignore[attr-defined]

    receive.at = 0  # type: ignore[attr-defined]
    headers = [(b"content-type", FORM["Content-Type"].encode())]
    scope = {
        "type": "http",
        "principal": OPERATOR,
        "method": "POST",
        "path": SUBMIT,
        "headers": headers,
        "query_string": b"",
    }

    async def main() -> Any:
        async with read_form(Request(scope, receive), box, allowed=("model", "language"), several=several) as form:
            files = [
                (upload.name, (box.config.media / upload.receiving.job_id / "source.part").read_bytes())
                for upload in form.uploads
            ]
            return form.fields, files

    try:
        return anyio.run(main)
    except StenoboxError as error:
        return error.code


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


LOOKALIKES = [b"\r", b"\n", b"\r\n", b"-", b"\r\n--", b"\r\n--" + BOUNDARY[:-1], BOUNDARY, b"--" + BOUNDARY, b"\0"]
"""Bytes that begin like the end of a part."""
CONTENT = st.lists(st.one_of(st.sampled_from(LOOKALIKES), st.binary(max_size=40)), max_size=8).map(b"".join)
CONTENT = CONTENT.filter(lambda data: b"\r\n--" + BOUNDARY not in b"\r\n" + data + b"\r\n")


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.tuples(st.sampled_from(["a.mp3", "ü.wav", ""]), CONTENT), min_size=1, max_size=3),
    language=st.one_of(st.none(), CONTENT.filter(lambda data: len(data) < 4000)),
    places=st.lists(st.integers(0, 1 << 30), max_size=12),
    piece=st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_a_form_reads_the_same_however_it_is_cut(
    roomy: Box, files: list[tuple[str, bytes]], language: bytes | None, places: list[int], piece: int
) -> None:
    parts = [file_part(data, name) for name, data in files]
    if language is not None:
        parts.insert(0, part('name="language"', language))
    body = b"".join(parts) + END
    with mock.patch.object(streams, "PIECE_BYTES", piece):
        fields = {} if language is None else {"language": language.decode("utf-8", "replace").strip()}
        assert read(roomy, cut(body, places)) == (fields, files)
    assert list(roomy.config.media.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        field_part("model", "demo") + file_part(b"\r\n--" + BOUNDARY[:-1] + b"\r") + file_part(b"two") + END,
        file_part() + field_part("speed", "2") + END,
        file_part() + END[:-4],
        b"--wrong\r\n" + END,
    ],
    ids=["good", "unknown field", "cut off", "wrong boundary"],
)
def test_a_form_byte_by_byte_is_the_same_as_in_one_piece(roomy: Box, body: bytes) -> None:
    assert read(roomy, [body[at : at + 1] for at in range(len(body))]) == read(roomy, [body])


@settings(max_examples=100, deadline=None)
@given(body=st.lists(st.sampled_from([file_part(), END, *LOOKALIKES]) | st.binary(), max_size=6).map(b"".join))
def test_any_bytes_are_a_form_or_a_refusal(roomy: Box, body: bytes) -> None:
    outcome = read(roomy, [body])
    assert isinstance(outcome, tuple) or outcome in ("invalid_request", "unknown_field", "missing_file")
    assert list(roomy.config.media.iterdir()) == []


def test_a_form_holds_so_many_files_and_none_is_taken_of_more(roomy: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 3)
    most = file_part() * 3
    assert len(read(roomy, [most + END])[1]) == 3
    assert read(roomy, [most + file_part() + END]) == "invalid_request"
    assert list(roomy.config.media.iterdir()) == []


def test_what_comes_after_a_form_is_left_unread_only_up_to_a_limit(roomy: Box) -> None:
    form, noise = file_part() + END, b"x" * 1000
    assert len(read(roomy, [form, *[noise] * 80])[1]) == 1
    assert read(roomy, [form, *[noise] * 90]) == "invalid_request"
    assert list(roomy.config.media.iterdir()) == []


def test_all_headers_of_a_part_together_have_a_limit(roomy: Box) -> None:
    few = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1400) for number in range(2))
    assert len(read(roomy, [part('name="file"; filename="a"', headers=few) + END])[1]) == 1
    assert read(roomy, [part('name="file"; filename="a"', headers=few * 2) + END]) == "invalid_request"


def test_empty_chunks_in_a_body_change_nothing(roomy: Box) -> None:
    body = file_part(b"abc") + END
    assert read(roomy, [b"", body[:50], b"", b"", body[50:], b""]) == ({}, [("talk.mp3", b"abc")])


def test_a_full_disk_is_a_refusal_that_gives_the_place_back(config: Config) -> None:
    if shutil.disk_usage("/dev").total == 0 or not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    from tasks.media import Part

    class Full(Part):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._file.close()
            self._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115  closed by Part

    with live(config) as server, mock.patch("tasks.media.Part", Full):
        full = submit(server)
        assert (full.status_code, full.json()["error"]["code"]) == (507, "disk_full")
        assert empty(server)


def test_waiting_for_slow_uploads_leaves_the_page_alive(server: Live) -> None:
    connections = [server.connect() for _ in range(3)]
    try:
        for connection in connections:
            connection.sendall(head(1_000_000) + OPEN)
        receiving(server, 3)
        assert httpx.get(server.url + "/", timeout=BUSY_SECONDS).text.count("Receiving") >= 3
        assert httpx.get(server.url + "/healthz", timeout=BUSY_SECONDS).status_code == 200
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: empty(server), 5)
