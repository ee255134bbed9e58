"""Batches: every way into one, what its jobs add up to, and what is done to all of them."""

from __future__ import annotations

import base64
import io
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from test_templating import Markup
from web_support import END, FORM, LOST, TRANSCRIPT, field_part, file_part, live, put_job

from tasks import batches, ingest, media, store
from tasks.actions import Box
from tasks.batches import Names
from tasks.capacity import Request
from tasks.config import Config
from tasks.db import batches as table
from tasks.db import jobs as jobs_table
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, Source, State
from tasks.retention import DAY, tidy
from webapp.client import Client

SUBMIT = "/api/v1/transcriptions"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", slots=8, queue_limit=20)


def put(box: Box, state: State, name: str = "talk.mp3", batch: str = "Talks", **facts: Any) -> Job:
    """A job of a batch in that state."""
    job = put_job(box, state, name, **facts)
    batch_id, _ = store.begin_batch(box.database, job.submitter, batch)
    with box.database.write() as connection:
        connection.execute(sa.update(jobs_table).where(jobs_table.c.id == job.id).values(batch=batch_id))
    return box.get(job.id)


def one(box: Box) -> store.Batch:
    [found] = batches.listed(box, 10)
    return found


def send(client: TestClient, *fields: bytes, name: str = "talk.mp3", **headers: str) -> Any:
    return client.post(SUBMIT, content=b"".join(fields) + file_part(b"x", name) + END, headers=FORM | headers)


# Run again with another model


def test_a_batch_is_run_again_as_a_batch_of_its_own(client: TestClient, behind: Box) -> None:
    for name in ("a.mp3", "a.mp3", "b.mp3"):
        put(behind, State.COMPLETED, name)
    put(behind, State.FAILED, "c.mp3")
    put(behind, State.QUEUED, "d.mp3")
    old = one(behind)
    page = client.get(f"/batches/{old.id}").text
    assert f'action="/batches/{old.id}/again"' in page
    answer = client.post(f"/batches/{old.id}/again", data={"model": "tiny", "language": "de"})
    assert answer.status_code == 303
    new = batches.get(behind, answer.headers["location"].rpartition("/")[2])
    assert new.name == "Talks – again with tiny, German"
    jobs = batches.jobs_of(behind, new)
    assert [job.source.name for job in jobs] == ["a.mp3", "a.mp3", "b.mp3", "c.mp3"]
    assert {job.params for job in jobs} == {Params("tiny", "de")}
    assert batches.get(behind, old.id).total == 5
    again = client.post(f"/batches/{old.id}/again", data={"model": "tiny", "language": "de"})
    assert again.headers["location"] == f"/batches/{new.id}"
    assert batches.get(behind, new.id).total == 4  # nothing is done twice


def test_a_batch_runs_again_as_far_as_there_is_room_and_goes_on_with_the_rest(client: TestClient, behind: Box) -> None:
    for number in range(3):
        put(behind, State.COMPLETED, f"{number}.mp3")
    old = one(behind)
    behind.change_settings({"slots": 1, "queue_limit": 1}, "a test")
    answer = client.post(f"/batches/{old.id}/again", data={"model": "tiny"})
    assert answer.status_code == 429
    assert "2 of them run again in a batch of their own; for 1 there is no room yet" in answer.text
    behind.change_settings({"queue_limit": 20}, "a test")
    answer = client.post(f"/batches/{old.id}/again", data={"model": "tiny"})
    new = batches.get(behind, answer.headers["location"].rpartition("/")[2])
    assert sorted(job.source.name for job in batches.jobs_of(behind, new)) == ["0.mp3", "1.mp3", "2.mp3"]


def test_a_batch_that_has_no_room_or_no_recordings_leaves_no_empty_batch(client: TestClient, behind: Box) -> None:
    job = put(behind, State.COMPLETED)
    old = one(behind)
    behind.change_settings({"intake": "paused"}, "a test")
    assert client.post(f"/batches/{old.id}/again", data={"model": "tiny"}).status_code == 503
    assert one(behind).id == old.id
    behind.change_settings({"intake": "open"}, "a test")
    assert client.post(f"/batches/{old.id}/again", data={"model": "gpt"}).status_code == 422
    media.source(behind.config, job.id).unlink()
    gone = client.post(f"/batches/{old.id}/again", data={"model": "tiny"})
    assert gone.status_code == 410
    assert "No recording of this batch is on this box any more" in gone.text
    assert one(behind).id == old.id


