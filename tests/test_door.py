"""The shortcut for refusals says exactly what the way through the application says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from web_support import END, FORM, file_part, put_job

from tasks.actions import Box
from tasks.capacity import empty_seconds
from tasks.errors import StenoboxError
from tasks.jobs import State
from webapp import door
from webapp.door import Door

PATH = "/api/v1/transcriptions"
BODY = file_part() + END


@pytest.fixture
def box(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Codes of the refusals that the door itself answered."""
    codes: list[str] = []
    answer = door._answer

    async def note(refusal: StenoboxError, send: Any) -> None:
        codes.append(refusal.code)
        await answer(refusal, send)

    monkeypatch.setattr(door, "_answer", note)
    return codes


def fill(box: Box) -> None:
    box.change_settings({"slots": 1, "queue_limit": 0}, "test")
    put_job(box, State.QUEUED)


def pause(box: Box) -> None:
    box.change_settings({"intake": "paused"}, "test")


def take_little(box: Box) -> None:
    box.change_settings({"max_bytes": 1}, "test")


def allow_one_each(box: Box) -> None:
    box.change_settings({"per_key": 1, "slots": 4}, "test")


def submit(client: TestClient, **headers: str) -> httpx.Response:
    sent = FORM | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(PATH, content=BODY, headers=sent)


@pytest.mark.parametrize(
    ("state", "code"),
    [(fill, "queue_full"), (pause, "paused"), (take_little, "too_large"), (allow_one_each, "key_limit")],
)
def test_both_ways_say_the_same(
    client: TestClient,
    box: Box,
    shut: list[str],
    monkeypatch: pytest.MonkeyPatch,
    state: Callable[[Box], None],
    code: str,
) -> None:
    state(box)
    if code == "key_limit":
        assert submit(client, X_API_Key="one").status_code == 202
        box.lookout.forget()
    headers = {"Content-Length": "100000"} if code == "too_large" else {}
    short = submit(client, X_API_Key="one", **headers)
    assert shut == [code]
    box.lookout._promises = type(box.lookout._promises)()  # the second is told of the same place
    monkeypatch.setattr(Door, "_is_usual", lambda self, sent: False)
    long = submit(client, X_API_Key="one", **headers)
    assert shut == [code]
    assert short.json()["error"]["code"] == code
    assert (short.status_code, short.json()) == (long.status_code, long.json())
    assert dict(short.headers) | {"content-length": ""} == dict(long.headers) | {"content-length": ""}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "unknown_host"),
        ({"Origin": "http://evil.example"}, "cross_origin"),
        ({"Sec_Fetch_Site": "cross-site"}, "cross_origin"),
        ({"Content_Type": "text/plain"}, "unsupported_media_type"),
        ({"Origin": "http://localhost"}, "queue_full"),
    ],
)
def test_what_is_unusual_goes_the_long_way(
    client: TestClient, box: Box, shut: list[str], headers: dict[str, str], code: str
) -> None:
    fill(box)
    assert submit(client, **headers).json()["error"]["code"] == code
    assert shut == []


def test_a_header_that_comes_twice_goes_the_long_way(client: TestClient, box: Box, shut: list[str]) -> None:
    fill(box)
    twice = [*FORM.items(), ("X-API-Key", "one"), ("X-API-Key", "two")]
    assert client.post(PATH, content=BODY, headers=twice).status_code == 429
    assert shut == []


def test_what_fits_goes_in(client: TestClient, shut: list[str]) -> None:
    assert submit(client).status_code == 202
    assert shut == []


def test_each_refused_client_is_told_of_a_place_of_its_own(client: TestClient, box: Box) -> None:
    fill(box)
    told = [int(submit(client, X_API_Key=key).headers["Retry-After"]) for key in "abcde"]
    assert told[:2] == [30, 60]
    # While nobody knows whether they come back, no later than twice the time until the box is empty.
    assert max(told) <= 2 * empty_seconds(box.limits(), box.load())


def test_a_busy_database_is_said_and_nobody_is_let_in(
    client: TestClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(submitter: str = "") -> None:
        raise StenoboxError("database_busy", "The database is busy.", retry_after=5)

    box.lookout.forget()
    monkeypatch.setattr(box.lookout, "look", busy)
    answer = submit(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
