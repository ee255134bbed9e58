"""What a job has on disk besides its words, over HTTP."""

from __future__ import annotations

from starlette.testclient import TestClient
from web_support import LOST, put_job

from tasks import media, store
from tasks.actions import Box
from tasks.jobs import State

FACTS = {
    "container": "mp4",
    "codec": "aac",
    "channels": 2,
    "sample_rate": 44_100,
    "bit_rate": 128_000,
    "track": 2,
    "tracks": [
        {"number": number, "codec": "aac", "channels": 2, "sample_rate": 44_100, "language": language, "title": None,
         "default": False}
        for number, language in ((1, "en"), (2, "de"))
    ],
    "tags": {"title": "A <b>talk</b>", "artist": "Somebody"},
    "cover": True,
}  # fmt: skip


def read(box: Box) -> str:
    """A job whose recording has been read; its id."""
    job = put_job(box, State.QUEUED)
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    store.note_media_if_owned(box.database, attempt.token, 61.0, FACTS)
    for name, data in (("peaks.json", b'{"seconds_per_peak":0.01,"peaks":[0,255]}'), ("cover.jpg", b"\xff\xd8jpeg")):
        media.extra(box.config, job.id, name).write_bytes(data)
    return job.id


def test_facts_waveform_and_picture(client: TestClient, behind: Box) -> None:
    address = f"/api/v1/jobs/{read(behind)}"
    job = client.get(address).json()
    assert job["media"] == FACTS
    assert job["links"] == {
        "self": address,
        "media": f"{address}/media",
        "peaks": f"{address}/peaks",
        "cover": f"{address}/cover",
    }
    answer = client.get(job["links"]["media"])
    assert (answer.content, answer.headers["content-type"]) == (b"sound", "video/mp4")
    peaks = client.get(job["links"]["peaks"])
    assert (peaks.headers["content-type"], peaks.json()["peaks"]) == ("application/json", [0, 255])
    cover = client.get(job["links"]["cover"])
    assert (cover.headers["content-type"], cover.content) == ("image/jpeg", b"\xff\xd8jpeg")
    assert cover.headers["x-content-type-options"] == "nosniff"


def test_before_the_recording_is_read_and_without_a_picture(client: TestClient, behind: Box) -> None:
    canceled = put_job(behind, State.CANCELED)
    waiting = put_job(behind, State.QUEUED)
    for job, status, code in ((waiting, 409, "not_finished"), (canceled, 404, "not_found")):
        for what in ("peaks", "cover"):
            answer = client.get(f"/api/v1/jobs/{job.id}/{what}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert client.get(f"/api/v1/jobs/{LOST}/peaks").status_code == 404


def test_the_page_shows_what_people_care_about(client: TestClient, behind: Box) -> None:
    page = client.get(f"/jobs/{read(behind)}").text
    assert "MP4, AAC, stereo, 44.1 kHz" in page
    assert "A &lt;b&gt;talk&lt;/b&gt;" in page
    assert "2 of 2" in page
    assert "(<bdi>German</bdi>)" in page
    assert '/cover"' in page


def test_the_track_that_is_asked_for_is_checked_and_kept(client: TestClient) -> None:
    for track, kept in (("3", 3), ("auto", None)):
        answer = client.post("/api/v1/transcriptions", data={"track": track}, files={"file": ("a.mkv", b"sound")})
        assert (answer.status_code, answer.json()["params"]["track"]) == (202, kept)
    for track in ("0", "65", "-1", "1.5", "one", "²"):
        answer = client.post("/api/v1/transcriptions", data={"track": track}, files={"file": ("a.mkv", b"sound")})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "track")