# Ways in


def test_a_form_names_its_batch_and_the_same_name_is_the_same_batch(client: TestClient, behind: Box) -> None:
    first = send(client, field_part("batch", "  Interviews\u2028 2026 "))
    again = send(client, field_part("batch", "Interviews 2026"))
    by_id = send(client, field_part("batch", first.json()["batch"]))
    alone = send(client)
    assert {answer.json()["batch"] for answer in (first, again, by_id)} == {one(behind).id}
    assert (one(behind).name, one(behind).total) == ("Interviews 2026", 3)
    assert alone.json()["batch"] is None


def test_a_whole_body_names_its_batch_in_the_query(client: TestClient, behind: Box) -> None:
    answer = client.put(f"{SUBMIT}/talk.mp3?batch=Talks", content=b"sound")
    assert answer.json()["batch"] == one(behind).id


def test_json_names_the_batch_of_a_link_a_job_and_an_upload(client: TestClient, behind: Box) -> None:
    done = put_job(behind, State.COMPLETED)
    link = client.post(SUBMIT, json={"url": "https://example.org/a.mp3", "batch": "Talks"})
    job = client.post(SUBMIT, json={"source_job": done.id, "language": "de", "batch": "Talks"})
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
    upload = client.post("/api/v1/uploads", headers=tus, content=b"sound").headers["location"].rpartition("/")[2]
    late = client.post(SUBMIT, json={"upload": upload, "batch": "Talks"})
    assert {answer.json()["batch"] for answer in (link, job, late)} == {one(behind).id}
    assert one(behind).total == 3


def test_a_resumable_upload_is_in_its_batch_from_its_beginning(client: TestClient, behind: Box) -> None:
    said = "batch " + base64.b64encode("Gespräche".encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": said}
    assert client.post("/api/v1/uploads", headers=headers).status_code == 201
    assert (one(behind).name, one(behind).counts) == ("Gespräche", {State.RECEIVING: 1})


def test_a_repeated_submission_stays_in_its_batch(client: TestClient, behind: Box) -> None:
    key = {"Idempotency-Key": "1"}
    first = send(client, field_part("batch", "One"), **key)
    again = send(client, field_part("batch", "Other"), **key)
    assert again.json()["id"] == first.json()["id"]
    assert (one(behind).name, one(behind).total) == ("One", 1)


@pytest.mark.parametrize(
    ("batch", "status", "code"),
    [(LOST, 404, "not_found"), ("x" * 121, 422, "invalid_value"), ("\u200b", 422, "invalid_value")],
)
def test_a_batch_that_is_none_is_refused_and_nothing_is_taken(
    client: TestClient, behind: Box, batch: str, status: int, code: str
) -> None:
    url = {"url": "https://example.org/a.mp3", "batch": batch}
    for answer in (send(client, field_part("batch", batch)), client.post(SUBMIT, json=url)):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, "batch")
    assert store.list_jobs(behind.database, None, 10) == batches.listed(behind, 10) == []
    assert list(behind.config.media.iterdir()) == []


def test_a_refused_link_begins_no_batch(box: Box) -> None:
    box.change_settings({"slots": 1, "queue_limit": 0}, "test")
    ingest.submit(box, "https://example.org/a.mp3", batch="One")
    with pytest.raises(StenoboxError, match="full"):
        ingest.submit(box, "https://example.org/b.mp3", batch="Two")
    assert one(box).name == "One"


def test_of_many_at_once_with_a_new_name_all_are_in_one_batch(box: Box) -> None:
    def submit(number: int) -> None:
        with box.receive(f"{number}.mp3") as receiving:
            receiving.write(b"sound %d" % number)
            batches.enter(box, receiving, "Many")
            receiving.queue(Params("demo"))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(box).counts == {State.QUEUED: 12}


def test_the_client_of_stenobox_submit_names_the_batch(config: Config, tmp_path: Path) -> None:
    sound = tmp_path / "talk.mp3"
    sound.write_bytes(b"sound")
    with live(config) as server, Client(server.url) as client:
        sent = client.submit(sound, batch="Night")
        link = client.submit_link("https://example.org/a.mp3", batch="Night")
        assert sent["batch"] == link["batch"] == one(server.box).id


