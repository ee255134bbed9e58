"""REST: what every address answers, and the one shape of everything that can go wrong."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from web_support import (
    BOUNDARY,
    END,
    FORM,
    LOST,
    TRANSCRIPT,
    client_of,
    field_part,
    file_part,
    part,
    put_every_state,
    put_job,
)

from tasks import __version__, media, store
from tasks.actions import Box
from tasks.choosing import DEMO_NOTE
from tasks.config import Config
from tasks.errors import KINDS
from tasks.jobs import State
from webapp import security, streams

SUBMIT = "/api/v1/transcriptions"
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd.mp3"
PERSIAN = "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp3"
"""Written with a zero-width non-joiner."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def post(client: TestClient, *parts: bytes, end: bytes = END, **headers: str) -> Any:
    return client.post(SUBMIT, content=b"".join(parts) + end, headers=FORM | headers)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check the one shape of an error; what it says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "message", "type", "param"}
    assert error["code"] == code
    assert error["type"] == KINDS[code].type
    assert re.fullmatch(r"\w.*\.", error["message"]), "a sentence"
    assert "Traceback" not in answer.text
    assert "File " not in error["message"]
    for name, value in security.HEADERS.items():
        assert answer.headers[name] == value
    return error


# Submitting


def test_a_submission_is_answered_202_with_the_job_and_its_address(client: TestClient, behind: Box) -> None:
    answer = post(client, field_part("model", "demo"), field_part("language", "German"), file_part(b"x" * 10))
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}" == job["links"]["self"]
    assert re.fullmatch("[0-9a-f]{32}", job["id"])
    assert TIME.fullmatch(job["created_at"])
    assert job == {
        "id": job["id"],
        "kind": "transcription",
        "state": "queued",
        "stage": None,
        "progress": 0.0,
        "created_at": job["created_at"],
        "started_at": None,
        "finished_at": None,
        "attempts": 0,
        "crashes": 0,
        "source": {"type": "upload", "name": "talk.mp3", "url": None, "bytes": 10, "seconds": None},
        "params": {"model": "demo", "language": "de", "track": None},
        "media": None,
        "queue_position": 1,
        "eta_seconds": None,
        "realtime_factor": None,
        "error": None,
        "note": DEMO_NOTE,
        "about": {},
        "batch": None,
        "submitter": None,
        "links": {"self": f"/api/v1/jobs/{job['id']}", "media": f"/api/v1/jobs/{job['id']}/media"},
    }
    assert client.get(answer.headers["location"]).json() == job
    assert media.source(behind.config, job["id"]).read_bytes() == b"x" * 10


def test_fields_may_come_after_the_file_and_be_left_out(client: TestClient) -> None:
    late = post(client, file_part(), field_part("language", " DE "), field_part("model", "small")).json()
    assert late["params"] == {"model": "small", "language": "de", "track": None}
    bare = post(client, file_part()).json()
    assert bare["params"] == {"model": "demo", "language": None, "track": None}
    auto = post(client, field_part("language", "auto"), field_part("model", ""), file_part()).json()
    assert auto["params"] == {"model": "demo", "language": None, "track": None}


def test_a_form_of_an_ordinary_client_is_read(client: TestClient) -> None:
    answer = client.post(SUBMIT, data={"language": "en"}, files={"file": ("Grüße.ogg", b"abc", "audio/ogg")})
    assert answer.status_code == 202
    assert answer.json()["source"]["name"] == "Grüße.ogg"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("x" * 300 + ".mp3", "x" * 250 + "….mp3"),
        ("x" * 300, "x" * 254 + "…"),
        (HEBREW, HEBREW),
        ("\u202egpj.mp3", "gpj.mp3"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("/etc/shadow", "shadow"),
        ("..", "recording"),
        ("a\x00b\x1b[31mc\x7f.mp3", "ab[31mc.mp3"),
        ("   ", "recording"),
        ("", "recording"),
        ("<script>alert(1)</script>.mp3", "script>.mp3"),
        ("👩\u200d👧 été 漢字.mp3", "👩\u200d👧 été 漢字.mp3"),
        (PERSIAN, PERSIAN),
        ("2026-11-23 at 2.43.13\u202fPM.m4a", "2026-11-23 at 2.43.13 PM.m4a"),
        ("\u4f1a\u8b70\u3000\u9332\u97f3.mp3", "\u4f1a\u8b70 \u9332\u97f3.mp3"),
        ("it's; filename=x.mp3", "it's; filename=x.mp3"),
    ],
)
def test_a_name_is_kept_as_data_and_never_a_path(client: TestClient, behind: Box, sent: str, kept: str) -> None:
    job = post(client, file_part(b"x", sent)).json()
    assert job["source"]["name"] == kept
    assert len(kept) <= 255
    folder = media.folder(behind.config, job["id"])
    assert [path.name for path in folder.iterdir()] == ["source"]
    assert list(behind.config.media.iterdir()) == [folder]


