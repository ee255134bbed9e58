"""Strangers name files, tag them and say things in them: wherever those words come out, they are only words."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from test_transcripts import read_srt, read_vtt
from web_support import client_of, put_job

from tasks import logs
from tasks.actions import Box
from tasks.config import Config
from tasks.db import jobs
from tasks.jobs import State
from tasks.names import NAME_CHARACTERS

WORDS = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover=\"alert(1)\" x='",
    "template": "{{ 7 * 7 }}{% raw %}${7*7}",
    "lines": "a\r\nSet-Cookie: x=1\r\n\r\n<b>",
    "separators": "a\u2028b\u2029c\x85d",
    "nul": "a\x00b",
    "direction": "\u202egpj.exe\u2066\u2069",
    "long": "x" * 300,
    "wide": "語" * 300,
    "emoji": "👩\u200d👩\u200d👧 🏳️\u200d🌈",
    "up": "../../../etc/passwd",
    "windows": "C:\\Windows\\..\\win.ini",
    "dots": "...hidden",
    "device": "CON",
    "formula": "=cmd|' /C calc'!A0",
    "formulas": "@SUM(1)\t+1",
    "arrow": "-->",
    "vtt": "WEBVTT\n\nNOTE x\n\n00:00:00.000 --> 00:00:09.000\nstolen",
    "escape": "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "percent": "%0d%0a%00%2e%2e%2f",
    "quote": "a\";filename=\"b.exe",
    "tag": "</title></textarea></script>",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One box for all words: no test leaves a job that another one's would wait behind."""
    with client_of(Config(data=tmp_path_factory.mktemp("words") / "data")) as client:
        box_of(client).change_settings({"slots": 4, "queue_limit": 16, "reuse": False}, "test")
        yield client


def box_of(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


class Shape(HTMLParser):
    """The tags of a page, with the names of their attributes: what strangers' words must not change."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def spoken(words: str) -> dict[str, Any]:
    """A transcript with these words, with times and without, and a speaker of this name."""
    timed = [{"word": words, "start": 0.5, "end": 1.0, "confidence": 0.9}]
    segment = {"id": 0, "start": 0.5, "end": 1.0, "text": words, "speaker": words, "confidence": 0.9, "words": timed}
    return {"language": "en", "seconds": 4.0, "text": words, "segments": [segment, segment | {"words": []}]}


def put(client: TestClient, words: str) -> tuple[str, str]:
    """A finished job whose name, tags, batch and transcript are these words; ids of job and batch."""
    box = box_of(client)
    named = "".join(c for c in words if c.isprintable()).strip()[:100] or "x"
    job = put_job(box, State.COMPLETED, f"{words}.mp3", spoken(words)).id
    media: dict[str, Any] = {"container": "mp3", "codec": "mp3float", "channels": 2, "sample_rate": 44100, "track": 1}
    media |= {"cover": False, "tracks": [{"language": words, "title": words}] * 2}
    media["tags"] = dict.fromkeys(["title", "artist"], words)
    with box.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job).values(media=json.dumps(media)))
    batch = client.post("/api/v1/batches", json={"name": named})
    assert batch.status_code in (200, 201), batch.text
    with box.database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == job).values(batch=batch.json()["id"]))
    return job, batch.json()["id"]


def shapes_of(client: TestClient, words: str) -> list[Any]:
    """Of a finished and a failed job's page, and a batch's."""
    job, batch = put(client, words)
    failed = put_job(box_of(client), State.FAILED, words, message=f"{words}.").id
    pages = [client.get(path).text for path in (f"/jobs/{job}", f"/jobs/{failed}", f"/batches/{batch}")]
    for one in (job, failed):
        box_of(client).delete(one)
    return [Shape(page).tags for page in pages]


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_pages_have_the_same_tags_whatever_the_words(client: TestClient, words: str) -> None:
    assert shapes_of(client, words) == shapes_of(client, "talk")
    front = client.get("/")
    assert front.status_code == 200
    assert "<script>alert" not in front.text
    assert "<img src=x" not in front.text


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_name_is_data_whichever_way_it_comes(client: TestClient, words: str) -> None:
    encoded = base64.b64encode(words.encode()).decode()
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": f"filename {encoded},submit"}
    ways = [
        client.post("/api/v1/transcriptions", files={"file": (words, b"sound")}),
        client.post("/api/v1/uploads", headers=tus),
    ]
    for answer in ways:
        assert answer.status_code in (201, 202), answer.text
        assert set(answer.headers) & {"set-cookie", "x"} == set()
    box = box_of(client)
    names = [job.source.name for job in box.list_active()]
    assert len(names) == 2
    for name in names:
        assert 0 < len(name) <= NAME_CHARACTERS
        assert name.isprintable() or "\u200d" in name
        assert "/" not in name
        assert "\\" not in name
    folders = {path.name for path in box.config.media.iterdir()}
    assert all(re.fullmatch("[0-9a-f]{32}", folder) for folder in folders)
    for job in box.list_active():
        box.delete(job.id)


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_files_hold_words_and_their_headers_one_name(client: TestClient, words: str, tmp_path: Path) -> None:
    job, batch = put(client, words)
    files = {form: client.get(f"/jobs/{job}/transcript.{form}") for form in ("txt", "srt", "vtt", "csv", "json")}
    for form, answer in files.items():
        assert answer.status_code == 200
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9._~%-]+", disposition)
        name = unquote(disposition.partition("''")[2])
        assert name.endswith(f".{form}")
        assert not set(name) & set("/\\\r\n\x00")
        assert answer.headers["x-content-type-options"] == "nosniff"
        if form != "json":
            assert not [c for c in answer.text if unicodedata.category(c) == "Cc" and c not in "\r\n"], form
    assert [lines for _, _, lines in read_srt(files["srt"].text)] == [
        lines for _, _, lines in read_vtt(files["vtt"].text)
    ]
    assert files["txt"].text.count("\n") == 2
    rows = list(csv.reader(io.StringIO(files["csv"].text.removeprefix("\ufeff"))))
    assert [len(row) for row in rows] == [4, 4, 4]
    assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for row in rows for cell in row)
    assert files["json"].json() == spoken(words)
    zipped = client.get(f"/batches/{batch}/zip?format=csv")
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9._~%-]+", zipped.headers["content-disposition"])
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as file:
        [name] = file.namelist()
        file.extractall(tmp_path / "out")
    assert not set(name) & set('/\\:*?"<>|')
    assert not name.startswith((".", " "))
    assert name.isprintable() or "\u200d" in name
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    client.delete(f"/api/v1/batches/{batch}")


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_in_the_log_they_are_one_line(words: str, style: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.begin("web", style)
        logging.getLogger("test").warning("it says %s", words)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    said = capsys.readouterr().err
    assert said.endswith("\n")
    [line] = said.splitlines()
    assert line.isprintable() or "\u200d" in line
    if style == "json":
        event = json.loads(line)["event"]
        assert event.startswith("it says ")
        assert event.isprintable() or "\u200d" in event or any(ord(c) < 32 for c in words + "\x7f")