# What it adds up to


def test_a_batch_is_what_its_jobs_are(client: TestClient, behind: Box) -> None:
    put(behind, State.COMPLETED)
    put(behind, State.FAILED)
    put(behind, State.CANCELED)
    put(behind, State.RUNNING)
    put(behind, State.QUEUED)
    put(behind, State.QUEUED, batch="Another one")
    with behind.database.write() as connection:
        running = sa.update(jobs_table).where(jobs_table.c.state == "running")
        connection.execute(running.values(progress=0.5, source_seconds=60.0))
    answer = client.get(f"/api/v1/batches/{store.begin_batch(behind.database, '', 'Talks')[0]}").json()
    states = {"receiving": 0, "queued": 1, "running": 1, "completed": 1, "failed": 1, "canceled": 1}
    assert (answer["total"], answer["done"], answer["jobs"], answer["progress"]) == (5, 3, states, 0.7)
    assert answer["finished_at"] is None
    assert answer["eta_seconds"] > 0
    listed = client.get(answer["links"]["jobs"]).json()["jobs"]
    assert {job["state"] for job in listed} == {"queued", "running", "completed", "failed", "canceled"}


def test_a_batch_is_finished_when_its_last_job_is(box: Box) -> None:
    put(box, State.COMPLETED)
    last = put(box, State.FAILED)
    found = one(box)
    assert (found.finished_at, found.progress, found.active) == (last.finished_at, 1.0, 0)


def test_a_batch_without_a_job_has_neither_end_nor_progress(client: TestClient) -> None:
    answer = client.post("/api/v1/batches", json={"name": "Later"}).json()
    assert (answer["total"], answer["progress"], answer["finished_at"], answer["eta_seconds"]) == (0, 0.0, None, None)


def test_the_time_left_is_that_of_its_last_job_in_line(box: Box) -> None:
    box.change_settings({"slots": 1}, "test")
    put(box, State.COMPLETED)
    running, *_ = put(box, State.RUNNING), put(box, State.QUEUED), put(box, State.QUEUED, batch="Later")

    def left() -> dict[str, float]:
        found = batches.listed(box, 10)
        told = batches.seconds_left(box, found, box.limits(), box.load())
        return {batch.name: told[batch.id] for batch in found if batch.id in told}

    def know(**values: Any) -> None:
        with box.database.write() as connection:
            connection.execute(sa.update(jobs_table).where(jobs_table.c.finished_at.is_(None)).values(**values))

    know(guessed_seconds=25.0, source_seconds=None)  # ten times as long as what took a second
    assert left() == {"Talks": 20.0, "Later": 30.0}
    with box.database.write() as connection:
        connection.execute(sa.update(jobs_table).where(jobs_table.c.id == running.id).values(left_seconds=4.0))
    assert left() == {"Talks": 14.0, "Later": 24.0}
    box.change_settings({"slots": 3}, "test")  # each may start at once, but no slot makes one job shorter
    assert left()["Talks"] == pytest.approx(14 / 3 + 10 * 2 / 3)


def test_a_batch_whose_files_arrive_waits_for_them_and_for_their_work(box: Box) -> None:
    box.change_settings({"slots": 1}, "test")
    put(box, State.COMPLETED)
    plan = store.Plan(Params("demo"), "", True, time.time() + 60)
    job_id = store.admit(
        box.database, box.planner.first(), Request(), Source("upload", "a.wav", 320_000), None, plan=plan
    )
    batches.enter_job(box, job_id, "Talks")

    def left() -> float | None:
        return batches.seconds_left(box, [one(box)], box.limits(), box.load()).get(one(box).id)

    assert left() is None  # nothing has come yet: who knows how fast it does
    with media.Part(box.config, job_id) as part:
        part.write(bytes(80_000))
        with box.database.write() as connection:
            connection.execute(
                sa.update(jobs_table).where(jobs_table.c.id == job_id).values(created_at=time.time() - 30)
            )
        seconds = left()
    assert seconds is not None
    assert 94 <= seconds < 100  # a quarter came in 30 s; then 10 s of sound are to be worked on


def test_before_anything_was_measured_no_time_is_told(box: Box) -> None:
    put(box, State.QUEUED)
    assert batches.seconds_left(box, [one(box)], box.limits(), box.load()) == {}


