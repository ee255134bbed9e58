"""The API client: what it makes of answers, refusals and silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fake_box import FakeBox, standing
from support import SAMPLES, Served, free_port, wait_until
from web_support import live

from tasks.access import Access
from tasks.config import Config
from tasks.errors import StenoboxError
from webapp.client import Client, Refused, Unreachable, _wait, made_at, name_of
from webapp.submit import Batch, submit

SOUND = SAMPLES / "en-u000.flac"


def test_it_submits_and_reads_a_transcript_on_a_real_box(served: Served) -> None:
    with Client(served.url + "/") as client:
        job = client.submit(SOUND, "demo", "en")
        assert job["source"]["name"] == SOUND.name
        assert job["source"]["bytes"] == SOUND.stat().st_size
        assert job["params"] == {"model": "demo", "language": "en"} | job["params"]
        assert abs(client.now() - time.time()) < 60
        assert job["id"] in [found["id"] for found in client.jobs_since(made_at(job))]
        assert list(client.jobs_since(time.time() + 60)) == []
        wait_until(lambda: client.job(job["id"])["state"] == "completed", 120, every=0.2)
        assert client.transcript(job["id"], "srt").startswith(b"1\n00:00:0")


def test_a_refusal_of_a_real_box_carries_its_code_and_the_field(served: Served) -> None:
    with Client(served.url) as client, pytest.raises(Refused) as caught:
        client.submit(SOUND, "no-such-model")
    assert (caught.value.status, caught.value.code, caught.value.param) == (422, "unknown_model", "model")
    assert not caught.value.passing


@pytest.mark.parametrize(
    ("status", "passing"), [(413, False), (422, False), (429, True), (500, True), (503, True), (507, True)]
)
def test_refusals_that_pass_are_told_from_those_that_do_not(status: int, passing: bool) -> None:
    with standing(FakeBox((status, "queue_full", 7))) as box, Client(box.url) as client:
        with pytest.raises(Refused) as caught:
            client.submit(SOUND)
        assert (caught.value.status, caught.value.wait, caught.value.passing) == (status, 7, passing)
        assert caught.value.message == "It says queue_full."


def test_silence_is_not_a_refusal() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(Unreachable, match="gave no answer"):
        client.job("0" * 32)
    with standing(FakeBox("lost")) as box, Client(box.url) as client, pytest.raises(Unreachable):
        client.submit(SOUND)


def test_an_address_that_is_none_is_said_so() -> None:
    with pytest.raises(Unreachable), Client("localhost:1") as client:
        client.job("0")


def test_a_box_without_the_address_has_no_capacity() -> None:
    with standing(FakeBox()) as box, Client(box.url) as client:
        assert client.capacity() is None
        box.capacity = {"next_free_seconds": None}
        assert client.capacity() == {"next_free_seconds": None}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3),
        ("0", 0),
        ("99999", 3600),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("Mon, 1 Jan 2030", None),
        ("²", None),
    ],
)
def test_retry_after_is_whole_seconds(text: str, seconds: int | None) -> None:
    assert _wait(text) == seconds


def test_names_are_sent_as_the_box_will_store_them() -> None:
    assert name_of(Path('a/say "hi"\n.mp3')) == "say 'hi'.mp3"


def test_a_box_that_asks_for_a_key_gets_it(config: Config) -> None:
    with live(config) as box:
        _, key = Access(config, box.box.database).create_key("laptop")
        with Client(box.url, key) as client:
            assert client.submit(SOUND)["state"] == "queued"
        with Client(box.url, "sb_wrong") as client, pytest.raises(Refused) as caught:
            client.submit(SOUND)
        assert (caught.value.status, caught.value.passing) == (401, False)


def test_without_one_a_batch_ends_at_once_and_says_how_to_get_one(config: Config, tmp_path: Path) -> None:
    with live(config) as box:
        Access(config, box.box.database).create_key("laptop")
        batch = Batch((SOUND,), box.url, state=tmp_path / "state.json", key="sb_wrong")
        with pytest.raises(StenoboxError, match="`stenobox keys create NAME`, and set STENOBOX_KEY"):
            submit(batch)
