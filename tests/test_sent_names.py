"""Names that files are sent under: every way that a client writes one leads to the same name."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient
from web_support import END, FORM, file_part, part, put_job

from tasks.actions import Box
from tasks.jobs import State
from tasks.names import clean_name, sent_name
from webapp.dispositions import read_disposition

SUBMIT = "/api/v1/transcriptions"


def by_form(client: TestClient, disposition: str, headers: bytes = b"") -> Any:
    return client.post(SUBMIT, content=part(disposition, b"sound", headers) + END, headers=FORM)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("name=\"file\"; filename*=UTF-8''M%C3%BCller.flac", "Müller.flac"),
        ('name="file"; filename="Muller.flac"; filename*=UTF-8\'\'M%C3%BCller.flac', "Müller.flac"),
        ("name=\"file\"; filename*=iso-8859-1'de'M%FCller.flac; filename=x", "Müller.flac"),
        ('name="file"; filename="plain.flac"; filename*=unknown\'\'x', "plain.flac"),
        ('name="file"; filename="say %22hi%22.flac"', 'say "hi".flac'),
        (r'name="file"; filename="say \"hi\".flac"', 'say "hi".flac'),
        ('name="file"; filename="two%0D%0Alines.flac"', "twolines.flac"),
        ('name="file"; filename="100%25 & 50%.flac"', "100%25 & 50%.flac"),
        ('name="file"; filename="=?utf-8?B?TcO8bGxlci5mbGFj?="', "Müller.flac"),
        ('name="file"; filename="=?utf-8?Q?M=C3=BCller.flac?="', "Müller.flac"),
        ('name="file"; filename="=?nothing?B?TcO8?="', "=?nothing?B?TcO8?="),
        ("name=file; filename=talk.flac", "talk.flac"),
        ('name="file"; filename="a; b=c.flac"', "a; b=c.flac"),
        ('name="file"; filename=""', "recording"),
        ('name="file"; filename=".."', "recording"),
    ],
)
def test_a_form_names_its_file(client: TestClient, disposition: str, name: str) -> None:
    answer = by_form(client, disposition)
    assert answer.status_code == 202, answer.text
    assert answer.json()["source"]["name"] == name


@pytest.mark.parametrize("kind", [b"audio/flac", b"video/mp4; codecs=x", b"application/octet-stream"])
def test_a_part_that_is_a_recording_needs_no_name(client: TestClient, kind: bytes) -> None:
    answer = by_form(client, 'name="file"', b"Content-Type: " + kind + b"\r\n")
    assert (answer.status_code, answer.json()["source"]["name"]) == (202, "recording")


@pytest.mark.parametrize("headers", [b"", b"Content-Type: text/plain\r\n"])
def test_words_in_place_of_a_file_are_told_so(client: TestClient, headers: bytes) -> None:
    answer = by_form(client, 'name="file"', headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "missing_file")


@pytest.mark.parametrize("name", ['say "hi".flac', "Müller & Söhne; 100 %.flac", "=?utf-8?B?TcO8bGxlci5mbGFj?="])
def test_all_ways_in_lead_to_the_same_name(client: TestClient, name: str) -> None:
    client.app.state.box.change_settings({"queue_limit": 9}, "test")  # type: ignore[attr-defined]
    form = client.post(SUBMIT, content=file_part(name=name) + END, headers=FORM).json()
    put = client.put(f"{SUBMIT}/{quote(name)}", content=b"sound").json()
    query = client.put(SUBMIT, params={"name": name}, content=b"sound").json()
    meta = f"filename {base64.b64encode(name.encode()).decode()},submit {base64.b64encode(b'1').decode()}"
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": meta}
    begun = client.post("/api/v1/uploads", headers=tus | {"Content-Type": "application/offset+octet-stream"},
                        content=b"sound")  # fmt: skip
    upload = client.get(begun.headers["stenobox-job"]).json()
    assert {job["source"]["name"] for job in (form, put, query, upload)} == {clean_name(sent_name(name))}


@pytest.mark.parametrize("name", [".", "..", ". .", "..."])
def test_no_answer_is_saved_under_a_name_of_dots(client: TestClient, behind: Box, name: str) -> None:
    job = put_job(behind, State.QUEUED, name)
    saved = client.get(f"/api/v1/jobs/{job.id}/media").headers["content-disposition"]
    assert saved == "attachment; filename*=UTF-8''recording"


@pytest.mark.parametrize(
    "header",
    [b'form-data; a="' * 300, b";" * 4096, b"form-data" + b"; a=b" * 800, b'"\\' * 2000, b"; =?utf-8?B?" * 300,
     b"form-data; filename*=" + b"'%" * 2000],
)  # fmt: skip
def test_hostile_headers_are_read_in_no_time(header: bytes) -> None:
    began = time.process_time()
    name, file = read_disposition(header[:4096])
    sent_name(name + (file or ""))
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "bomb",
    ['multipart/form-data; boundary=x; a="' + ";" * 60_000 + '"', "multipart/form-data" + ";" * 60_000,
     'multipart/form-data; boundary="' + "\\" * 60_000, "multipart/form-data" + "; a=b" * 12_000,
     "multipart/form-data; " + "a" * 60_000, "multipart/form-data; boundary*0=x" + "; a*0=b" * 8_000],
)  # fmt: skip
def test_a_header_of_60_kb_stops_nobody(client: TestClient, bomb: str) -> None:
    began = time.process_time()
    answer = client.post(SUBMIT, content=b"x", headers={"Content-Type": bomb})
    assert answer.status_code in (400, 415), answer.text
    assert time.process_time() - began < 1


BOMBS = {
    "Accept": "text/html;q=" + "0" * 60_000,
    "Accept-Encoding": "gzip;" + " " * 60_000 + "x",
    "Authorization": "Bearer " + "x" * 60_000,
    "Content-Disposition": "; a=" * 15_000,
    "Cookie": "stenobox=" + "; a=b" * 12_000,
    "Forwarded": "for=" + '"' * 60_000,
    "If-Modified-Since": "Sat, " + " " * 60_000,
    "If-None-Match": 'W/"x",' * 10_000,
    "If-Range": "W/" * 30_000,
    "Range": "bytes=" + "0-1," * 15_000,
    "Origin": "http://" + "[" * 60_000,
    "Upload-Checksum": "sha1 " + "=" * 60_000,
    "Upload-Metadata": "a ," * 20_000,
    "X-Forwarded-For": "1.1.1.1, " * 6_500,
    "Idempotency-Key": "x" * 60_000,
    "Content-Type": "application/json" + "; a=b" * 12_000,
    "Content-Range": "bytes " + "0" * 60_000,
    "Content-Encoding": "gzip," * 12_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_every_header_of_a_stranger_is_read_in_time(client: TestClient, behind: Box, name: str) -> None:
    job = put_job(behind, State.QUEUED)
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    for method, path, more in (
        ("GET", "/", {}), ("GET", f"/api/v1/jobs/{job.id}/media", {}), ("GET", "/docs", {}), ("POST", "/login", {}),
        ("POST", "/api/v1/uploads", tus), ("PUT", f"{SUBMIT}/a.wav", {}), ("POST", SUBMIT, {"Content-Type": "audio/x"}),
        ("POST", SUBMIT, FORM),
    ):  # fmt: skip
        client.request(method, path, headers=more, content=b"" if method == "GET" else b"sound")  # what is made once
        began = time.process_time()
        answer = client.request(method, path, headers=more | {name: BOMBS[name]}, content=b"")
        assert answer.status_code < 500
        assert time.process_time() - began < 1, (method, path)