# The resource


def test_a_batch_is_begun_by_its_name_once(client: TestClient) -> None:
    first = client.post("/api/v1/batches", json={"name": "Talks"})
    again = client.post("/api/v1/batches", json={"name": " Talks "})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == client.get(first.headers["location"]).json()


@pytest.mark.parametrize(
    "body", [{}, {"name": 7}, {"name": " "}, {"name": LOST}, {"name": "x" * 121}, {"nam": "Talks"}]
)
def test_a_batch_needs_a_name(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/api/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, next(iter(body), "name"))


def test_batches_are_listed_newest_first_in_pages(client: TestClient) -> None:
    ids = [client.post("/api/v1/batches", json={"name": name}).json()["id"] for name in "abcde"]
    found, path = [], "/api/v1/batches?limit=2"
    while path:
        page = client.get(path).json()
        found += [batch["id"] for batch in page["batches"]]
        path = page["next"]
    assert found == ids[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=x", f"after={LOST}"])
def test_a_page_that_can_not_be_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/v1/batches?{query}").status_code == 422


@pytest.mark.parametrize("batch_id", [LOST, "x", "..%2F.."])
def test_what_is_no_batch_is_not_found_anywhere(client: TestClient, batch_id: str) -> None:
    path = f"/api/v1/batches/{batch_id}"
    answers = [client.get(path), client.delete(path), client.get(f"{path}/zip"), client.get(f"/batches/{batch_id}")]
    answers += [client.post(f"{path}/{verb}") for verb in ("cancel", "retry")]
    answers += [client.get("/api/v1/jobs", params={"batch": batch_id})]
    assert {answer.status_code for answer in answers} == {404}


# To all of them


def test_cancel_stops_what_arrives_waits_and_runs_and_leaves_the_rest(client: TestClient, behind: Box) -> None:
    done, running, queued = (put(behind, state) for state in (State.COMPLETED, State.RUNNING, State.QUEUED))
    arriving, other = put(behind, State.RECEIVING), put_job(behind, State.QUEUED)
    path = f"/api/v1/batches/{one(behind).id}/cancel"
    answer = client.post(path)
    assert (answer.status_code, answer.json()["jobs"]["canceled"]) == (202, 1)
    assert behind.get(done.id).state == State.COMPLETED
    assert behind.get(queued.id).state == State.CANCELED
    assert behind.get(running.id).cancel_requested
    assert behind.find(arriving.id) is None
    assert behind.get(other.id).state == State.QUEUED


def test_cancel_of_what_is_over_is_answered_200(client: TestClient, behind: Box) -> None:
    put(behind, State.COMPLETED)
    assert client.post(f"/api/v1/batches/{one(behind).id}/cancel").status_code == 200


def test_retry_tries_what_failed_and_on_demand_what_was_canceled(client: TestClient, behind: Box) -> None:
    failed, canceled = put(behind, State.FAILED), put(behind, State.CANCELED)
    path = f"/api/v1/batches/{one(behind).id}/retry"
    first = client.post(path)
    assert (first.status_code, first.json()["retried"], first.json()["left"]) == (202, 1, 0)
    assert (behind.get(failed.id).state, behind.get(canceled.id).state) == (State.QUEUED, State.CANCELED)
    assert client.post(f"{path}?state=canceled").json()["retried"] == 1
    assert client.post(f"{path}?state=completed").status_code == 422
    assert client.post(path).json()["retried"] == 0


def test_retry_takes_as_many_as_there_is_room_for_and_says_so(client: TestClient, behind: Box) -> None:
    for _ in range(3):
        put(behind, State.FAILED)
    behind.change_settings({"slots": 1, "queue_limit": 1}, "test")
    path = f"/api/v1/batches/{one(behind).id}/retry"
    answer = client.post(path)
    assert (answer.status_code, answer.json()["retried"], answer.json()["left"]) == (202, 2, 1)
    assert int(answer.headers["retry-after"]) > 0
    assert client.post(path).status_code == 429


def test_a_recording_that_is_gone_keeps_no_other_from_being_tried_again(box: Box) -> None:
    gone, there = put(box, State.FAILED), put(box, State.FAILED)
    with box.database.write() as connection:
        connection.execute(sa.update(jobs_table).where(jobs_table.c.id == gone.id).values(media_removed_at=1.0))
    assert batches.retry(box, one(box).id).taken == 1
    assert box.get(there.id).state == State.QUEUED


def test_delete_removes_all_its_jobs_whatever_they_do_and_no_other(client: TestClient, behind: Box) -> None:
    for state in (State.COMPLETED, State.FAILED, State.RUNNING, State.CANCELED, State.QUEUED, State.RECEIVING):
        put(behind, state)
    other = put_job(behind, State.QUEUED)
    assert client.delete(f"/api/v1/batches/{one(behind).id}").status_code == 204
    assert batches.listed(behind, 10) == []
    assert store.ids(behind.database) == media.stray(behind.config) == {other.id}


def test_what_ends_or_goes_meanwhile_disturbs_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(box, State.QUEUED), put(box, State.QUEUED)
    stale = [first, second]
    store.delete(box.database, first.id)
    box.cancel(second.id)
    monkeypatch.setattr(batches, "_jobs", lambda *_: stale)
    assert batches.cancel(box, one(box).id).counts == {State.CANCELED: 1}
    box.retry(second.id)
    assert batches.retry(box, one(box).id).taken == 0
    batches.delete(box, one(box).id)
    assert store.ids(box.database) == set()


def test_a_busy_database_is_told_and_not_passed_over(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, State.QUEUED)

    def busy(*_: object, **__: object) -> None:
        raise StenoboxError("database_busy", "The database is busy.")

    monkeypatch.setattr(Box, "cancel", busy)
    monkeypatch.setattr(Box, "delete", busy)
    for act in (batches.cancel, batches.delete):
        with pytest.raises(StenoboxError, match="busy"):
            act(box, one(box).id)


def test_a_batch_without_a_job_goes_after_a_day(box: Box) -> None:
    store.begin_batch(box.database, "", "New")
    store.begin_batch(box.database, "", "Old")
    put(box, State.QUEUED, batch="Old, with a job")
    with box.database.write() as connection:
        connection.execute(sa.update(table).where(table.c.name != "New").values(created_at=time.time() - 2 * DAY))
    tidy(box.config, box.database, box.limits())
    assert {batch.name for batch in batches.listed(box, 10)} == {"New", "Old, with a job"}


# Zip


def unzip(answer: Any) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.testzip() is None
        return {name: file.read(name).decode() for name in file.namelist()}


def test_the_zip_holds_each_transcript_once_and_says_what_is_not_in_it(client: TestClient, behind: Box) -> None:
    for name in ("talk.mp3", "talk.wav", "TALK.flac", "../../Grüße: 1?.mp3", "con.mp3"):
        put(behind, State.COMPLETED, name)
    put(behind, State.FAILED, "noise.mp3")
    put(behind, State.QUEUED, "late.mp3")
    answer = client.get(f"/api/v1/batches/{one(behind).id}/zip?format=srt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''Talks.zip"
    found = unzip(answer)
    missing = found.pop("Not in here.txt")
    assert missing == (
        "noise.mp3: There is no sound in it.\n"
        "late.mp3: This job has not finished yet. Ask again when its state is completed.\n"
    )
    assert set(found) == {"talk.srt", "talk (2).srt", "TALK (3).srt", "Grüße 1.srt", "_con.srt"}
    assert len(set(found.values())) == 1
    assert "yes no" in found["talk.srt"]


def test_the_zip_is_refused_before_it_begins(client: TestClient, behind: Box) -> None:
    put(behind, State.QUEUED)
    path = f"/api/v1/batches/{one(behind).id}/zip"
    assert (client.get(path).status_code, client.get(f"{path}?format=doc").status_code) == (409, 422)


def test_the_zip_is_made_while_it_is_sent(box: Box) -> None:
    """One transcript at a time: the first piece is there before the second transcript is read."""
    put(box, State.COMPLETED, "1.mp3")
    second = put(box, State.COMPLETED, "2.mp3")
    pieces = batches.zipped(box, one(box).id, "json")
    begun = next(pieces)
    assert begun.startswith(b"PK")
    assert b"1.json" in begun
    assert b"2.json" not in begun
    assert second.result is not None
    media.transcript(box.config, second.id, second.result).unlink()
    with zipfile.ZipFile(io.BytesIO(begun + b"".join(pieces))) as file:
        assert file.namelist() == ["1.json", "Not in here.txt"]
        assert file.read("Not in here.txt") == b"2.mp3: The transcript was deleted.\n"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("talk.mp3", "talk.txt"),
        ("no ending", "no ending.txt"),
        (".hidden", "hidden.txt"),
        ("...", "_.txt"),
        ("a/b\\c:d*?.mp3", "a b c d.txt"),
        ("AUX.mp3", "_AUX.txt"),
        ("lpt1.old.mp3", "_lpt1.old.txt"),
        ("x" * 300, "x" * 120 + ".txt"),
        ("語" * 10 + ".m4a", "語" * 10 + ".txt"),
    ],
)
def test_names_in_a_zip_are_safe_on_any_system(name: str, safe: str) -> None:
    assert Names().free(name, "txt") == safe


