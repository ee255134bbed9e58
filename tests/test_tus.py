"""Resumable uploads: the protocol's answers, what is kept and for how long, and a client of another project."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import wait_until
from tusclient.client import TusClient
from web_support import Live, live

from tasks import media, resumable, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.jobs import Params
from tasks.queue import Queue
from webapp import streams, tus

UPLOADS = "/api/v1/uploads"
SUBMIT = "/api/v1/transcriptions"
VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = VERSION | {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def server(config: Config) -> Iterator[Live]:
    """A real uvicorn with room for three jobs."""
    with live(config) as server:
        yield server


def ask(server: Live, method: str, path: str, headers: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
    sent = VERSION | (headers or {})
    return httpx.request(method, server.url + path, headers=sent, timeout=20, verify=False, **more)


def metadata(**values: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}".strip() for name, value in values.items())


def begin(server: Live, length: int | None = 10, headers: dict[str, str] | None = None, **values: str) -> str:
    """Begin an upload; its path."""
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = ask(server, "POST", UPLOADS, size | {"Upload-Metadata": metadata(**values)} | (headers or {}))
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def patch(server: Live, path: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server, "PATCH", path, BYTES | {"Upload-Offset": str(offset)} | named, content=data)


def offset(server: Live, path: str) -> int:
    return int(ask(server, "HEAD", path).headers["upload-offset"])


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"


def source(server: Live, path: str) -> bytes:
    return media.source(server.config, path.rpartition("/")[2]).read_bytes()


def sending(server: Live, path: str, at: int = 0, length: int = 100, sent: bytes = b"x" * 10) -> socket.socket:
    """A PATCH that has begun and does not end."""
    connection = server.connect()
    lines = [f"PATCH {path} HTTP/1.1", "Host: localhost", f"Upload-Offset: {at}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in BYTES.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + sent)
    wait_until(lambda: server.app.state.uploads, 10, every=0.01)
    return connection


# The protocol


def test_options_tells_what_is_possible(server: Live) -> None:
    for path in (UPLOADS, f"{UPLOADS}/x"):
        answer = httpx.options(server.url + path)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert set(answer.headers["tus-extension"].split(",")) == {
            "creation", "creation-with-upload", "creation-defer-length", "checksum", "expiration", "termination"
        }  # fmt: skip
        assert answer.headers["tus-max-size"] == str(server.config.max_bytes)
        assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256,sha512,md5"


@pytest.mark.parametrize("version", [{}, {"Tus-Resumable": "0.2.2"}])
@pytest.mark.parametrize(("method", "path"), [("POST", UPLOADS), ("PATCH", f"{UPLOADS}/x"), ("DELETE", f"{UPLOADS}/x")])
def test_another_version_is_refused_with_ours(server: Live, method: str, path: str, version: dict[str, str]) -> None:
    answer = httpx.request(method, server.url + path, headers=version)
    refused(answer, 412, "unsupported_version")
    assert answer.headers["tus-version"] == "1.0.0"


def test_an_upload_goes_up_in_slices_and_waits_to_be_submitted(server: Live) -> None:
    path = begin(server, 10, filename="Grüße.mp3", filetype="audio/mpeg", mine="kept")
    assert server.states() == ["receiving"]
    first = patch(server, path, 0, b"01234")
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5")
    assert first.headers["upload-expires"].endswith("GMT")
    head = ask(server, "HEAD", path)
    assert (head.status_code, head.headers["upload-offset"], head.headers["upload-length"]) == (200, "5", "10")
    assert head.headers["upload-metadata"] == metadata(filename="Grüße.mp3", filetype="audio/mpeg", mine="kept")
    assert head.headers["cache-control"] == "no-store"
    early = httpx.post(server.url + SUBMIT, json={"upload": path})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_finished")
    assert patch(server, path, 5, b"56789").headers["upload-offset"] == "10"
    shown = httpx.get(server.url + path).json()
    assert (shown["complete"], shown["job"], shown["metadata"]["mine"]) == (True, None, "kept")
    assert server.states() == ["receiving"]

    job = httpx.post(server.url + SUBMIT, json={"upload": shown["id"], "language": "de"})
    assert job.status_code == 202
    assert job.json()["source"] == {"type": "upload", "name": "Grüße.mp3", "url": None, "bytes": 10, "seconds": None}
    assert job.json()["params"] == {"model": "demo", "language": "de", "track": None}
    assert source(server, path) == b"0123456789"
    again = httpx.post(server.url + SUBMIT, json={"upload": path, "language": "de"})
    assert (again.status_code, again.json()["id"]) == (202, job.json()["id"])
    other = httpx.post(server.url + SUBMIT, json={"upload": path, "language": "en"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "wrong_state")
    assert httpx.get(server.url + path).json()["job"] == job.json()["id"]


@pytest.mark.parametrize("value", ["1", "true", ""])
def test_with_submit_the_last_slice_makes_it_a_job_with_the_params_it_was_begun_with(server: Live, value: str) -> None:
    path = begin(server, 4, filename="a.mp3", model="demo", language="german", submit=value)
    done = patch(server, path, 0, b"abcd")
    assert (done.status_code, done.headers["upload-offset"]) == (204, "4")
    assert done.headers["stenobox-job"] == f"/api/v1/jobs/{path.rpartition('/')[2]}"
    job = httpx.get(server.url + done.headers["stenobox-job"]).json()
    assert (job["state"], job["params"]) == ("queued", {"model": "demo", "language": "de", "track": None})
    head = ask(server, "HEAD", path)  # for a client that lost the answer
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("4", "4")
    assert patch(server, path, 4, b"").status_code == 204
    refused(patch(server, path, 4, b"e"), 413, "too_large")
    refused(ask(server, "DELETE", path), 409, "wrong_state")
    assert server.states() == ["queued"]


def test_a_place_is_taken_before_the_first_byte(server: Live) -> None:
    for _ in range(3):
        begin(server)
    answer = ask(server, "POST", UPLOADS, {"Upload-Length": "10"})
    refused(answer, 429, "queue_full")
    assert answer.headers["retry-after"].isdigit()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"Upload-Length": "10", "Upload-Defer-Length": "1"}, 400, "invalid_request"),
        ({"Upload-Defer-Length": "2"}, 400, "invalid_request"),
        ({"Upload-Length": "-1"}, 400, "invalid_request"),
        ({"Upload-Length": "ten"}, 400, "invalid_request"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Length": "2000000001"}, 413, "too_large"),
        ({"Upload-Length": "5", "Upload-Metadata": metadata(model="huge")}, 422, "unknown_model"),
        ({"Upload-Length": "5", "Upload-Metadata": metadata(language="fr")}, 422, "unknown_language"),
        ({"Upload-Length": "5", "Upload-Metadata": "filename ###"}, 422, "invalid_value"),
        ({"Upload-Length": "5", "Upload-Metadata": "a YQ==, a YQ=="}, 422, "invalid_value"),
        ({"Upload-Length": "5", "Upload-Metadata": "a " + "A" * 5000}, 422, "invalid_value"),
    ],
)
def test_a_beginning_that_is_wrong_takes_no_place(
    server: Live, headers: dict[str, str], status: int, code: str
) -> None:
    refused(ask(server, "POST", UPLOADS, headers), status, code)
    assert (server.states(), server.folders()) == ([], [])


def test_bytes_that_are_wrong_change_nothing(server: Live) -> None:
    path = begin(server, 10)
    patch(server, path, 0, b"0123")
    refused(patch(server, path, 0, b"0123"), 409, "offset_mismatch")
    refused(patch(server, path, 9, b"9"), 409, "offset_mismatch")
    refused(patch(server, path, 4, b"4567890"), 413, "too_large")
    refused(patch(server, path, 4, iter([b"4567890"])), 413, "too_large")  # of unknown length
    refused(ask(server, "PATCH", path, BYTES, content=b"4"), 400, "invalid_request")
    refused(ask(server, "PATCH", path, BYTES | {"Upload-Offset": "four"}, content=b"4"), 400, "invalid_request")
    refused(ask(server, "PATCH", path, {"Upload-Offset": "4"}, content=b"4"), 415, "unsupported_media_type")
    refused(patch(server, path, 4, b"4", Upload_Length="11"), 400, "invalid_request")
    assert offset(server, path) == 4


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512", "md5"])
def test_a_slice_with_a_wrong_checksum_is_forgotten(server: Live, name: str) -> None:
    def checksum(data: bytes) -> str:
        return f"{name} {base64.b64encode(hashlib.new(name, data).digest()).decode()}"

    path = begin(server, 10)
    assert patch(server, path, 0, b"0123", Upload_Checksum=checksum(b"0123")).status_code == 204
    wrong = patch(server, path, 4, b"45x7", Upload_Checksum=checksum(b"4567"))
    refused(wrong, 460, "checksum_mismatch")
    assert offset(server, path) == 4
    assert patch(server, path, 4, b"456789", Upload_Checksum=checksum(b"456789")).headers["upload-offset"] == "10"
    httpx.post(server.url + SUBMIT, json={"upload": path})
    assert source(server, path) == b"0123456789"


@pytest.mark.parametrize("value", ["crc32 AAAA", "sha1 ###", "sha1"])
def test_a_checksum_that_cant_be_checked_is_refused(server: Live, value: str) -> None:
    path = begin(server, 10)
    answer = patch(server, path, 0, b"0123", Upload_Checksum=value)
    assert answer.status_code in (400, 460)
    assert offset(server, path) == 0


def test_the_length_may_be_told_later_and_once(server: Live) -> None:
    path = begin(server, None)
    assert patch(server, path, 0, b"0123").status_code == 204
    head = ask(server, "HEAD", path)
    assert (head.headers["upload-defer-length"], head.headers["upload-offset"]) == ("1", "4")
    assert "upload-length" not in head.headers
    refused(patch(server, path, 4, b"", Upload_Length="9000000000"), 413, "too_large")
    assert patch(server, path, 4, b"45", Upload_Length="6").status_code == 204
    assert ask(server, "HEAD", path).headers["upload-length"] == "6"
    assert httpx.post(server.url + SUBMIT, json={"upload": path}).status_code == 202


def test_bytes_may_come_with_the_beginning(server: Live) -> None:
    headers = BYTES | {"Upload-Length": "10", "Upload-Metadata": metadata(submit="1")}
    answer = ask(server, "POST", UPLOADS, headers, content=b"01234")
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "5")
    done = patch(server, answer.headers["location"], 5, b"56789")
    assert "stenobox-job" in done.headers
    whole = ask(server, "POST", UPLOADS, headers, content=b"0123456789")
    assert (whole.status_code, whole.headers["upload-offset"]) == (201, "10")
    assert source(server, whole.headers["location"]) == b"0123456789"
    refused(ask(server, "POST", UPLOADS, headers, content=b"0" * 11), 413, "too_large")
    assert server.states() == ["queued", "queued"]


def test_a_beginning_whose_bytes_break_off_leaves_nothing_since_nobody_knows_its_address(server: Live) -> None:
    with server.connect() as connection:
        lines = [f"POST {UPLOADS} HTTP/1.1", "Host: localhost", "Upload-Length: 100", "Content-Length: 100"]
        lines += [f"{name}: {value}" for name, value in BYTES.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + b"x" * 10)
        wait_until(lambda: server.states() == ["receiving"], 10, every=0.01)
    wait_until(lambda: (server.states(), server.folders()) == ([], []), 10)


def test_methods_may_be_given_in_a_header(server: Live) -> None:
    path = begin(server, 10)
    headers = BYTES | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert ask(server, "POST", path, headers, content=b"0123").headers["upload-offset"] == "4"
    assert ask(server, "POST", path, {"X-HTTP-Method-Override": "HEAD"}).headers["upload-offset"] == "4"
    assert ask(server, "POST", path).status_code == 405
    assert ask(server, "POST", path, {"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert server.states() == []


def test_what_is_over_is_gone_and_what_never_was_is_not_found(server: Live) -> None:
    path = begin(server, 10)
    patch(server, path, 0, b"0123")
    assert ask(server, "DELETE", path).status_code == 204
    assert (server.states(), server.folders()) == ([], [])
    refused(patch(server, path, 4, b"4"), 410, "gone")
    assert ask(server, "HEAD", path).status_code == 410
    refused(ask(server, "DELETE", path), 410, "gone")
    for lost in ("0" * 32, "x", "..%2Fjobs.db"):
        assert ask(server, "HEAD", f"{UPLOADS}/{lost}").status_code == 404
    answer = httpx.post(server.url + SUBMIT, json={"upload": "0" * 32})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_an_upload_that_is_over_belongs_to_its_submitter_too(server: Live) -> None:
    mine, another = {"X-API-Key": "mine"}, {"X-API-Key": "another"}
    path = begin(server, 10, mine)
    assert ask(server, "DELETE", path, mine).status_code == 204
    assert ask(server, "HEAD", path, mine).status_code == 410
    for headers in (another, {}):
        for method in ("HEAD", "GET", "DELETE"):
            assert ask(server, method, path, headers).status_code == 404, method
        refused(patch(server, path, 4, b"4", **headers), 404, "not_found")


def test_an_upload_belongs_to_its_submitter(server: Live) -> None:
    path = begin(server, 10, {"X-API-Key": "mine"})
    assert ask(server, "HEAD", path).status_code == 404
    assert ask(server, "DELETE", path, {"X-API-Key": "another"}).status_code == 404
    assert ask(server, "HEAD", path, {"X-API-Key": "mine"}).status_code == 200


# One connection at a time


def test_a_second_connection_is_told_to_wait_and_a_silent_first_one_gives_way(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin(server, 100)
    with sending(server, path):
        refused(patch(server, path, 0, b"y"), 423, "locked")
        monkeypatch.setattr(tus, "PATIENCE_SECONDS", 0.0)
        at = offset(server, path)
        taken = patch(server, path, at, b"y" * (100 - at))
        assert (taken.status_code, taken.headers["upload-offset"]) == (204, "100")


def test_giving_up_ends_the_connection_that_sends(server: Live) -> None:
    path = begin(server, 100)
    with sending(server, path):
        assert ask(server, "DELETE", path).status_code == 204
    assert (server.states(), server.folders()) == ([], [])


def test_a_broken_connection_keeps_what_came(server: Live) -> None:
    path = begin(server, 100)
    sending(server, path).close()
    wait_until(lambda: not server.app.state.uploads, 10, every=0.01)
    at = offset(server, path)  # what uvicorn had not handed on when it noticed is lost, and not counted
    assert at in (0, 10)
    assert patch(server, path, at, b"y" * (100 - at)).status_code == 204
    httpx.post(server.url + SUBMIT, json={"upload": path})
    assert source(server, path) == b"x" * at + b"y" * (100 - at)


def test_a_slow_sender_is_closed_and_keeps_what_came(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_SECONDS", 0.3)
    path = begin(server, 100)
    with sending(server, path) as connection:
        connection.settimeout(10)
        assert b"408" in connection.recv(1000).partition(b"\r\n")[0]
    assert offset(server, path) == 10


# What is kept, and for how long


class Monotonic:
    """Moved by hand; the wall clock is another one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(resumable.time, "monotonic", lambda: self.now)


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


