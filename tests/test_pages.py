"""The pages: what they show in every state, what a form does without JavaScript, and strangers' words as mere text."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient
from support import change_limit
from test_templating import Markup
from web_support import (
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

from tasks import machine, media, models, store
from tasks.actions import Box
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import Job, Stage, State
from tasks.machine import Bound

HOSTILE = "\"><script>alert(1)<!--' onerror=alert(1) {{7*7}} %s.mp3"
HTMX = {"HX-Request": "true"}


def text(answer: Any) -> str:
    """What a reader sees."""
    return Markup(answer.text).text


def post(client: TestClient, *parts: bytes) -> Any:
    return client.post("/jobs", content=b"".join(parts) + END, headers=FORM)


def states(box: Box) -> list[str]:
    return sorted(job.state for job in store.list_jobs(box.database, None, 100))


# The front page


def test_the_front_page_of_an_empty_box_has_the_form_and_the_sample(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    seen = Markup(page.text)
    assert "Try the sample recording" in seen.text
    forms = [(attrs.get("method"), attrs["action"]) for tag, attrs in seen.tags if tag == "form" and "action" in attrs]
    assert forms == [("post", "/jobs"), ("post", "/jobs/sample")]
    assert ("enctype", "multipart/form-data") in next(attrs for tag, attrs in seen.tags if tag == "form").items()
    choices = seen.values("option", "value")
    assert {"demo", "small", "large-v3", "de", "en", ""} <= set(choices)


def test_the_front_page_shows_a_job_of_every_state_in_its_group(client: TestClient, behind: Box) -> None:
    jobs = put_every_state(behind)
    page = client.get("/")
    seen = text(page)
    running, queued, finished = (seen.index(f"{group} ") for group in ("Running 1", "Queued 2", "Finished 3"))
    places = {state: seen.index(f"{state}.mp3") for state in jobs}
    assert running < places[State.RUNNING] < queued
    assert queued < places[State.QUEUED] < places[State.RECEIVING] < finished
    assert all(finished < places[state] for state in (State.COMPLETED, State.FAILED, State.CANCELED))
    for words in ("There is no sound in it.", "Next to start", "Receiving", "Canceled", "Completed"):
        assert words in seen
    assert set(Markup(page.text).values("a", "href")) >= {f"/jobs/{job.id}" for job in jobs.values()}


def test_a_poll_sends_what_moves_and_the_finished_only_when_one_more_is_there(client: TestClient, behind: Box) -> None:
    for number in range(50):
        put_job(behind, State.CANCELED, f"a recording with a name of the usual length {number}.mp3")
    put_job(behind, State.QUEUED, "moving.mp3")
    attempt = store.claim_next(behind.database, behind.planner.first(), "a worker", 3600)
    assert attempt is not None
    seen = re.search('id="jobs"[^>]*hx-ptag="([^"]*)"', client.get("/").text)
    assert seen is not None
    tag = seen[1]
    for step in range(3):
        store.renew_if_owned(behind.database, [(attempt.token, Stage.TRANSCRIBE, step / 10 + 0.1, 1.0)], 3600)
        answer = client.get("/", headers=HTMX | {"HX-PTag": tag, "Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        heads = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
        sent = heads + len(gzip.compress(answer.content, 5))
        assert answer.status_code == 200
        assert sent <= 5000
        tag = answer.headers["HX-PTag"]
    assert client.get("/", headers=HTMX | {"HX-PTag": tag}).status_code == 304
    put_job(behind, State.CANCELED, "one more.mp3")
    assert "one more.mp3" in client.get("/", headers=HTMX | {"HX-PTag": tag}).text


def test_the_front_page_lists_the_newest_fifty_and_counts_the_rest(client: TestClient, behind: Box) -> None:
    jobs = [put_job(behind, State.CANCELED, f"number {number}.mp3") for number in range(52)]
    page = client.get("/")
    assert "The newest 50 of 52." in text(page)
    assert f"/jobs/{jobs[-1].id}" in page.text
    assert f"/jobs/{jobs[1].id}" not in page.text


def test_a_full_box_says_so_on_the_front_page(client: TestClient, behind: Box) -> None:
    assert "The box is full." not in text(client.get("/"))
    for _ in range(3):
        put_job(behind, State.QUEUED)
    assert "The box is full." in text(client.get("/"))


def test_the_front_page_counts_what_a_person_changed_the_limits_to(client: TestClient, behind: Box) -> None:
    change_limit(behind.database, "slots", 4)
    assert "0 of 4 slots busy" in text(client.get("/"))


# The live regions


@pytest.mark.parametrize("place", ["index", "job"])
def test_htmx_gets_just_the_region_that_a_person_gets_within_the_page(
    client: TestClient, behind: Box, place: str
) -> None:
    job = put_job(behind, State.RUNNING)
    path = "/" if place == "index" else f"/jobs/{job.id}"
    page, region = client.get(path), client.get(path, headers=HTMX)
    assert page.text.startswith("<!doctype html>")
    assert region.text.strip().startswith("<div id=")
    assert "<html" not in region.text
    assert "".join(region.text.split()) in "".join(page.text.split())
    assert region.headers["cache-control"] == "no-store"
    assert f'hx-ptag="{region.headers["hx-ptag"]}"' in page.text


@pytest.mark.parametrize("place", ["index", "job"])
def test_a_region_is_sent_again_only_when_it_has_changed(client: TestClient, behind: Box, place: str) -> None:
    job = put_job(behind, State.QUEUED)
    path = "/" if place == "index" else f"/jobs/{job.id}"
    first = client.get(path, headers=HTMX)
    tag = first.headers["hx-ptag"]
    for _ in range(2):
        same = client.get(path, headers=HTMX | {"HX-PTag": tag})
        assert (same.status_code, same.content, same.headers["hx-ptag"]) == (304, b"", tag)
    behind.cancel(job.id)
    changed = client.get(path, headers=HTMX | {"HX-PTag": tag})
    assert changed.status_code == 200
    assert changed.headers["hx-ptag"] != tag
    assert "Canceled" in changed.text


def test_a_whole_page_is_never_304(client: TestClient) -> None:
    tag = client.get("/", headers=HTMX).headers["hx-ptag"]
    assert client.get("/", headers={"HX-PTag": tag}).status_code == 200


def test_progress_changes_the_region(client: TestClient, behind: Box) -> None:
    attempt_of = put_job(behind, State.RUNNING)
    tag = client.get("/", headers=HTMX).headers["hx-ptag"]
    with behind.database.read() as connection:
        token = connection.exec_driver_sql("SELECT token FROM jobs WHERE id = ?", (attempt_of.id,)).scalar_one()
    from tasks.jobs import Stage

    store.renew_if_owned(behind.database, [(token, Stage.TRANSCRIBE, 0.42, 1.0)], 3600)
    changed = client.get("/", headers=HTMX | {"HX-PTag": tag})
    assert changed.status_code == 200
    assert "42%" in changed.text


# A job's page


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.RECEIVING, ["Receiving"]),
        (State.QUEUED, ["Next to start", "Cancel"]),
        (State.RUNNING, ["Reading the audio", "0%", "Cancel"]),
        (State.COMPLETED, ["Completed", "yes no", "0:00", "Really delete"]),
        (State.FAILED, ["Failed", "There is no sound in it.", "Try again"]),
        (State.CANCELED, ["Canceled", "Try again"]),
    ],
)
def test_a_job_page_tells_its_state(client: TestClient, behind: Box, state: State, words: list[str]) -> None:
    job = put_job(behind, state)
    page = client.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert [word for word in ["talk.mp3", *words] if word not in text(page)] == []
    assert ("hx-get" in page.text) is (not job.finished)


def test_a_page_of_a_job_whose_transcript_is_gone_says_so(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    media.remove(behind.config, job.id)
    page = client.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert "missing" in text(page)


def test_a_job_without_speech_says_so(client: TestClient, behind: Box) -> None:
    silent = TRANSCRIPT | {"language": None, "text": "", "segments": []}
    job = put_job(behind, State.COMPLETED, transcript=silent, note="No speech found.")
    assert "No speech found." in text(client.get(f"/jobs/{job.id}"))
    assert client.get(f"/jobs/{job.id}/transcript.txt").text == ""


# Downloads


@pytest.mark.parametrize(
    ("form", "media_type", "start"),
    [
        ("txt", "text/plain; charset=utf-8", "yes no\n"),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:00,500 -->"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.500 -->"),
        ("csv", "text/csv; charset=utf-8", "\ufeffstart,end,speaker,text\r\n0.500,"),
        ("json", "application/json", "{"),
    ],
)
def test_a_transcript_is_downloaded_under_the_name_of_its_recording(
    client: TestClient, behind: Box, form: str, media_type: str, start: str
) -> None:
    job = put_job(behind, State.COMPLETED, "Grüße, Teil 1.tar.mp3")
    answer = client.get(f"/jobs/{job.id}/transcript.{form}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.text.startswith(start)
    disposition = answer.headers["content-disposition"]
    assert disposition == f"attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%2C%20Teil%201.tar.{form}"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("no ending", "no ending"),
        (".hidden", ".hidden"),
        ('a"b; filename=evil.exe', 'a"b; filename=evil'),
        ("a\r\nSet-Cookie: x=1.mp3", "aSet-Cookie: x=1"),
        ("\u202egpj.exe\u05d0.mp3", "gpj.exe\u05d0"),
        ("👩\u200d👧.mp3", "👩\u200d👧"),
        ("../../etc/passwd.mp3", "passwd"),
        ("x" * 300, "x" * 254 + "…"),
        ("%0d%0aX: y.mp3", "%0d%0aX: y"),
    ],
)
def test_no_name_can_break_out_of_the_download_header(client: TestClient, behind: Box, name: str, stem: str) -> None:
    job = put_job(behind, State.COMPLETED, name)
    answer = client.get(f"/jobs/{job.id}/transcript.txt")
    disposition = answer.headers["content-disposition"]
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9._~%-]+", disposition)
    assert unquote(disposition.partition("''")[2]) == f"{stem}.txt"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("form", ["docx", "TXT", "txt.exe", "json%00"])
def test_an_unknown_download_is_a_page_that_names_the_known_ones(client: TestClient, behind: Box, form: str) -> None:
    job = put_job(behind, State.COMPLETED)
    answer = client.get(f"/jobs/{job.id}/transcript.{form}")
    assert answer.status_code == 422
    assert "txt, srt, vtt, csv, json" in text(answer)


@pytest.mark.parametrize("state", [state for state in State if state != State.COMPLETED])
def test_there_is_no_download_before_the_end(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    answer = client.get(f"/jobs/{job.id}/transcript.txt")
    assert answer.status_code == 409
    assert "transcript" in text(answer) or "finished" in text(answer)


# Forms without JavaScript


def test_one_file_leads_to_its_job(client: TestClient, behind: Box) -> None:
    answer = post(client, field_part("model", "demo"), field_part("language", "de"), file_part(b"one"))
    [job] = store.list_jobs(behind.database, None, 10)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert (job.params.language, job.source.name, job.source.bytes) == ("de", "talk.mp3", 3)


def test_several_files_are_a_batch_and_lead_to_its_page(client: TestClient, behind: Box) -> None:
    answer = post(client, field_part("language", "en"), *(file_part(b"x", f"{n}.mp3") for n in range(3)))
    [batch] = store.list_batches(behind.database, 10)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{batch.id}")
    jobs = store.list_jobs(behind.database, State.QUEUED, 10)
    assert {job.batch for job in jobs} == {batch.id}
    assert sorted(job.source.name for job in jobs) == ["0.mp3", "1.mp3", "2.mp3"]
    assert {job.params.language for job in jobs} == {"en"}
    page = text(client.get(f"/batches/{batch.id}"))
    assert page.index("0.mp3") < page.index("1.mp3") < page.index("2.mp3")
    assert "3 are in a batch, above." in text(client.get("/"))


def test_a_refused_form_is_answered_with_the_page_the_sentence_and_the_time(client: TestClient, behind: Box) -> None:
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = post(client, file_part())
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"
    assert "Try again in about 30 s." in text(answer)
    assert "The box is full: 0 running, 3 waiting" in text(answer)
    assert Markup(answer.text).values("input", "name")[:3] == ["url", "batch", "file"]
    assert states(behind) == ["queued"] * 3


@pytest.mark.parametrize(
    ("parts", "status", "words"),
    [
        ([file_part(b"")], 422, "The file is empty."),
        ([file_part(b"one"), file_part(b"two"), file_part(b"")], 422, "The file is empty."),
        ([file_part(b"one"), field_part("language", "tlh")], 422, "There is no language"),
        ([field_part("model", "gpt"), file_part(b"one")], 422, "There is no such model."),
        ([file_part(b"1"), file_part(b"2"), file_part(b"3"), file_part(b"4")], 429, "The box is full"),
        ([file_part(b"one"), part('name="nonsense"')], 422, "There is no field"),
        ([field_part("model", "demo")], 422, "There is no file"),
    ],
)  # fmt: skip
def test_of_several_files_all_are_taken_or_none(
    client: TestClient, behind: Box, parts: list[bytes], status: int, words: str
) -> None:
    answer = post(client, *parts)
    assert answer.status_code == status
    assert words in text(answer)
    assert Markup(answer.text).values("form", "action")[0] == "/jobs"
    assert states(behind) == []
    assert list(behind.config.media.iterdir()) == []


def test_a_form_of_the_wrong_kind_is_answered_with_the_page(client: TestClient) -> None:
    answer = client.post("/jobs", data={"model": "demo"})
    assert answer.status_code == 415
    assert "multipart/form-data" in text(answer)


def test_the_sample_is_submitted_with_one_click(client: TestClient, behind: Box) -> None:
    answer = client.post("/jobs/sample")
    [job] = store.list_jobs(behind.database, State.QUEUED, 10)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert job.source.type == "sample"
    assert media.source(behind.config, job.id).read_bytes() == models.SAMPLE.read_bytes()


def test_a_full_box_refuses_the_sample_with_the_page(client: TestClient, behind: Box) -> None:
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = client.post("/jobs/sample")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert "The box is full" in text(answer)


# Run again with another model


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELED])
def test_what_has_finished_can_be_run_again_with_another_model(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state, language="de")
    page = client.get(f"/jobs/{job.id}").text
    form = page[page.index('id="again"') :]
    assert '<option value="de" selected>' in form
    answer = client.post(f"/jobs/{job.id}/next", data={"kind": "transcription", "model": "tiny", "language": "fr"})
    new = behind.get(answer.headers["location"].rpartition("/")[2])
    assert (new.params.model, new.params.language, new.source.name) == ("tiny", "fr", job.source.name)
    assert media.source(behind.config, new.id).read_bytes() == media.source(behind.config, job.id).read_bytes()


def test_a_refused_run_again_keeps_what_was_chosen(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = client.post(f"/jobs/{job.id}/next", data={"kind": "transcription", "model": "tiny", "language": "fr"})
    assert answer.status_code == 429
    assert "The box is full" in text(answer)
    form = answer.text[answer.text.index('<details class="again" id="again" open>') :]
    assert '<option value="tiny" selected>' in form
    assert '<option value="fr" selected>' in form


def test_a_job_whose_recording_is_gone_says_that_it_cannot_be_run_again(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    media.source(behind.config, job.id).unlink()
    page = client.get(f"/jobs/{job.id}")
    assert "The recording is no longer on this box" in text(page)
    assert 'id="again"' not in page.text


# What a person does to a job


def test_canceling_leads_back_to_the_job(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.QUEUED)
    answer = client.post(f"/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert behind.get(job.id).state == State.CANCELED


def test_canceling_a_running_job_shows_that_it_is_stopping(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.RUNNING)
    answer = client.post(f"/jobs/{job.id}/cancel", follow_redirects=True)
    assert "Stopping" in text(answer)
    assert f"/jobs/{job.id}/cancel" not in answer.text


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_trying_again_leads_back_to_the_job(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    answer = client.post(f"/jobs/{job.id}/retry")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert behind.get(job.id).state == State.QUEUED


@pytest.mark.parametrize(("verb", "state"), [("cancel", State.COMPLETED), ("retry", State.QUEUED)])
def test_a_click_that_comes_too_late_changes_nothing(client: TestClient, behind: Box, verb: str, state: State) -> None:
    job = put_job(behind, state)
    answer = client.post(f"/jobs/{job.id}/{verb}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
    assert behind.get(job.id).state == state


def test_a_full_box_refuses_another_try_with_a_page(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.FAILED)
    for _ in range(3):
        put_job(behind, State.QUEUED)
    answer = client.post(f"/jobs/{job.id}/retry")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert "The box is full" in text(answer)
    assert behind.get(job.id).state == State.FAILED


@pytest.mark.parametrize("state", State)
def test_deleting_leads_to_the_list_without_the_job(client: TestClient, behind: Box, state: State) -> None:
    job = put_job(behind, state)
    answer = client.post(f"/jobs/{job.id}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert f'href="/jobs/{job.id}"' not in client.get("/").text
    assert client.get(f"/jobs/{job.id}").status_code == 404
    assert client.post(f"/jobs/{job.id}/delete").status_code == 404


def test_what_htmx_gets_after_a_click_is_the_region_of_the_job(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.QUEUED)
    answer = client.post(f"/jobs/{job.id}/cancel", headers=HTMX, follow_redirects=True)
    assert answer.text.strip().startswith('<div id="job"')
    assert "Canceled" in answer.text


# Strangers' words


def hostile_transcript() -> dict[str, Any]:
    evil = "<script>alert(1)</script> --> \n\n2\n00:00:00,000 --> 00:00:01,000\nNOTE & <b>x</b>"
    words = [
        {"word": word, "start": 0.1 * n, "end": 0.1 * n + 0.1, "confidence": 0.5}
        for n, word in enumerate(evil.split(" "))
    ]
    segment = {"id": 0, "start": 0.0, "end": 3.0, "text": evil, "speaker": "<i>A", "confidence": 0.5, "words": words}
    plain = segment | {"id": 1, "start": 4.0, "end": 5.0, "words": []}
    return {"language": "en", "seconds": 6.0, "text": evil, "segments": [segment, plain]}


def harmless(page: Any) -> Markup:
    """Check that nothing on the page can run; the page."""
    seen = Markup(page.text)
    scripts = [attrs.get("src") or "" for tag, attrs in seen.tags if tag == "script"]
    assert all(source.startswith("/static/") for source in scripts)
    assert not any(name.startswith("on") or name == "style" for _, attrs in seen.tags for name in attrs)
    targets = [*seen.values("a", "href"), *seen.values("form", "action")]
    assert all((target or "").startswith(("/", "#")) for target in targets)
    return seen


def test_hostile_names_and_transcripts_are_only_text_on_pages(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED, HOSTILE, hostile_transcript())
    failed = put_job(behind, State.FAILED, HOSTILE, message="<img src=x onerror=alert(1)>.")
    shown = harmless(client.get(f"/jobs/{job.id}"))
    assert HOSTILE in "".join(shown.words)
    assert "<script>alert(1)</script>" in shown.text
    assert "<b>x</b>" in shown.text
    assert HOSTILE in "".join(harmless(client.get("/")).words)
    assert "<img src=x onerror=alert(1)>." in harmless(client.get(f"/jobs/{failed.id}")).text


def test_a_hostile_field_is_only_text_on_the_page_that_refuses_it(client: TestClient) -> None:
    for sent in (field_part("language", HOSTILE), part('name="<script>alert(1)</script>"')):
        answer = post(client, sent, file_part())
        assert answer.status_code == 422
        harmless(answer)


def test_a_hostile_transcript_makes_no_cues_of_its_own(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED, transcript=hostile_transcript())
    timing = re.compile(r"^\d\d:\d\d:\d\d[,.]\d{3} --> \d\d:\d\d:\d\d[,.]\d{3}$")
    for form, first in (("srt", 0), ("vtt", 1)):
        blocks = client.get(f"/jobs/{job.id}/transcript.{form}").text.strip().split("\n\n")[first:]
        for number, block in enumerate(blocks, 1):
            lines = block.split("\n")
            if form == "srt":
                assert lines.pop(0) == str(number)
            assert timing.fullmatch(lines[0])
            assert lines[1:]
            assert not any("-->" in line for line in lines[1:])
            if form == "vtt":
                assert not any("<" in line or ">" in line for line in lines[1:])
    assert client.get(f"/jobs/{job.id}/transcript.txt").text.count("\n") == 2


# What is not there


def test_the_address_a_refused_form_leaves_leads_back_to_the_page(config: Config) -> None:
    with client_of(config) as client:
        assert client.get("/jobs", follow_redirects=False).headers["location"] == "/"


@pytest.mark.parametrize("path", ["/nothing", "/jobs/x/y", f"/jobs/{LOST}", "/jobs/sample", "/jobs/%00"])
def test_an_unknown_page_is_a_page(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=True)
    assert answer.status_code in (404, 405)
    seen = harmless(answer)
    assert f"{answer.status_code} " in seen.text
    assert "All recordings" in seen.text


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
def test_acting_on_an_unknown_job_is_a_page(client: TestClient, verb: str) -> None:
    answer = client.post(f"/jobs/{LOST}/{verb}")
    assert answer.status_code == 404
    assert "There is no such job." in harmless(answer).text


def test_a_wrong_method_is_a_page_with_the_right_ones(client: TestClient) -> None:
    answer = client.delete("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "DELETE is not possible here. Use GET or HEAD." in harmless(answer).text


def test_a_busy_database_is_a_page_with_the_time_to_come_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise StenoboxError("database_busy", "The database is busy.", retry_after=5)

    monkeypatch.setattr(store, "list_active", busy)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Try again in about 5 s." in harmless(answer).text


def test_models_are_grouped_by_what_is_here_and_what_fits(
    client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = machine.memory()
    monkeypatch.setattr(machine, "memory", lambda: replace(memory, bounds=(Bound("3 GiB", 3 * 2**30),)))
    page = client.get("/").text
    select = page[page.index('<select id="model"') :].partition("</select>")[0]
    groups = dict(re.findall(r'<optgroup label="([^"]*)">(.*?)</optgroup>', select, re.DOTALL))
    names = {title: re.findall(r'<option value="([^"]+)"', options) for title, options in groups.items()}
    assert names["On this box"] == ["demo"]
    assert "small" in names["Fit this box; fetched once"]
    assert "large-v3" in names["Don’t fit the memory of this box"]
    assert sum(len(found) for found in names.values()) == len(models.available(config))


def test_an_operators_own_model_can_be_chosen(client: TestClient, config: Config) -> None:
    own: Path = config.models / "our-words"
    own.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
        (own / name).write_text("{}")
    assert "our-words" in Markup(client.get("/").text).values("option", "value")


def test_the_job_that_a_person_asks_for_is_the_one_they_get(client: TestClient, behind: Box) -> None:
    jobs: list[Job] = [put_job(behind, State.CANCELED, f"n{number}.mp3") for number in range(3)]
    for number, job in enumerate(jobs):
        seen = text(client.get(f"/jobs/{job.id}"))
        assert f"n{number}.mp3" in seen
        assert sum(f"n{other}.mp3" in seen for other in range(3)) == 1
