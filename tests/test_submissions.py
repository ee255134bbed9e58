"""The JSON way to submit: what a body may say, and what is said about every other one."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from web_support import put_job

from tasks.actions import Box
from tasks.errors import StenoboxError
from tasks.jobs import Job, State
from webapp import submissions
from webapp.submissions import SOURCES, Sender, Submission, read

SUBMIT = "/api/v1/transcriptions"


def test_the_sources_are_fields_of_a_submission() -> None:
    assert set(SOURCES) < set(Submission.__struct_fields__)


def test_a_source_makes_the_job_and_is_told_everything(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Submission, Sender]] = []

    def take(box: Box, submission: Submission, sender: Sender) -> Job:
        asked.append((submission, sender))
        return put_job(box, State.QUEUED, "taken.mp3")

    monkeypatch.setitem(submissions.SOURCES, "url", take)
    body = {"url": "https://example.org/a.mp3", "model": "small", "language": None}
    answer = client.post(SUBMIT, json=body, headers={"X-API-Key": "mine"})
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["links"]["self"]
    assert answer.json()["source"]["name"] == "taken.mp3"
    [(submission, sender)] = asked
    assert submission == Submission(url="https://example.org/a.mp3", model="small")
    assert sender.submitter == sender.asker != ""


def test_the_refusal_of_a_source_is_the_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(box: Box, submission: Submission, sender: Sender) -> Job:
        raise StenoboxError("queue_full", "The box is full.", retry_after=7)

    monkeypatch.setitem(submissions.SOURCES, "url", take)
    answer = client.post(SUBMIT, json={"url": "https://example.org/a.mp3"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("name", [name for name, take in SOURCES.items() if take is None])
def test_a_source_that_is_not_here_is_refused_with_a_sentence(client: TestClient, name: str) -> None:
    answer = client.post(SUBMIT, json={name: "x"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "invalid_value", name)
    assert f"takes no {name} yet" in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 400, "invalid_request", None),
        ({"model": "demo"}, 400, "invalid_request", None),
        ({"upload": "a", "url": "b"}, 400, "invalid_request", None),
        ({"url": "b", "speed": 2}, 422, "unknown_field", "speed"),
        ({"url": "b", "s" * 100: 2}, 422, "unknown_field", "s" * 40),
        ({"url": 5}, 422, "invalid_value", "url"),
        ({"url": "b", "language": ["de"]}, 422, "invalid_value", "language"),
        ({"url": "b", "model": False}, 422, "invalid_value", "model"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_the_fields_name(
    client: TestClient, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    answer = client.post(SUBMIT, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b"\xff", 400, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_request"),
        (b'{"url": "' + b"x" * submissions.BODY_BYTES + b'"}', 413, "too_large"),
    ],
    ids=["cut off", "a list", "not text", "deep", "large"],
)
def test_what_is_no_json_object_is_refused(client: TestClient, content: bytes, status: int, code: str) -> None:
    answer = client.post(SUBMIT, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_null_is_the_same_as_absent() -> None:
    assert read({"url": "a", "upload": None, "model": None}) == Submission(url="a")