@pytest.fixture
def quiet(config: Config) -> Iterator[Box]:
    """A box whose uploads nobody sweeps but the test."""
    with contextlib.closing(open_database(config)) as database:
        yield Box(config, database, Queue(config.queue_db))


def begin_here(box: Box, data: bytes = b"") -> str:
    upload = resumable.begin(box, "talk.mp3", 100, (Params("demo"), "", False))
    if data:
        with resumable.receive(box, upload) as piece:
            piece.write(data)
    return upload.id


def state_of(box: Box, upload_id: str) -> str:
    try:
        resumable.find(box, upload_id)
    except StenoboxError as error:
        return error.code
    return "open"


def test_a_silent_upload_gives_its_place_back_and_one_that_moves_does_not(
    quiet: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, moving, empty = begin_here(quiet, b"x"), begin_here(quiet, b"x"), begin_here(quiet)
    clock = Monotonic(monkeypatch)
    resumable.sweep(quiet, {moving})
    clock.now += resumable.EMPTY_SECONDS + 1
    resumable.sweep(quiet, {moving})
    assert [state_of(quiet, one) for one in (silent, moving, empty)] == ["open", "open", "gone"]
    clock.now += resumable.SILENCE_SECONDS
    resumable.sweep(quiet, {moving})
    assert [state_of(quiet, one) for one in (silent, moving, empty)] == ["gone", "open", "gone"]
    assert len(list(quiet.config.media.iterdir())) == 1
    store.note_upload(quiet.database, silent, expires_at=time.time() - 2 * resumable.REMEMBERED_SECONDS)
    resumable.sweep(quiet, {moving})
    assert state_of(quiet, silent) == "not_found"


def test_empty_uploads_give_their_places_up_when_others_are_refused_for_want_of_them(
    quiet: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.change_settings({"slots": 1, "queue_limit": 3}, "test")
    clock = Monotonic(monkeypatch)
    begun, moving, empty, other = begin_here(quiet, b"x"), *(begin_here(quiet) for _ in range(3))
    resumable.sweep(quiet, {moving})
    clock.now += resumable.WANTED_SECONDS + 1
    resumable.sweep(quiet, {moving})
    assert [state_of(quiet, one) for one in (begun, moving, empty, other)] == ["open"] * 4, "nobody wants them"
    with pytest.raises(StenoboxError) as refused:
        begin_here(quiet)
    assert refused.value.code == "queue_full"
    fresh = clock.now
    resumable.sweep(quiet, {moving})
    assert [state_of(quiet, one) for one in (begun, moving, empty, other)] == ["open", "open", "gone", "gone"]
    late = [begin_here(quiet), begin_here(quiet)]
    resumable.sweep(quiet, {moving})
    clock.now = fresh + resumable.ASKED_SECONDS + 1
    resumable.sweep(quiet, {moving})
    assert [state_of(quiet, one) for one in late] == ["open", "open"], "whoever asked is long gone"


@pytest.mark.parametrize("by", [3 * 3600.0, -3 * 3600.0, 60 * 86_400.0])
def test_a_clock_that_is_set_ends_no_upload_and_keeps_none(
    quiet: Box, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    upload_id, clock, wall = begin_here(quiet, b"x"), Monotonic(monkeypatch), time.time()
    resumable.sweep(quiet, set())
    monkeypatch.setattr(resumable.time, "time", lambda: wall + by)
    for _ in range(3):
        clock.now += 60
        resumable.sweep(quiet, set())
        assert state_of(quiet, upload_id) == "open"
    clock.now += resumable.SILENCE_SECONDS
    resumable.sweep(quiet, set())
    assert state_of(quiet, upload_id) != "open"


def test_what_came_between_two_sweeps_counts(quiet: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id, clock = begin_here(quiet, b"x"), Monotonic(monkeypatch)
    resumable.sweep(quiet, set())
    clock.now += resumable.SILENCE_SECONDS - 1
    store.note_upload(quiet.database, upload_id, expires_at=time.time() + 9999)
    resumable.sweep(quiet, set())
    clock.now += resumable.SILENCE_SECONDS - 1
    resumable.sweep(quiet, set())
    assert state_of(quiet, upload_id) == "open"


def test_an_upload_without_its_first_byte_keeps_its_place_for_minutes_only(server: Live) -> None:
    def left(path: str) -> float:
        return resumable.find(server.box, path.rpartition("/")[2]).expires_at - time.time()

    only_begun, path = begin(server, 100), begin(server, 100)
    assert left(only_begun) <= resumable.EMPTY_SECONDS
    assert patch(server, path, 0, b"").status_code == 204
    assert left(path) <= resumable.EMPTY_SECONDS
    assert patch(server, path, 0, b"x").status_code == 204
    assert left(path) > resumable.EMPTY_SECONDS


def test_an_upload_that_moves_for_long_is_not_silent(server: Live) -> None:
    path = begin(server, 100)
    upload = resumable.find(server.box, path.rpartition("/")[2])
    with resumable.receive(server.box, upload) as piece:
        store.note_upload(server.box.database, upload.id, expires_at=0.0)
        piece.touched = -resumable.SILENCE_SECONDS
        piece.write(b"x")
        assert resumable.find(server.box, upload.id).expires_at > time.time()


def test_an_upload_survives_the_end_of_the_web_process(config: Config) -> None:
    with live(config) as server:
        path = begin(server, 10, filename="a.mp3", submit="1")
        patch(server, path, 0, b"01234")
    with live(config) as server:
        assert server.states() == ["receiving"]
        assert offset(server, path) == 5
        assert "stenobox-job" in patch(server, path, 5, b"56789").headers
        assert source(server, path) == b"0123456789"


@pytest.mark.parametrize("renamed", [False, True], ids=["before the rename", "after it"])
def test_what_was_complete_when_the_process_died_is_queued(config: Config, renamed: bool) -> None:
    with live(config) as server:
        path = begin(server, 10, submit="1")
        part = media.part(config, path.rpartition("/")[2])
        part.write_bytes(b"0123456789")
        if renamed:
            part.rename(part.with_name("source"))
        assert ask(server, "HEAD", path).headers["upload-offset"] == "10"  # by the next to ask
        assert server.states() == ["queued"]
        path = begin(server, 10, submit="1")
        media.part(config, path.rpartition("/")[2]).write_bytes(b"0123456789")
    with live(config) as server:  # or by the next process
        assert server.states() == ["queued", "queued"]
        assert source(server, path) == b"0123456789"


def test_bytes_that_were_to_be_verified_when_the_process_died_dont_count(server: Live) -> None:
    path = begin(server, 10)
    patch(server, path, 0, b"0123")
    upload_id = path.rpartition("/")[2]
    with media.part(server.config, upload_id).open("ab") as file:
        file.write(b"??")
    store.note_upload(server.box.database, upload_id, verified_to=4)
    assert offset(server, path) == 4
    assert patch(server, path, 4, b"456789").headers["upload-offset"] == "10"
    httpx.post(server.url + SUBMIT, json={"upload": path})
    assert source(server, path) == b"0123456789"


def test_an_upload_whose_job_was_deleted_meanwhile_is_gone(server: Live) -> None:
    path = begin(server, 10)
    server.box.delete(path.rpartition("/")[2])
    assert ask(server, "HEAD", path).status_code == 410


def test_a_folder_that_cant_be_made_takes_no_place(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StenoboxError("disk_full", "The disk is full.")

    monkeypatch.setattr(media, "Part", full)
    refused(ask(server, "POST", UPLOADS, {"Upload-Length": "5"}), 507, "disk_full")
    assert server.states() == []


def test_a_file_that_vanished_is_an_error_with_a_sentence(server: Live) -> None:
    path = begin(server, 10)
    shutil.rmtree(media.folder(server.config, path.rpartition("/")[2]))
    assert ask(server, "HEAD", path).status_code == 500


@pytest.mark.parametrize("forgotten", [False, True], ids=["hashed as it came", "hashed again"])
def test_the_hash_of_a_recording_is_of_all_its_slices(server: Live, forgotten: bool) -> None:
    path = begin(server, 10, {"X-API-Key": "me"}, submit="1")
    for at in (0, 3, 6):
        patch(server, path, at, b"0123456789"[at : at + 3], X_API_Key="me")
        wrong = f"sha1 {base64.b64encode(hashlib.sha1(b'').digest()).decode()}"
        answer = patch(server, path, at + 3, b"?", Upload_Checksum=wrong, X_API_Key="me")
        refused(answer, 460, "checksum_mismatch")
    if forgotten:  # by another process
        server.box.digests.clear()
    patch(server, path, 9, b"9", X_API_Key="me")
    job = server.box.get(path.rpartition("/")[2])
    assert job.source.sha256 == hashlib.sha256(b"0123456789").hexdigest()


# A client of another project


def test_tuspy_uploads_breaks_off_and_goes_on(server: Live, tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    client = TusClient(server.url + UPLOADS)
    options: dict[str, Any] = {"chunk_size": 700_000, "upload_checksum": True}
    first = client.uploader(file_stream=io.BytesIO(data), metadata={"filename": "talk.mp3", "submit": "1"}, **options)
    first.upload(stop_at=1_400_000)
    assert server.states() == ["receiving"]
    second = client.uploader(file_stream=io.BytesIO(data), url=first.url, **options)
    assert second.offset == 1_400_000
    second.upload()
    assert server.states() == ["queued"]
    assert source(server, first.url) == data


def test_a_length_below_what_has_come_is_refused_and_no_refused_slice_tells_one(server: Live) -> None:
    path = begin(server, None)
    assert patch(server, path, 0, b"x" * 5000).status_code == 204
    refused(patch(server, path, 5000, b"", Upload_Length="100"), 400, "invalid_request")
    refused(patch(server, path, 5000, b"12345", Upload_Length="5004"), 400, "invalid_request")
    refused(patch(server, path, 4000, b"", Upload_Length="6000"), 409, "offset_mismatch")
    refused(patch(server, path, 5000, b"a", Upload_Length="6000", Upload_Checksum="sha1 AAAA"), 460,
            "checksum_mismatch")  # fmt: skip
    packed = patch(server, path, 5000, b"a", Upload_Length="6000", Content_Encoding="gzip")
    refused(packed, 415, "unsupported_media_type")
    head = ask(server, "HEAD", path).headers
    assert (head["upload-defer-length"], head["upload-offset"]) == ("1", "5000")
    assert patch(server, path, 5000, b"12345", Upload_Length="5005").status_code == 204
    assert ask(server, "GET", path).json()["complete"]
    refused(patch(server, path, 5005, b"", Upload_Length="6000"), 400, "invalid_request")
    empty = begin(server, None)
    refused(patch(server, empty, 0, b"", Upload_Length="0"), 422, "empty_file")


def test_a_slice_of_an_upload_that_is_given_up_meanwhile_is_told_so(server: Live) -> None:
    path = begin(server, 100)
    with sending(server, path) as connection:
        wait_until(lambda: ask(server, "GET", path).json()["active"])
        assert ask(server, "DELETE", path).status_code == 204
        assert connection.recv(65536).startswith(b"HTTP/1.1 410 ")


@pytest.mark.parametrize("value", ["partial", "final;/api/v1/uploads/a /api/v1/uploads/b"])
def test_parts_that_are_to_be_joined_are_refused(server: Live, value: str) -> None:
    answer = ask(server, "POST", UPLOADS, {"Upload-Length": "5", "Upload-Concat": value})
    refused(answer, 400, "invalid_request")
    assert server.states() == []
