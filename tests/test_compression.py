"""Text is small on its way, media stay as they are, and no length tells another site anything."""

from __future__ import annotations

import gzip

import pytest
from starlette.testclient import TestClient
from web_support import TRANSCRIPT, put_job

from tasks.actions import Box
from tasks.jobs import State

LONG = TRANSCRIPT | {"text": "yes no " * 2000}


def raw_bytes(client: TestClient, path: str, **headers: str) -> tuple[dict[str, str], bytes]:
    """Headers and body as they are on the wire."""
    hooks, client.event_hooks = client.event_hooks, {}  # they unpack what they read
    try:
        with client.stream("GET", path, headers={"Accept-Encoding": "gzip", **headers}) as answer:
            return dict(answer.headers), b"".join(answer.iter_raw())
    finally:
        client.event_hooks = hooks


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/app.css", "/limits", "/api/v1/capacity"])
def test_text_is_compressed_for_who_can_unpack_it(client: TestClient, path: str) -> None:
    headers, body = raw_bytes(client, path)
    assert headers["content-encoding"] == "gzip"
    assert "accept-encoding" in headers["vary"].lower()
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "accept-encoding" in plain.headers["vary"].lower()
    assert len(body) < len(plain.content) / 2
    if path.startswith(("/docs", "/openapi", "/static")):  # the others tell the time
        assert gzip.decompress(body) == plain.content


@pytest.mark.parametrize("form", ["json", "txt", "srt", "vtt", "csv"])
def test_words_are_compressed_in_every_format(client: TestClient, behind: Box, form: str) -> None:
    segment = TRANSCRIPT["segments"][0]
    words = LONG | {"segments": [segment | {"id": n, "start": n * 3.0, "end": n * 3.0 + 2} for n in range(200)]}
    job = put_job(behind, State.COMPLETED, transcript=words)
    headers, body = raw_bytes(client, f"/api/v1/jobs/{job.id}/transcript?format={form}")
    assert headers["content-encoding"] == "gzip"
    plain = client.get(f"/api/v1/jobs/{job.id}/transcript?format={form}", headers={"Accept-Encoding": "identity"})
    assert gzip.decompress(body) == plain.content


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True), ("deflate, gzip;q=0.5", True), ("br, gzip", True), ("GZIP ;q=1", False), ("gzip;q=0", False),
        ("gzip; q=0.000, br", False), ("identity", False), ("", False), ("gzip" + ";" * 60_000, True),
    ],
)  # fmt: skip
def test_what_a_client_accepts_is_believed(client: TestClient, accepted: str, packed: bool) -> None:
    headers, _ = raw_bytes(client, "/openapi.json", **{"Accept-Encoding": accepted})
    assert ("content-encoding" in headers) == packed


def test_media_zips_and_what_is_small_stay_as_they_are(client: TestClient, behind: Box) -> None:
    with behind.receive("talk.xyz") as receiving:  # of no type that is known
        receiving.write(b"sound" * 1000)
        job = receiving.queue(behind.params(None, None))
    headers, body = raw_bytes(client, f"/api/v1/jobs/{job.id}/media")
    assert "content-encoding" not in headers
    assert body == b"sound" * 1000
    assert headers["accept-ranges"] == "bytes"
    headers, _ = raw_bytes(client, "/healthz")
    assert "content-encoding" not in headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_lengths_tell_another_site_nothing(client: TestClient, site: str) -> None:
    headers, _ = raw_bytes(client, "/", **{"Sec-Fetch-Site": site})
    assert "content-encoding" not in headers
    headers, _ = raw_bytes(client, "/", **{"Sec-Fetch-Site": "same-origin"})
    assert headers["content-encoding"] == "gzip"


def test_a_tag_is_weak_when_the_bytes_are_others(client: TestClient) -> None:
    packed, _ = raw_bytes(client, "/static/app.css")
    plain = client.get("/static/app.css", headers={"Accept-Encoding": "identity"}).headers
    assert packed["etag"] == "W/" + plain["etag"]
    for tag in (packed["etag"], plain["etag"]):
        assert client.get("/static/app.css", headers={"If-None-Match": tag}).status_code == 304


def test_a_poll_without_change_is_304(client: TestClient) -> None:
    first = client.get("/", headers={"HX-Request": "true"})
    again = client.get("/", headers={"HX-Request": "true", "HX-PTag": first.headers["hx-ptag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-encoding" not in again.headers