# Whose


def test_a_batch_is_its_submitters_alone(client: TestClient, behind: Box) -> None:
    mine, theirs = ({"X-API-Key": behind.access.create_key(name)[1]} for name in ("mine", "theirs"))
    batch = send(client, field_part("batch", "Talks"), **mine).json()["batch"]
    path = f"/api/v1/batches/{batch}"
    assert client.get(path, headers=mine).json()["total"] == 1
    assert client.get("/api/v1/batches", headers=theirs).json()["batches"] == []
    answers = [client.get(path, headers=theirs), client.delete(path, headers=theirs)]
    answers += [client.get(f"{path}/zip", headers=theirs), client.get(f"/batches/{batch}", headers=theirs)]
    answers += [client.post(f"{path}/{verb}", headers=theirs) for verb in ("cancel", "retry")]
    answers += [send(client, field_part("batch", batch), **theirs)]
    assert {answer.status_code for answer in answers} == {404}
    other = send(client, field_part("batch", "Talks"), **theirs).json()["batch"]
    assert other != batch
    assert len(batches.listed(behind, 10)) == 2


# Pages


def text(answer: Any) -> str:
    return Markup(answer.text).text


def test_the_front_page_shows_a_batch_as_one_row(client: TestClient, behind: Box) -> None:
    put(behind, State.COMPLETED, "first.mp3")
    put(behind, State.FAILED, "second.mp3")
    put(behind, State.RUNNING, "third.mp3")
    put(behind, State.QUEUED, "fourth.mp3")
    page = text(client.get("/"))
    assert "2 of 4 done, 1 failed, about 10 s left" in page
    assert "third.mp3" in page
    assert not any(name in page for name in ("first.mp3", "second.mp3", "fourth.mp3"))
    assert "1 is in a batch, above." in page