@pytest.mark.parametrize("name", [b"caf\xe9.mp3", b"\xff\xfe\xfd", b"\xed\xa0\x80.mp3"])
def test_a_name_that_is_not_utf_8_is_still_a_name(client: TestClient, name: bytes) -> None:
    answer = post(client, file_part(b"x", name))
    assert answer.status_code == 202
    assert "\N{REPLACEMENT CHARACTER}" in answer.json()["source"]["name"]


def test_quotes_in_a_name_stay_in_it_and_line_ends_do_not(client: TestClient) -> None:
    job = post(client, file_part(b"x", 'say "hi"\r\nX-Evil: 1.mp3')).json()
    assert job["source"]["name"] == 'say "hi"X-Evil: 1.mp3'
    job = post(client, part('name="file"; filename="say \\"hi\\".mp3"', b"x")).json()
    assert job["source"]["name"] == 'say "hi".mp3'


# What can be wrong with a submission

DEEP = b"\r\n".join(b"X-%d: y" % number for number in range(50)) + b"\r\n"

BAD_FORMS: dict[str, tuple[tuple[bytes, ...], bytes, int, str, str | None]] = {
    "an empty file": ((file_part(b""),), END, 422, "empty_file", "file"),
    "no file": ((field_part("model", "demo"),), END, 422, "missing_file", "file"),
    "no part at all": ((), END, 422, "missing_file", "file"),
    "an empty body": ((), b"", 400, "invalid_request", None),
    "a file without a name": ((part('name="file"'),), END, 422, "missing_file", "file"),
    "two files": ((file_part(), file_part()), END, 400, "invalid_request", "file"),
    "an unknown field": ((field_part("speed", "2"), file_part()), END, 422, "unknown_field", "speed"),
    "a file in an unknown field": ((part('name="audio"; filename="a"'),), END, 422, "unknown_field", "audio"),
    "a part without a name": ((part("x=y"),), END, 422, "unknown_field", ""),
    "an unknown model": ((field_part("model", "gpt"), file_part()), END, 422, "unknown_model", "model"),
    "a path as a model": ((field_part("model", "../../etc"), file_part()), END, 422, "unknown_model", "model"),
    "an unknown language": ((field_part("language", "tlh"), file_part()), END, 422, "unknown_language", "language"),
    "a language it lacks": ((field_part("language", "fr"), file_part()), END, 422, "unknown_language", "language"),
    "a field too long": ((field_part("model", "x" * 5000), file_part()), END, 422, "invalid_value", "model"),
    "many fields": ((field_part("model", "demo") * 100, file_part()), END, 400, "invalid_request", "model"),
    "a giant header": ((part("name=x; " + "y" * 100_000), file_part()), END, 400, "invalid_request", None),
    "a long header": ((part("name=x; " + "y" * 4120), file_part()), END, 400, "invalid_request", None),
    "a giant header name": ((part("name=x", headers=b"y" * 100_000 + b": 1\r\n"),), END, 400, "invalid_request", None),
    "fifty headers": ((part("name=model", headers=DEEP), file_part()), END, 400, "invalid_request", None),
    "another boundary": ((file_part().replace(BOUNDARY, b"other"),), END, 400, "invalid_request", None),
    "text before the form": ((b"hello", file_part()), END, 400, "invalid_request", None),
    "no end": ((file_part(),), b"", 400, "invalid_request", None),
    "an end cut off": ((file_part(),), END[:-4], 400, "invalid_request", None),
    "a part cut off": ((file_part()[:-20],), b"", 400, "invalid_request", None),
    "a broken header": ((b"--" + BOUNDARY + b"\r\n\x00\x01: \xff\r\n\r\n",), END, 400, "invalid_request", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FORMS)
def test_a_bad_form_is_refused_in_the_one_shape_and_leaves_nothing(client: TestClient, behind: Box, case: str) -> None:
    parts, end, status, code, param = BAD_FORMS[case]
    error = refused(post(client, *parts, end=end), status, code)
    assert error["param"] == param
    assert store.ids(behind.database) == set()
    assert list(behind.config.media.iterdir()) == []


def test_a_file_without_a_name_is_told_how_to_send_one(client: TestClient) -> None:
    assert "-F file=@" in refused(post(client, part('name="file"')), 422, "missing_file")["message"]


@pytest.mark.parametrize(
    "content_type",
    ["application/pdf", "multipart/form-data", "multipart/mixed; boundary=x", "", "multipart", "; ;"],
)
def test_another_content_type_is_refused_with_an_example(client: TestClient, content_type: str) -> None:
    answer = client.post(SUBMIT, content=b"{}", headers={"Content-Type": content_type})
    assert "curl -F file=@" in refused(answer, 415, "unsupported_media_type")["message"]


@pytest.mark.parametrize("boundary", ["", '""', "x" * 257, "x" * 5000, "é", '"a;b', "a\tb", "*0*=x"])
def test_a_strange_boundary_is_no_internal_error(client: TestClient, behind: Box, boundary: str) -> None:
    header = ("multipart/form-data; boundary=" + boundary).encode("latin-1")
    answer = client.post(SUBMIT, content=b"--x\r\n", headers={b"Content-Type": header})
    assert answer.status_code in (400, 415)
    refused(answer, answer.status_code, answer.json()["error"]["code"])
    assert store.ids(behind.database) == set()


def test_a_file_announced_as_too_large_is_refused(tmp_path: Any) -> None:
    with client_of(Config(data=tmp_path, max_bytes=1000)) as client:
        error = refused(post(client, file_part(b"x" * 200_000)), 413, "too_large")
        assert "1,000 bytes" in error["message"]
        assert error["param"] == "file"


def test_a_file_that_turns_out_too_large_is_refused_and_removed(tmp_path: Any) -> None:
    config = Config(data=tmp_path, max_bytes=3 * streams.PIECE_BYTES)

    def body() -> Iterator[bytes]:
        yield file_part(b"")[:-2]
        for _ in range(6):
            yield b"x" * streams.PIECE_BYTES
        yield b"\r\n" + END

    with client_of(config) as client:
        refused(client.post(SUBMIT, content=body(), headers=FORM), 413, "too_large")
        assert list(config.media.iterdir()) == []
        assert client.get("/api/v1/jobs").json()["jobs"] == []


def test_a_file_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(tmp_path: Any) -> None:
    with client_of(Config(data=tmp_path, max_bytes=1000)) as client:
        assert post(client, file_part(b"x" * 1000)).status_code == 202
        refused(post(client, file_part(b"x" * 1001)), 413, "too_large")


def test_a_full_box_says_when_to_come_back(client: TestClient) -> None:
    for _ in range(3):
        assert post(client, file_part()).status_code == 202
    answer = post(client, file_part())
    error = refused(answer, 429, "queue_full")
    assert answer.headers["retry-after"] == "30"
    assert "30 s" in error["message"]


def test_a_job_deleted_while_its_bytes_arrive_is_not_found_at_the_end(client: TestClient, behind: Box) -> None:
    def body() -> Iterator[bytes]:
        yield file_part(b"")[:-2]
        [job_id] = store.ids(behind.database)
        behind.delete(job_id)
        yield b"sound\r\n" + END

    # The test client gathers a body before it sends it, so this one is fed to the application piece by piece.
    with feeding(body()) as headers:
        refused(client.post(SUBMIT, content=b"", headers=headers), 404, "not_found")
    assert list(behind.config.media.iterdir()) == []


def feeding(pieces: Iterator[bytes]) -> Any:
    """Have the application's next request read its body from pieces."""
    import contextlib
    from unittest import mock

    from starlette.requests import Request

    @contextlib.contextmanager
    def patched() -> Iterator[dict[str, str]]:
        async def stream(_: Request) -> Any:
            for piece in pieces:
                yield piece

        with mock.patch.object(Request, "stream", stream):
            yield FORM

    return patched()


# Listing and showing


def test_jobs_are_listed_newest_first(client: TestClient, behind: Box) -> None:
    assert client.get("/api/v1/jobs").json() == {"jobs": [], "next": None}
    jobs = put_every_state(behind)
    listed = client.get("/api/v1/jobs").json()
    assert [job["state"] for job in listed["jobs"]] == [state.value for state in reversed(jobs)]
    assert listed["next"] is None
    assert listed["jobs"] == [client.get(job["links"]["self"]).json() for job in listed["jobs"]]


@pytest.mark.parametrize("state", State)
def test_jobs_of_one_state_are_listed_alone(client: TestClient, behind: Box, state: State) -> None:
    jobs = put_every_state(behind)
    listed = client.get("/api/v1/jobs", params={"state": state.value}).json()["jobs"]
    assert [job["id"] for job in listed] == [jobs[state].id]


def test_pages_of_a_list_follow_each_other_without_gap_or_overlap(client: TestClient, behind: Box) -> None:
    ids = [put_job(behind, State.CANCELED, f"{number}.mp3").id for number in range(7)]
    put_job(behind, State.QUEUED)
    path, seen = "/api/v1/jobs?limit=3&state=canceled", []
    while path:
        page = client.get(path).json()
        assert len(page["jobs"]) <= 3
        seen += [job["id"] for job in page["jobs"]]
        path = page["next"]
    assert seen == ids[::-1]


def test_a_page_that_is_exactly_full_has_no_next(client: TestClient, behind: Box) -> None:
    put_job(behind, State.CANCELED)
    put_job(behind, State.CANCELED)
    assert client.get("/api/v1/jobs?limit=2").json()["next"] is None
    assert client.get("/api/v1/jobs?limit=1").json()["next"] is not None


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "", "1.5", "1e3", "²", "000001" + "9" * 5000])
def test_a_bad_limit_is_refused(client: TestClient, limit: str) -> None:
    answer = client.get("/api/v1/jobs", params={"limit": limit})
    assert refused(answer, 422, "invalid_value")["param"] == "limit"


