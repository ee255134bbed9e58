"""Steps that compose, over HTTP: each kind from each source, and the guide's own addresses."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from web_support import LOST, TRANSCRIPT, put_job

from tasks import media, store
from tasks.actions import Box
from tasks.db import jobs
from tasks.jobs import Job, JobKind, State

EXTRACT, DOWNLOAD, TRANSCRIBE = "/api/v1/audio-extractions", "/api/v1/downloads", "/api/v1/transcriptions"


def made(box: Box, job_id: str, sound: bytes = b"extracted") -> Job:
    """Complete a light job as the worker would."""
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600, light=True)
    assert attempt is not None
    assert attempt.job.id == job_id
    result = "source"
    if attempt.job.kind == JobKind.EXTRACTION:
        result = f"{attempt.token}.{attempt.job.params.format}"
        media.result(box.config, job_id, result).write_bytes(sound)
    store.finish_if_owned(box.database, attempt.token, result, 2.5, None, work=1.0)
    return box.get(job_id)


def extraction(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(EXTRACT, data=fields, files={"file": ("film.mkv", b"film")})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


class TestExtraction:
    def test_its_parameters_are_frozen_and_its_result_is_sound(self, client: TestClient, behind: Box) -> None:
        job = extraction(client, format="opus", bitrate="48000", track="2", language="German")
        assert job["kind"] == "extraction"
        assert job["params"] == {"format": "opus", "bitrate": 48_000, "track": 2, "language": "de"}
        assert "media" not in job["links"]
        address = f"/api/v1/jobs/{job['id']}"
        for what in ("media", "transcript"):
            answer = client.get(f"{address}/{what}")
            assert answer.status_code == (409 if what == "media" else 404)
        made(behind, job["id"], b"0123456789")
        done = client.get(address).json()
        assert done["links"]["media"] == f"{address}/media"
        assert "transcript" not in done["links"]
        answer = client.get(f"{address}/media", headers={"Range": "bytes=2-4"})
        assert (answer.status_code, answer.content) == (206, b"234")
        assert answer.headers["content-type"] == "audio/ogg"
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''film.opus"
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_without_fields_it_is_mp3(self, client: TestClient) -> None:
        assert extraction(client)["params"] == {"format": "mp3", "bitrate": None, "track": None, "language": None}

    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({"format": "exe"}, "unknown_format", "format"),
            ({"format": "wav", "bitrate": "128000"}, "invalid_value", "bitrate"),
            ({"bitrate": "1"}, "invalid_value", "bitrate"),
            ({"bitrate": "128k"}, "invalid_value", "bitrate"),
            ({"language": "Elvish"}, "unknown_language", "language"),
            ({"model": "demo"}, "unknown_field", "model"),
        ],
    )
    def test_what_is_wrong_is_refused_and_takes_no_place(
        self, fields: dict[str, str], code: str, param: str, client: TestClient, behind: Box
    ) -> None:
        answer = client.post(EXTRACT, data=fields, files={"file": ("film.mkv", b"film")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
        assert answer.json()["error"]["param"] == param
        assert behind.load().active == 0

    def test_it_is_admitted_like_any_job(self, client: TestClient) -> None:
        for _ in range(3):
            extraction(client)
        answer = client.post(EXTRACT, files={"file": ("film.mkv", b"film")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")

    def test_the_recording_may_be_the_body(self, client: TestClient) -> None:
        answer = client.post(
            f"{EXTRACT}?format=flac&name=a.mkv", content=b"film", headers={"Content-Type": "video/x-matroska"}
        )
        assert (answer.status_code, answer.json()["params"]["format"]) == (202, "flac")


class TestDownload:
    def test_its_result_is_what_came(self, client: TestClient, behind: Box) -> None:
        job = client.post(DOWNLOAD, files={"file": ("page.html", b"<script>")}).json()
        assert (job["kind"], job["params"]) == ("download", {})
        made(behind, job["id"])
        answer = client.get(f"/api/v1/jobs/{job['id']}/media")
        assert (answer.content, answer.headers["content-type"]) == (b"<script>", "application/octet-stream")
        assert answer.headers["content-disposition"].startswith("attachment")


class TestOneFromAnother:
    def test_download_extract_transcribe(self, client: TestClient, behind: Box) -> None:
        first = client.post(DOWNLOAD, files={"file": ("talk.mkv", b"film")}).json()
        made(behind, first["id"])
        second = client.post(EXTRACT, json={"source_job": first["id"], "format": "flac"}).json()
        assert second["source"] == first["source"] | {"type": "job"}
        made(behind, second["id"])
        third = client.post(TRANSCRIBE, json={"source_job": f"/api/v1/jobs/{second['id']}", "language": "de"}).json()
        assert (third["kind"], third["source"]["name"], third["params"]["language"]) == (
            "transcription",
            "talk.flac",
            "de",
        )
        for job in (first, second):
            assert client.delete(job["links"]["self"]).status_code == 204
        assert media.source(behind.config, third["id"]).read_bytes() == b"extracted"

    def test_bytes_are_shared_by_a_link_or_copied(
        self, client: TestClient, behind: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = put_job(behind, State.COMPLETED)
        ask = {"source_job": job.id, "track": 2}
        linked = client.post(TRANSCRIBE, json=ask).json()
        assert media.source(behind.config, linked["id"]).samefile(media.source(behind.config, job.id))

        def fail(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr("os.link", fail)
        copied = client.post(TRANSCRIBE, json=ask).json()
        assert not media.source(behind.config, copied["id"]).samefile(media.source(behind.config, job.id))
        assert media.source(behind.config, copied["id"]).read_bytes() == b"sound"
        assert (copied["params"]["track"], copied["source"]["bytes"]) == (2, 5)

    def test_also_of_a_failed_one(self, client: TestClient, behind: Box) -> None:
        job = put_job(behind, State.FAILED)
        assert client.post(TRANSCRIBE, json={"source_job": job.id}).status_code == 202

    def test_not_before_it_has_finished(self, client: TestClient, behind: Box) -> None:
        job = extraction(client)
        answer = client.post(TRANSCRIBE, json={"source_job": job["id"]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_finished")
        assert answer.json()["error"]["param"] == "source_job"
        client.post(f"/api/v1/jobs/{job['id']}/cancel")
        answer = client.post(TRANSCRIBE, json={"source_job": job["id"]})
        assert "canceled" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("source", [LOST, "../../etc/passwd", ""])
    def test_not_of_one_that_is_not_there(self, source: str, client: TestClient) -> None:
        answer = client.post(EXTRACT, json={"source_job": source})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "source_job")

    def test_not_when_its_media_is_gone(self, client: TestClient, behind: Box) -> None:
        job = put_job(behind, State.COMPLETED)
        media.source(behind.config, job.id).unlink()
        assert client.post(EXTRACT, json={"source_job": job.id}).json()["error"]["code"] == "media_missing"
        assert client.get(f"/api/v1/jobs/{job.id}/media").status_code == 410

    @pytest.mark.parametrize("address", [EXTRACT, DOWNLOAD])
    def test_fields_of_another_kind_are_refused(self, address: str, client: TestClient) -> None:
        answer = client.post(address, json={"source_job": LOST, "model": "demo"})
        assert answer.json()["error"]["code"] == "unknown_field"


class TestPages:
    def test_an_extraction_plays_and_leads_on(self, client: TestClient, behind: Box) -> None:
        job = extraction(client)
        assert "Sound as MP3" in client.get("/").text
        made(behind, job["id"])
        page = client.get(f"/jobs/{job['id']}").text
        assert (
            f'<audio class="player" id="player" controls preload="metadata" src="/api/v1/jobs/{job["id"]}/media">'
            in page
        )
        assert "To be detected" not in page
        answer = client.post(f"/jobs/{job['id']}/next", data={"kind": "transcription"})
        assert answer.status_code == 303
        assert behind.get(answer.headers["location"].rpartition("/")[2]).kind == JobKind.TRANSCRIPTION

    def test_another_track_is_offered_and_taken(self, client: TestClient, behind: Box) -> None:
        job = put_job(behind, State.RUNNING)
        tracks = [
            {
                "number": number,
                "codec": "aac",
                "channels": 2,
                "sample_rate": 48_000,
                "language": language,
                "title": None,
            }
            for number, language in ((1, "en"), (2, "de"))
        ]
        facts = {"container": "mp4", "codec": "aac", "channels": 2, "sample_rate": 48_000, "track": 1, "tags": {},
                 "cover": False, "tracks": tracks}  # fmt: skip
        with behind.database.write() as connection:
            connection.execute(sa.update(jobs).values(media=facts, state="completed", finished_at=1.0, token=None))
        page = client.get(f"/jobs/{job.id}").text
        assert "Transcribe track 2 (German)" in page
        assert "Transcribe track 1" not in page
        answer = client.post(f"/jobs/{job.id}/next", data={"kind": "transcription", "track": "2"})
        assert behind.get(answer.headers["location"].rpartition("/")[2]).params.track == 2
        assert client.post(f"/jobs/{job.id}/next", data={"kind": "download"}).status_code == 422

    def test_a_download_is_there_to_save(self, client: TestClient, behind: Box) -> None:
        job = client.post(DOWNLOAD, files={"file": ("talk.mkv", b"film")}).json()
        made(behind, job["id"])
        page = client.get(f"/jobs/{job['id']}").text
        assert "The file as it came, 4 B." in page
        assert "Get its sound as MP3" in page


class TestLines:
    """Jobs that need no model have a line and slots of their own."""

    def test_neither_waits_for_the_other(self, client: TestClient, behind: Box) -> None:
        put_job(behind, State.RUNNING)  # the only slot
        waiting = put_job(behind, State.QUEUED)
        job = extraction(client)
        assert (waiting.queue_position, job["queue_position"]) == (1, 1)
        assert [found.queue_position for found in store.list_active(behind.database)] == [None, 1, 1]
        load = behind.load()
        assert (load.running, load.queued, load.light, load.active) == (1, 1, 1, 3)
        assert store.claim_next(behind.database, behind.planner.first(), "a worker", 60) is None
        made(behind, job["id"])
        assert behind.load().job_seconds is None  # says nothing about transcriptions
        listed = {found["id"]: found for found in client.get("/api/v1/jobs").json()["jobs"]}
        assert listed[waiting.id]["queue_position"] == 1

    def test_its_own_slots_are_bounded_too(self, client: TestClient, behind: Box) -> None:
        for _ in range(3):
            extraction(client)
        claims = [store.claim_next(behind.database, behind.planner.first(), "w", 60, light=True) for _ in range(3)]
        assert [claim is not None for claim in claims] == [True, True, False]
        assert store.claim_next(behind.database, behind.planner.first(), "w", 60) is None


class TestGuide:
    KEY: dict[str, str] = {"X-API-Key": "k"}

    def test_transcribe_and_its_status(self, client: TestClient, behind: Box) -> None:
        fields = {"provider": "local", "model_size": "small", "language": "de"}
        answer = client.post("/transcribe", data=fields, files={"file": ("a.mp3", b"sound")}, headers=self.KEY)
        assert answer.status_code == 202
        found = answer.json()
        assert (found["status"], found["status_url"]) == ("queued", answer.headers["location"])
        job = behind.get(found["job_id"])
        assert (job.params.model, job.params.language, bool(job.submitter)) == ("small", "de", True)
        behind.delete(job.id)
        states = {State.RUNNING: "processing", State.COMPLETED: "completed", State.FAILED: "failed"}
        for state, word in list(states.items())[1:]:
            status = client.get(f"/transcribe/{put_job(behind, state).id}/status").json()
            assert status["status"] == word
            if state == State.COMPLETED:
                assert status["transcript"] == TRANSCRIPT["text"]
                assert status["result"]["segments"] == TRANSCRIPT["segments"]
            else:
                assert status["error"]["code"] == "no_audio"
        assert client.get(f"/transcribe/{put_job(behind, State.RUNNING).id}/status").json()["status"] == "processing"

    def test_extract_audio_and_download_by_json(self, client: TestClient, behind: Box) -> None:
        source = put_job(behind, State.COMPLETED)
        answer = client.post("/extract-audio", json={"source_job": source.id, "output_format": "wav"})
        assert answer.status_code == 202
        job_id = answer.json()["job_id"]
        assert behind.get(job_id).params.format == "wav"
        made(behind, job_id)
        status = client.get(f"/transcribe/{job_id}/status").json()
        assert (status["status"], status["links"]["media"]) == ("completed", f"/api/v1/jobs/{job_id}/media")
        answer = client.post("/download", json={"source_job": source.id})
        assert behind.get(answer.json()["job_id"]).kind == JobKind.DOWNLOAD

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"provider": "openai"}, "provider"),
            ({"model_size": "huge"}, "model"),
            ({"model_size": "demo", "model": "demo"}, "model_size"),
            ({"sizes": "x"}, "sizes"),
        ],
    )
    def test_what_is_wrong_is_a_sentence_in_json(self, fields: dict[str, str], param: str, client: TestClient) -> None:
        for answer in (
            client.post("/transcribe", data=fields, files={"file": ("a.mp3", b"sound")}),
            client.post("/transcribe", json=fields | {"source_job": LOST}),
        ):
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)

    def test_the_same_429(self, client: TestClient) -> None:
        for _ in range(3):
            assert client.post("/transcribe", files={"file": ("a.mp3", b"sound")}).status_code == 202
        answer = client.post("/transcribe", files={"file": ("a.mp3", b"sound")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) > 0

    def test_unknown_jobs_and_methods_are_json_too(self, client: TestClient) -> None:
        assert client.get(f"/transcribe/{LOST}/status").json()["error"]["code"] == "not_found"
        assert client.get("/transcribe").json()["error"]["code"] == "method_not_allowed"