def test_the_front_page_shows_a_few_batches_and_leads_to_all(client: TestClient, behind: Box) -> None:
    for number in range(7):
        put(behind, State.COMPLETED, batch=f"Batch {number}")
    put(behind, State.QUEUED, batch="Batch 0")
    page = text(client.get("/"))
    assert [number for number in range(7) if f"Batch {number}" in page] == [0, 3, 4, 5, 6]
    assert "All 7" in page
    assert all(f"Batch {number}" in text(client.get("/batches")) for number in range(7))


def test_the_page_of_batches_says_when_there_is_none(client: TestClient) -> None:
    assert "There is no batch." in text(client.get("/batches"))


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([State.COMPLETED, State.COMPLETED], "All 2 completed"),
        ([State.COMPLETED], "Completed"),
        ([State.COMPLETED, State.FAILED, State.CANCELED], "1 of 3 completed, 1 failed, 1 canceled"),
        ([State.CANCELED], "0 of 1 completed, 1 canceled"),
    ],
)
def test_the_page_of_a_batch_says_how_it_ended(
    client: TestClient, behind: Box, states: list[State], words: str
) -> None:
    for state in states:
        put(behind, state)
    page = text(client.get(f"/batches/{one(behind).id}"))
    assert words in page
    assert "Cancel all" not in page


def test_the_page_of_a_batch_is_alive_and_unchanged_is_304(client: TestClient, behind: Box) -> None:
    put(behind, State.COMPLETED, transcript=TRANSCRIPT)
    put(behind, State.QUEUED, "waits.mp3")
    path = f"/batches/{one(behind).id}"
    part = client.get(path, headers=HTMX)
    assert part.text.lstrip().startswith('<div id="jobs"')
    assert "Next to start" in text(part)
    assert client.get(path, headers=HTMX | {"HX-PTag": part.headers["hx-ptag"]}).status_code == 304
    assert client.get(f"{path}/zip?format=vtt").status_code == 200


