"""Conditional requests: whoever has an answer gets 304, in all the ways that HTTP has of saying so."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from web_support import put_job

from tasks import media
from tasks.actions import Box
from tasks.jobs import State


@pytest.fixture(params=["/docs", "/openapi.json", "/static/app.css", "media", "peaks", "cover"])
def path(request: pytest.FixtureRequest, behind: Box) -> str:
    """The address of something with a tag."""
    if request.param.startswith("/"):
        return str(request.param)
    job = put_job(behind, State.QUEUED)
    for name in ("peaks.json", "cover.jpg"):
        Path(media.extra(behind.config, job.id, name)).write_bytes(b'{"seconds_per_peak": 1.0, "peaks": [1]}')
    return f"/api/v1/jobs/{job.id}/{request.param}"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{}', "*", "  {}  "])
def test_who_has_it_gets_304(client: TestClient, path: str, form: str) -> None:
    first = client.get(path, headers={"Accept-Encoding": "identity"})
    answer = client.get(path, headers={"If-None-Match": form.format(first.headers["etag"])})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == first.headers["etag"]
    assert answer.headers["cache-control"] == first.headers["cache-control"]
    assert client.head(path, headers={"If-None-Match": form.format(first.headers["etag"])}).status_code == 304


@pytest.mark.parametrize("form", ['"other"', "", "x", '"a", "b"', ",,,", "W/"])
def test_who_has_another_gets_all_of_it(client: TestClient, path: str, form: str) -> None:
    first = client.get(path)
    dated = {"If-Modified-Since": first.headers.get("last-modified", "")}
    answer = client.get(path, headers={"If-None-Match": form} | dated)  # a tag that came decides alone
    assert (answer.status_code, answer.content) == (200, first.content)


def test_a_date_counts_without_a_tag(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.QUEUED)
    path = f"/api/v1/jobs/{job.id}/media"
    date = client.get(path).headers["last-modified"]
    assert client.get(path, headers={"If-Modified-Since": date}).status_code == 304
    assert client.get(path, headers={"If-Modified-Since": "Sat, 01 Jan 2050 00:00:00 GMT"}).status_code == 304
    assert client.get(path, headers={"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}).status_code == 200
    assert client.get(path, headers={"If-Modified-Since": "yesterday" * 5000}).status_code == 200


def test_it_comes_before_a_range(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.QUEUED)
    path = f"/api/v1/jobs/{job.id}/media"
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag, "Range": "bytes=99-"}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"other"', "Range": "bytes=1-2"}).status_code == 206


def test_the_manual_is_made_once_whatever_name_it_is_asked_by(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webapp.openapi import manual

    client.get("/docs")
    monkeypatch.setattr(manual, "manual", None)
    for port in range(9000, 9010):
        found = client.get("/docs", headers={"Host": f"localhost:{port}"})
        assert f"http://localhost:{port}/api/v1/jobs" in found.text
        assert "this-box.invalid" not in found.text
    assert "<x>" not in client.get("/docs", headers={"Host": "localhost:<x>"}).text