@pytest.mark.parametrize(
    "query", ["state=done", "state=", "state=QUEUED", "after=1", "after=", f"after={LOST.upper()}"]
)
def test_a_bad_filter_is_refused(client: TestClient, query: str) -> None:
    assert refused(client.get(f"/api/v1/jobs?{query}"), 422, "invalid_value")["param"] == query.partition("=")[0]


def test_a_list_can_not_go_on_after_a_job_that_is_gone(client: TestClient, behind: Box) -> None:
    put_job(behind, State.CANCELED)
    error = refused(client.get(f"/api/v1/jobs?after={LOST}"), 422, "invalid_value")
    assert error["param"] == "after"


def test_a_running_job_is_shown_with_its_stage(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.RUNNING)
    shown = client.get(f"/api/v1/jobs/{job.id}").json()
    assert (shown["state"], shown["stage"], shown["attempts"]) == ("running", "decode", 1)
    assert TIME.fullmatch(shown["started_at"])
    assert shown["queue_position"] is None


def test_a_completed_job_is_shown_with_its_transcript_and_speed(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED, note="A note.")
    shown = client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["state"] == "completed"
    assert shown["progress"] == 1.0
    assert shown["links"]["transcript"] == f"/api/v1/jobs/{job.id}/transcript"
    assert shown["source"]["seconds"] == 2.5
    assert shown["note"] == f"A note. {DEMO_NOTE}"
    assert shown["realtime_factor"] == round(job.realtime_factor or 0, 3)
    assert TIME.fullmatch(shown["finished_at"])