def test_the_buttons_of_the_page_do_what_they_say(client: TestClient, behind: Box) -> None:
    queued = put(behind, State.QUEUED)
    path = f"/batches/{one(behind).id}"
    assert client.post(f"{path}/cancel").headers["location"] == path
    assert behind.get(queued.id).state == State.CANCELED
    assert "Try 1 canceled again" in text(client.get(path))
    assert client.post(f"{path}/retry", data={"state": "canceled"}).headers["location"] == path
    assert behind.get(queued.id).state == State.QUEUED
    behind.delete(queued.id)
    failed = [put(behind, State.FAILED) for _ in range(2)]
    behind.change_settings({"slots": 1, "queue_limit": 0}, "test")
    full = client.post(f"{path}/retry", data={"state": "failed"})
    assert (full.status_code, behind.get(failed[0].id).state) == (429, State.QUEUED)
    assert "1 are in line again; for 1 there is no room yet." in text(full)
    assert client.post(f"{path}/delete").headers["location"] == "/"
    assert behind.list_jobs(None, 10) == []


def test_a_job_of_a_batch_leads_to_it(client: TestClient, behind: Box) -> None:
    job = put(behind, State.COMPLETED, batch="<b>Talks</b>")
    page = client.get(f"/jobs/{job.id}")
    assert f'href="/batches/{job.batch}"' in page.text
    assert "<b>Talks</b>" in text(page)
    assert "<b>Talks" not in page.text


def test_jobs_of_the_inbox_say_where_they_are_from(client: TestClient, behind: Box) -> None:
    with behind.receive("talk.mp3", kind="inbox") as receiving:
        receiving.write(b"sound")
        job = receiving.queue(Params("demo"))
    assert "The watched folder" in text(client.get(f"/jobs/{job.id}"))


def test_a_form_of_several_files_may_name_its_batch(client: TestClient, behind: Box) -> None:
    parts = field_part("batch", "My own name") + file_part(b"1", "1.mp3") + file_part(b"2", "2.mp3")
    answer = client.post("/jobs", content=parts + END, headers=FORM)
    assert answer.headers["location"] == f"/batches/{one(behind).id}"
    assert (one(behind).name, one(behind).total) == ("My own name", 2)


DAMAGED = [
    b"",
    b"\x00" * 100,
    b'{"language": "en", "seg',
    b"[]",
    b"\xff\xfe",
    b'{"segments": [{"text": "a"}]}',
    b"null",
]


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_transcript_is_a_sentence_everywhere(client: TestClient, behind: Box, data: bytes) -> None:
    """On a page, by API and guide, and in a zip, which holds the others."""
    broken, whole = put(behind, State.COMPLETED, "broken.mp3"), put(behind, State.COMPLETED, "whole.mp3")
    media.transcript(behind.config, broken.id, broken.result or "").write_bytes(data)
    page = client.get(f"/jobs/{broken.id}")
    assert (page.status_code, "file is damaged on the disk" in page.text) == (200, True)
    for path in (f"/api/v1/jobs/{broken.id}/transcript?format=srt", f"/transcribe/{broken.id}/status"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "transcript_damaged")
    assert client.get(f"/jobs/{broken.id}/transcript.txt").status_code == 410
    found = unzip(client.get(f"/api/v1/batches/{one(behind).id}/zip?format=txt"))
    assert found["whole.txt"] == "yes no\n"
    assert found["Not in here.txt"].startswith("broken.mp3: The transcript's file is damaged")
    assert behind.transcript(whole)["text"] == "yes no"


def test_one_that_can_never_run_keeps_no_other_of_a_batch_from_being_tried_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [put(box, State.FAILED, f"{number}.mp3") for number in range(3)]
    retry = box.retry

    def refuse_the_first(job_id: str) -> Job:
        if job_id == jobs[0].id:
            raise StenoboxError("never_fits", "It never fits.")
        return retry(job_id)

    monkeypatch.setattr(box, "retry", refuse_the_first)
    assert batches.retry(box, one(box).id).taken == 2
