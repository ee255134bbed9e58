"""Idempotency-Key: a submission sent again is the same job, also at the same time, also when the box is full."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from support import wait_until
from test_uploads import OPEN, answer, head
from web_support import END, FORM, Live, field_part, file_part, live

from tasks import ingest, repeats, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import idempotency_keys
from tasks.errors import StenoboxError
from tasks.jobs import Job, Params, State
from tasks.repeats import KEEP_SECONDS, Repeat, check_key
from webapp import uploads

SUBMIT = "/api/v1/transcriptions"


def send(client: Any, key: str | None, data: bytes = b"sound", *fields: bytes, **headers: str) -> Any:
    if key is not None:
        headers = {**headers, "Idempotency-Key": key}
    body = b"".join([*fields, file_part(data), END])
    return client.post(SUBMIT, content=body, headers=FORM | headers)


def behind(client: TestClient) -> Box:
    box: Box = client.app.state.box  # type: ignore[attr-defined]
    return box


def test_the_same_key_is_the_same_job(client: TestClient) -> None:
    first = send(client, "one")
    assert (first.status_code, "idempotency-replayed" in first.headers) == (202, False)
    again = send(client, "one")
    assert again.status_code == 202
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert len(client.get("/api/v1/jobs").json()["jobs"]) == 1


def test_another_key_or_none_is_another_job(client: TestClient) -> None:
    answers = [send(client, key) for key in ("one", "two", None)]
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_another_submitter_has_keys_of_its_own(client: TestClient) -> None:
    mine = send(client, "one", **{"X-API-Key": "mine"})
    theirs = send(client, "one", b"other sound", **{"X-API-Key": "theirs"})
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize(
    "sent",
    [
        (b"noise",),
        (b"sound and more",),
        (b"sou",),
        (b"sound", field_part("language", "en")),
    ],
    ids=["same length", "longer", "shorter", "parameters"],
)
def test_another_body_under_the_same_key_is_refused(client: TestClient, sent: tuple[bytes, ...]) -> None:
    assert send(client, "one").status_code == 202
    refused = send(client, "one", *sent)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "idempotency_mismatch"
    assert refused.headers["x-should-retry"] == "false"
    assert len(client.get("/api/v1/jobs").json()["jobs"]) == 1


def test_a_repeat_is_answered_while_the_box_is_full_and_paused(client: TestClient) -> None:
    first = send(client, "one")
    for _ in range(2):
        assert send(client, None).status_code == 202
    assert send(client, None).status_code == 429
    assert send(client, "new").status_code == 429
    assert send(client, "one").json()["id"] == first.json()["id"]
    behind(client).change_settings({"intake": "paused"}, "test")
    assert send(client, "new").status_code == 503
    assert send(client, "one").json()["id"] == first.json()["id"]


def test_a_refused_submission_leaves_its_key_free(client: TestClient) -> None:
    behind(client).change_settings({"intake": "paused"}, "test")
    assert send(client, "one").status_code == 503
    behind(client).change_settings({"intake": "open"}, "test")
    assert send(client, "one", b"").json()["error"]["code"] == "empty_file"
    assert send(client, "one", b"other sound").status_code == 202


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELED])
def test_a_repeat_of_a_finished_job_is_that_job(client: TestClient, state: State) -> None:
    box = behind(client)
    job_id = send(client, "one").json()["id"]
    attempt = store.claim_next(box.database, box.planner.first(), "a worker", 3600)
    assert attempt is not None
    if state == State.COMPLETED:
        store.finish_if_owned(box.database, attempt.token, "x.json", 1.0, None)
    elif state == State.FAILED:
        store.fail_if_owned(box.database, attempt.token, "no_audio", "There is no sound in it.")
    else:
        store.cancel(box.database, job_id)
        store.cancel_if_owned(box.database, attempt.token)
    again = send(client, "one").json()
    assert (again["id"], again["state"]) == (job_id, state)


def test_a_key_outlives_its_deleted_job_by_a_day(client: TestClient) -> None:
    box, job_id = behind(client), send(client, "one").json()["id"]
    box.delete(job_id)
    refused = send(client, "one")
    assert (refused.status_code, refused.json()["error"]["code"]) == (410, "idempotency_gone")
    assert store.forget_keys(box.database, time.time() - KEEP_SECONDS) == 0
    with box.database.write() as connection:
        connection.execute(sa.update(idempotency_keys).values(created_at=time.time() - KEEP_SECONDS - 1))
    assert store.forget_keys(box.database, time.time() - KEEP_SECONDS) == 1
    assert send(client, "one").status_code == 202
    with box.database.write() as connection:
        connection.execute(sa.update(idempotency_keys).values(created_at=0.0))
    assert store.forget_keys(box.database, time.time()) == 0, "its job is there"


@pytest.mark.parametrize("key", ["two words", "ü", "x" * 256, '""'])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str) -> None:
    refused = client.post(
        SUBMIT, content=file_part() + END, headers=[*FORM.items(), ("Idempotency-Key", key.encode("latin-1"))]
    )
    assert refused.status_code == 400 or refused.json()["error"]["code"] == "invalid_value"
    assert refused.json()["error"]["param"] == "Idempotency-Key"


def test_quotes_of_a_structured_field_are_not_part_of_the_key(client: TestClient) -> None:
    assert send(client, '"one"').json()["id"] == send(client, "one").json()["id"]
    assert check_key('"') == '"'
    assert check_key(None) == ""


def test_many_at_once_are_one_job(config: Config) -> None:
    with live(config) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: send(client, "one", b"sound" * 100_000), range(32)))
        assert Counter(answer.status_code for answer in answers) == {202: 32}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotency-replayed" in answer.headers for answer in answers) == 31
        assert server.states() == ["queued"]
        assert len(server.folders()) == 1


@pytest.fixture
def server(config: Config) -> Any:
    with live(config) as server:
        yield server


def begin(server: Live, key: str, length: int) -> Any:
    """An upload under way: its place is taken, its bytes are not all there."""
    connection = server.connect()
    connection.sendall(head(length, f"Idempotency-Key: {key}") + OPEN + b"so")
    wait_until(lambda: server.states() == ["receiving"])
    return connection


def test_beside_one_that_still_arrives_a_large_repeat_is_refused_unsent(server: Live) -> None:
    with begin(server, "one", len(OPEN) + 7 + len(END)), server.connect() as second:
        second.sendall(head(repeats.SMALL_BYTES + uploads.FORM_BYTES + 1, "Idempotency-Key: one"))
        status, headers, body = answer(second)
        assert (status, headers["retry-after"], headers["x-should-retry"]) == (409, "2", "true")
        assert b"idempotency_in_progress" in body


def test_beside_one_that_still_arrives_a_small_repeat_waits_for_it(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, asked, settled = b"und\r\n" + END, threading.Event(), Repeat.settled

    def tell_and_ask(repeat: Repeat) -> bool:
        asked.set()
        return settled(repeat)

    monkeypatch.setattr(Repeat, "settled", tell_and_ask)
    with (
        begin(server, "one", len(OPEN) + 2 + len(rest)) as first,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        later = threads.submit(send, client, "one")
        assert asked.wait(30)
        first.sendall(rest)
        status, headers, _ = answer(first)
        assert status == 202
        assert later.result(30).headers["location"] == headers["location"]


def test_a_repeat_does_not_wait_for_ever(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SETTLE_SECONDS", 0.1)
    with begin(server, "one", 1000), httpx.Client(base_url=server.url, timeout=60) as client:
        refused = send(client, "one")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_in_progress")


def test_when_the_first_one_breaks_the_repeat_is_told_to_come_back_and_is_taken(server: Live) -> None:
    box = server.box
    with begin(server, "one", 1000) as first, box.receive("talk.mp3", key="one") as repeat:
        repeat.write(b"sound")
        assert isinstance(repeat, Repeat)
        first.close()
        wait_until(lambda: server.states() == [])
        with pytest.raises(StenoboxError) as refused:
            repeat.queue(Params("demo"))
        assert refused.value.code == "idempotency_in_progress"
    with httpx.Client(base_url=server.url) as client:
        assert send(client, "one").status_code == 202


def test_a_submission_that_is_known_at_once_asks_for_its_job(box: Box) -> None:
    """The seam for bodies that aren't recordings, such as a URL."""
    assert repeats.find(box.database, "", "", lambda job: True) is None
    assert repeats.find(box.database, "", "one", lambda job: True) is None
    with box.receive("talk.mp3", key="one") as receiving:
        with pytest.raises(StenoboxError, match="still arriving"):
            repeats.find(box.database, "", "one", lambda job: True)
        receiving.write(b"sound")
        job = receiving.queue(Params("demo"))
    assert repeats.find(box.database, "", "one", lambda found: found.id == job.id) == box.get(job.id)
    with pytest.raises(StenoboxError, match="another recording"):
        repeats.find(box.database, "", "one", lambda job: False)
    box.delete(job.id)
    with pytest.raises(StenoboxError, match="deleted"):
        repeats.find(box.database, "", "one", lambda job: True)


def link(box: Box, url: str = "https://example.org/talk?id=1", key: str = "one", **fields: str) -> Job:
    return ingest.submit(box, url, key=key, **fields)


def test_a_link_with_a_key_is_one_job_also_while_the_box_is_full(box: Box) -> None:
    job = link(box)
    assert link(box) == job
    while store.load(box.database).active < box.limits().places:
        link(box, key="")
    assert link(box).id == job.id
    for other in (lambda: link(box, "https://example.org/other"), lambda: link(box, language="en")):
        with pytest.raises(StenoboxError, match="another recording"):
            other()
    box.delete(job.id)
    with pytest.raises(StenoboxError, match="deleted"):
        link(box)


def test_of_links_at_the_same_time_one_wins(box: Box) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = {job.id for job in threads.map(lambda _: link(box), range(16))}
    assert len(found) == 1
    assert len(store.ids(box.database)) == 1
