"""Files in parts: what can't be understood is ignored, what isn't there is refused in our one shape."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from web_support import put_job

from tasks.jobs import State


@pytest.fixture
def address(client: TestClient) -> str:
    job = put_job(client.app.state.box, State.QUEUED)  # type: ignore[attr-defined]
    return f"/api/v1/jobs/{job.id}/media"  # holds b"sound"


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=1-2", 206, b"ou"),
        ("Bytes = 1-2", 206, b"ou"),
        ("bytes=1-", 206, b"ound"),
        ("bytes=-2", 206, b"nd"),
        ("bytes=-99", 206, b"sound"),
        ("bytes=0-999", 206, b"sound"),
        ("bytes", 200, b"sound"),
        ("bytes=", 200, b"sound"),
        ("bytes=-", 200, b"sound"),
        ("bytes=a-b", 200, b"sound"),
        ("bytes=3-1", 200, b"sound"),
        ("lines=1-2", 200, b"sound"),
        ("bytes=1-2,x", 200, b"sound"),
        ("bytes=1-2,99-", 200, b"sound"),
        ("bytes=" + "9" * 5000 + "-", 200, b"sound"),
    ],
)
def test_a_part_is_sent_when_it_makes_sense(
    client: TestClient, address: str, header: str, status: int, content: bytes
) -> None:
    answer = client.get(address, headers={"Range": header})
    assert (answer.status_code, answer.content) == (status, content)


@pytest.mark.parametrize("header", ["bytes=5-", "bytes=99-100", "bytes=-0", "bytes=5-,99-"])
def test_a_part_that_is_not_there_is_refused_in_the_one_shape(client: TestClient, address: str, header: str) -> None:
    answer = client.get(address, headers={"Range": header})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */5")
    assert answer.json()["error"]["code"] == "unsatisfiable_range"
    whole = client.get(address, headers={"Range": header, "If-Range": '"another version"'})
    assert (whole.status_code, whole.content) == (200, b"sound")


def test_several_parts_come_as_one_body(client: TestClient, address: str) -> None:
    answer = client.get(address, headers={"Range": "bytes=0-0,3-4"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