def test_a_failed_job_is_shown_with_its_error(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.FAILED, code="engine_crashed", message="It died.")
    shown = client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["error"] == {"code": "engine_crashed", "message": "It died.", "retryable": True}
    assert shown["links"] == {"self": f"/api/v1/jobs/{job.id}", "media": f"/api/v1/jobs/{job.id}/media"}


def test_a_queued_job_tells_its_place_and_when_it_should_be_done(client: TestClient, behind: Box) -> None:
    put_job(behind, State.COMPLETED)
    first, second = put_job(behind, State.QUEUED), put_job(behind, State.QUEUED)
    shown = [client.get(f"/api/v1/jobs/{job.id}").json() for job in (first, second)]
    assert [job["queue_position"] for job in shown] == [1, 2]
    assert all(isinstance(job["eta_seconds"], float) for job in shown)
    assert shown[0]["eta_seconds"] <= shown[1]["eta_seconds"]


# Deleting, canceling, trying again


@pytest.mark.parametrize("state", State)
def test_a_job_is_deleted_in_every_state(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    answer = client.delete(f"/api/v1/jobs/{job.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    refused(client.get(f"/api/v1/jobs/{job.id}"), 404, "not_found")
    refused(client.delete(f"/api/v1/jobs/{job.id}"), 404, "not_found")
    assert not media.folder(behind.config, job.id).exists()


def test_a_job_deleted_by_somebody_else_meanwhile_is_not_found(
    client: TestClient, behind: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put_job(behind, State.QUEUED)
    monkeypatch.setattr(store, "delete", lambda database, job_id, **_: False)
    refused(client.delete(f"/api/v1/jobs/{job.id}"), 404, "not_found")


def test_a_waiting_job_is_canceled_at_once(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.QUEUED)
    answer = client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    assert client.get(f"/api/v1/jobs/{job.id}").json() == answer.json()


def test_a_running_job_is_asked_to_stop(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.RUNNING)
    for _ in range(2):  # asking twice is the same
        answer = client.post(f"/api/v1/jobs/{job.id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert behind.get(job.id).cancel_requested


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELED, State.RECEIVING])
def test_a_job_that_neither_waits_nor_runs_can_not_be_canceled(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    assert state in refused(client.post(f"/api/v1/jobs/{job.id}/cancel"), 409, "wrong_state")["message"]
    assert behind.get(job.id).state == state


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_a_failed_or_canceled_job_is_tried_again(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state, language="de")
    answer = client.post(f"/api/v1/jobs/{job.id}/retry")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["state"], again["error"], again["queue_position"]) == ("queued", None, 1)
    assert again["params"] == {"model": "demo", "language": "de", "track": None}


@pytest.mark.parametrize("state", [State.RECEIVING, State.QUEUED, State.RUNNING, State.COMPLETED])
def test_other_jobs_can_not_be_tried_again(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    refused(client.post(f"/api/v1/jobs/{job.id}/retry"), 409, "wrong_state")
    assert behind.get(job.id).state == state


def test_a_full_box_refuses_another_try(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.FAILED)
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = client.post(f"/api/v1/jobs/{job.id}/retry")
    refused(answer, 429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    assert behind.get(job.id).state == State.FAILED


# Transcripts


@pytest.mark.parametrize(
    ("form", "media_type", "body"),
    [
        ("json", "application/json", json.dumps(TRANSCRIPT, indent=1)),
        ("txt", "text/plain; charset=utf-8", "yes no\n"),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:00,500 --> 00:00:02,000\nyes no\n\n"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nyes no\n\n"),
        ("csv", "text/csv; charset=utf-8", "\ufeffstart,end,speaker,text\r\n0.500,2.000,,yes no\r\n"),
    ],
)
def test_a_transcript_comes_in_five_formats(
    client: TestClient, behind: Box, form: str, media_type: str, body: str
) -> None:
    job = put_job(behind, State.COMPLETED)
    answer = client.get(f"/api/v1/jobs/{job.id}/transcript?format={form}")
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, media_type, body)
    assert "content-disposition" not in answer.headers
    assert answer.headers["cache-control"] == "private, no-cache"


def test_a_transcript_is_json_unless_asked_otherwise(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    assert client.get(f"/api/v1/jobs/{job.id}/transcript").json() == TRANSCRIPT


@pytest.mark.parametrize("form", ["docx", "", "JSON", "../../etc/passwd", "x" * 1000])
def test_an_unknown_format_is_refused_with_the_known_ones(client: TestClient, behind: Box, form: str) -> None:
    job = put_job(behind, State.COMPLETED)
    error = refused(client.get(f"/api/v1/jobs/{job.id}/transcript", params={"format": form}), 422, "unknown_format")
    assert error["param"] == "format"
    assert "txt, srt, vtt, csv, json" in error["message"]
    assert len(error["message"]) < 200


@pytest.mark.parametrize("state", [state for state in State if state != State.COMPLETED])
def test_there_is_no_transcript_before_the_end(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    message = refused(client.get(f"/api/v1/jobs/{job.id}/transcript"), 409, "not_finished")["message"]
    assert (state in message) is (state in (State.FAILED, State.CANCELED))


def test_a_transcript_whose_file_is_gone_is_not_found(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    media.remove(behind.config, job.id)
    refused(client.get(f"/api/v1/jobs/{job.id}/transcript"), 404, "not_found")


# Every other way of being wrong

JOB_ADDRESSES = [
    ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/transcript"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "rest"), JOB_ADDRESSES)
@pytest.mark.parametrize("job_id", [LOST, "1", LOST.upper(), LOST + "0", "..", "%2e%2e%2fx.db", "%00", "é", "' OR 1"])
def test_an_unknown_or_malformed_id_is_not_found(client: TestClient, method: str, rest: str, job_id: str) -> None:
    answer = client.request(method, f"http://localhost/api/v1/jobs/{job_id}{rest}")
    refused(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SUBMIT, "POST, PUT"),
        ("PATCH", SUBMIT, "POST, PUT"),
        ("POST", "/api/v1/jobs", "GET, HEAD"),
        ("BREW", "/api/v1/jobs", "GET, HEAD"),
        ("PUT", f"/api/v1/jobs/{LOST}", "DELETE, GET, HEAD"),
        ("PATCH", f"/api/v1/jobs/{LOST}", "DELETE, GET, HEAD"),
        ("GET", f"/api/v1/jobs/{LOST}/cancel", "POST"),
        ("DELETE", f"/api/v1/jobs/{LOST}/retry", "POST"),
        ("POST", f"/api/v1/jobs/{LOST}/transcript", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    error = refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
    assert method in error["message"]
    assert allowed.replace(", ", " or ") in error["message"]


@pytest.mark.parametrize("path", ["/api/v1", "/api/", "/api/v2/jobs", f"/api/v1/jobs/{LOST}/x", "/api/v1/jobs/a/b/c"])
def test_an_unknown_address_is_not_found(client: TestClient, path: str) -> None:
    refused(client.get(path), 404, "not_found")


def test_a_slash_at_the_end_leads_to_the_right_address(client: TestClient) -> None:
    answer = client.get("/api/v1/jobs/?limit=3")
    # Relative: behind a proxy that isn't named we would say http, and the key would go in clear.
    assert (answer.status_code, answer.headers["location"]) == (307, "/api/v1/jobs?limit=3")
    assert client.get("/limits/").headers["location"] == "/limits"
    refused(client.post("/api/v1/audio-extractions/", headers={"X-API-Key": "a"}), 404, "not_found")
    refused(client.get("/api/v1/nothing/"), 404, "not_found")


def test_head_is_get_without_a_body(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    for path in ("/healthz", "/api/v1/jobs", f"/api/v1/jobs/{job.id}", f"/api/v1/jobs/{job.id}/transcript"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_an_internal_error_is_a_sentence_for_the_client_and_a_traceback_in_the_log(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret /data/path")

    monkeypatch.setattr(store, "list_jobs", broken)
    answer = client.get("/api/v1/jobs")
    refused(answer, 500, "internal")
    assert "secret" not in answer.text


def test_a_busy_database_says_when_to_come_back(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import db

    def busy(*_: object) -> None:
        raise db._busy()

    monkeypatch.setattr(store, "admit", busy)
    answer = post(client, file_part())
    refused(answer, 503, "database_busy")
    assert answer.headers["retry-after"] == "5"


def test_healthz_answers_also_when_the_box_is_full(client: TestClient, behind: Box) -> None:
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})


def test_a_start_removes_what_an_earlier_web_process_was_receiving(config: Config, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    with client_of(config) as client:
        job = put_job(client.app.state.box, State.RECEIVING)  # type: ignore[attr-defined]
        media.folder(config, job.id).mkdir()
    with client_of(config) as client:
        assert client.get("/api/v1/jobs").json()["jobs"] == []
        assert list(config.media.iterdir()) == []
