"""The Limits page as a browser without JavaScript uses it: what it shows, what its form changes, what it refuses."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import nvml_support
import pytest
from markupsafe import Markup
from starlette.testclient import TestClient
from web_support import client_of, put_job

from tasks import store
from tasks.actions import Box
from tasks.capacity import Load, Request, decide
from tasks.config import Config
from tasks.jobs import State
from tasks.recovery import take_data_folder
from tasks.store import Sample
from webapp import plots

FORM = {
    "slots_by": "hand",
    "slots": "1",
    "mode": "queue",
    "queue_limit": "2",
    "model": "demo",
    "per_key": "0",
    "max_bytes": "2000",
    "max_seconds": "240",
    "keep_days": "0",
    "keep_media_days": "0",
    "reuse": "on",
    "download_slots": "2",
}
"""The form as the page of a box in its first state holds it."""


def words(html: str) -> str:
    return " ".join(Markup(re.sub("<[^>]+>", " ", html)).unescape().split())


def fields(html: str) -> dict[str, str]:
    """What a browser would send if the form was not touched."""
    found = dict(re.findall(r'<input class="input" id="\w+" name="(\w+)" value="([^"]*)"', html))
    found |= dict(re.findall(r'<input type="radio" name="(\w+)" value="(\w+)" checked>', html))
    return found | {"model": re.findall(r'<option value="([^"]*)" selected>', html)[0]}


def sample(at: float, **facts: Any) -> Sample:
    values: dict[str, Any] = {
        "memory_used": 2**30, "memory_limit": 4 * 2**30, "swapped": 0, "stalled": None, "cpu": 0.5,
        "response_seconds": 0.02, "oom_kills": 0, "running": 0, "queued": 0, "guard": "calm",
    }  # fmt: skip
    return Sample(at, **(values | facts))


# What it shows


def test_the_page_is_linked_and_holds_every_setting(client: TestClient) -> None:
    assert 'href="/limits"' in client.get("/").text
    html = client.get("/limits").text
    assert fields(html) == FORM
    for title in ("What this box allows", "What it holds now", "What fits, and why", "The last day", "Changes"):
        assert title in html
    assert "Nobody has changed anything yet" in words(html)
    assert "Nothing has been measured yet." in words(html)


def test_the_page_has_nothing_that_its_policy_refuses(client: TestClient, behind: Box) -> None:
    store.add_sample(behind.database, sample(time.time()))
    html = client.get("/limits").text
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", html)


def test_the_arithmetic_is_a_table(client: TestClient) -> None:
    text = words(client.get("/limits").text)
    for line in ("Less headroom", "Room for jobs", "Jobs that fit in memory", "Jobs at once, set by hand 1"):
        assert line in text
    assert "the tightest" in text
    assert "the smaller of both" in text
    assert "No GPU was found, so everything runs on the CPU." in text


def test_the_arithmetic_of_a_gpu(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml_support.install(monkeypatch)
    with client_of(config) as client:
        text = words(client.get("/limits").text)
    for line in ("GPU memory: NVIDIA H100 80.0 GiB", "Less CUDA itself", "Room for jobs in GPU memory"):
        assert line in text
    assert "the smallest of the three" in text
    assert "An NVIDIA GPU was found, NVIDIA H100: recognition and word times run there." in text


def test_the_last_day_is_drawn(client: TestClient, behind: Box) -> None:
    now = time.time()
    for seconds, facts in ((7200, {}), (3600, {"memory_used": 3 * 2**30, "guard": "hold"}), (0, {"cpu": 0.25})):
        store.add_sample(behind.database, sample(now - seconds, **facts))
    html = client.get("/limits").text
    assert html.count('<svg class="plot-svg"') == 3
    text = words(html)
    assert "1.0 GiB, at most 3.0 GiB" in text
    assert "25%, at most 50%" in text
    assert "20 ms, at most 20 ms" in text
    assert "Short of memory: jobs were held back." in text


def test_high_memory_is_warned_of_with_advice(client: TestClient, behind: Box) -> None:
    store.add_sample(behind.database, sample(time.time(), memory_used=int(3.9 * 2**30), guard="hold"))
    text = words(client.get("/limits").text)
    assert "% of the memory is in use" in text
    assert "Give this box more memory." in text
    assert "Short of memory. Nothing new starts" in text
    assert "Short of memory. Nothing new starts" in words(client.get("/").text)


def test_advice_is_taken_by_a_button(client: TestClient, behind: Box) -> None:
    behind.change_settings({"slots": 3, "model": "base"}, "test")
    store.add_sample(behind.database, sample(time.time(), memory_used=int(3.9 * 2**30), running=1))
    html = client.get("/limits").text
    for label, typed in (("Lower to 2 at once", {"slots_by": "hand", "slots": "2"}),
                         ("Make tiny the default model", {"model": "tiny"})):  # fmt: skip
        form = next(form for form in re.findall(r"<form.*?</form>", html, re.DOTALL) if label in form)
        assert dict(re.findall(r'name="(.*?)" value="(.*?)"', form)) == typed
        assert client.post("/limits", data=typed).headers["location"] == "/limits?saved=1"
    assert (behind.limits().slots, behind.limits().model) == (2, "tiny")


@pytest.mark.parametrize("path", ["/limits/unload", "/api/v1/unload"])
def test_a_person_can_have_the_model_unloaded(client: TestClient, behind: Box, path: str) -> None:
    answer = client.post(path)
    assert answer.status_code == (303 if path == "/limits/unload" else 202)
    message = behind.queue.huey.dequeue()
    assert message is not None
    assert message.name == "unload_engine"
    page = client.get(answer.headers["location"]).text if path == "/limits/unload" else answer.json()["message"]
    assert "The model leaves memory now, unless a recording is being transcribed." in page


def test_htmx_gets_what_is_measured_and_304_when_it_is_the_same(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = client.app.state.box.survey().memory  # type: ignore[attr-defined]
    monkeypatch.setattr("tasks.machine.memory", lambda: used)
    first = client.get("/limits", headers={"HX-Request": "true"})
    assert first.text.lstrip().startswith('<div id="now"')
    tag = first.headers["hx-ptag"]
    assert client.get("/limits", headers={"HX-Request": "true", "HX-PTag": tag}).status_code == 304


# What it changes


def test_saving_the_form_untouched_changes_nothing(client: TestClient, behind: Box) -> None:
    answer = client.post("/limits", data=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/limits?saved=1")
    assert store.choices(behind.database) == {}
    assert "Saved, and in force." in client.get("/limits?saved=1").text


@pytest.mark.parametrize(
    ("typed", "name", "value", "told"),
    [
        ({"slots": "3"}, "slots", 3, "Jobs at once: 1 → 3"),
        ({"queue_limit": "0"}, "queue_limit", 0, "Queue: 2 → 0"),
        ({"mode": "fail_fast"}, "fail_fast", True, "When full: queue → fail fast"),
        ({"model": "tiny"}, "model", "tiny", "Default model: demo → tiny"),
        ({"per_key": "5"}, "per_key", 5, "Jobs of one key: no limit → 5"),
        ({"max_bytes": "1.5"}, "max_bytes", 1_500_000, "Largest file: 2,000 MB → 1.5 MB"),
        ({"max_seconds": "0.5"}, "max_seconds", 30.0, "Longest file: 240 minutes → 0.5 minutes"),
        ({"keep_days": "7"}, "keep_days", 7.0, "Keep finished jobs: for good → 7 days"),
        ({"keep_media_days": "1"}, "keep_media_days", 1.0, "Keep recordings: as long as the job → 1 days"),
        ({"reuse": "off"}, "reuse", False, "The same recording again: its transcript at once → transcribed anew"),
    ],
)
def test_each_field_is_kept_recorded_and_shown(
    client: TestClient, behind: Box, typed: dict[str, str], name: str, value: Any, told: str
) -> None:
    assert client.post("/limits", data=FORM | typed).status_code == 303
    assert getattr(behind.limits(), name) == value
    html = client.get("/limits").text
    assert told in words(html)
    assert "page, testclient" in words(html)
    assert fields(html) == FORM | typed
    assert len(store.list_changes(behind.database, 9)) == 1


def test_slots_can_be_automatic_again(client: TestClient, behind: Box) -> None:
    client.post("/limits", data=FORM | {"slots": "9"})
    client.post("/limits", data=FORM | {"slots_by": "arithmetic", "slots": "nonsense"})
    assert behind.limits().slots == behind.planner.plan("demo").recommended
    assert not behind.planner.slots_are_fixed()
    assert 'value="arithmetic" checked' in client.get("/limits").text


def test_a_saved_form_is_obeyed_by_the_next_decision(client: TestClient, behind: Box) -> None:
    busy = Load(running=1)
    assert decide(behind.limits(), busy, Request()) is None
    client.post("/limits", data=FORM | {"mode": "fail_fast"})
    refusal = decide(behind.limits(), busy, Request())
    assert refusal is not None
    assert refusal.code == "queue_full"
    assert "There is no queue" in words(client.get("/").text)


def test_the_new_default_model_is_chosen_on_the_front_page(client: TestClient) -> None:
    client.post("/limits", data=FORM | {"model": "small"})
    assert '<option value="small" selected>' in client.get("/").text


@pytest.mark.parametrize(
    ("intake", "words_"),
    [("paused", "Paused. Nothing starts"), ("draining", "Draining. What is here is finished"), ("open", "Open. ")],
)
def test_pause_drain_and_resume_are_said_in_words(client: TestClient, config: Config, intake: str, words_: str) -> None:
    with take_data_folder(config, "worker"):
        client.post("/limits/intake", data={"intake": "paused"})
        answer = client.post("/limits/intake", data={"intake": intake})
        assert (answer.status_code, answer.headers["location"]) == (303, "/limits")
        assert words_ in words(client.get("/limits").text)
        assert (words_ in words(client.get("/").text)) == (intake != "open")


def test_a_wrong_state_is_refused(client: TestClient, behind: Box) -> None:
    assert client.post("/limits/intake", data={"intake": "ajar"}).status_code == 422
    assert client.post("/limits/intake", data={"": ""}).status_code == 422
    assert behind.limits().intake == "open"


# What it refuses

HOSTILE = '"><script>alert(1)</script>'


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("slots", "0", "The number of jobs at once must be a whole number from 1 to 16."),
        ("slots", "", "The number of jobs at once must be a whole number from 1 to 16."),
        ("slots", "1.5", "a whole number"),
        ("queue_limit", "-1", "The length of the queue must be a whole number from 0 to 100,000."),
        ("queue_limit", "1e999999999", "The length of the queue"),
        ("per_key", "٣", "The limit for one key"),
        ("max_bytes", "0", "The largest file must be a number above 0, up to 1,125,899,907 MB."),
        ("max_bytes", "NaN", "The largest file"),
        ("max_seconds", "-Infinity", "The longest file must be a number above 0, up to 525,600 minutes."),
        ("max_seconds", "sNaN", "The longest file"),
        ("keep_days", "for ever", "The time to keep finished jobs must be a number from 0 to 36,500 days."),
        ("keep_days", HOSTILE, "The time to keep finished jobs"),
        ("model", "../../etc/passwd", "There is no such model."),
        ("model", HOSTILE, "There is no such model."),
        ("model", "", "model can"),
        ("mode", "both", "Choose one of the two."),
    ],
)
def test_a_wrong_value_is_told_beside_its_field_and_kept(
    client: TestClient, behind: Box, name: str, text: str, sentence: str
) -> None:
    answer = client.post("/limits", data=FORM | {"queue_limit": "7", "keep_days": "3"} | {name: text})
    assert answer.status_code == 422
    assert "Nothing was changed" in answer.text
    assert sentence in words(answer.text)
    assert "<script>alert" not in answer.text
    if name != "mode":
        assert str(Markup.escape(text)) in answer.text
        assert re.search(
            rf'id="{name}"[^>]*aria-describedby="{name}-hint {name}-fault" aria-invalid="true"', answer.text
        )
    if name != "keep_days":
        assert 'name="keep_days" value="3"' in answer.text, "the rest of what was typed"
    assert store.choices(behind.database) == {}


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"slots=" + b"1" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=1" for _ in range(200)), "application/x-www-form-urlencoded", 400),
        (b"slots=\xff", "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_no_browser_sends_is_refused(client: TestClient, content: bytes, media_type: str, status: int) -> None:
    assert client.post("/limits", content=content, headers={"Content-Type": media_type}).status_code == status


def test_another_site_can_change_nothing(client: TestClient, behind: Box) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/limits", "/limits/intake", "/api/v1/pause"):
        assert client.post(path, data=FORM | {"intake": "paused"}, headers=headers).status_code == 403
    assert behind.limits().intake == "open"


def test_the_page_tells_of_a_full_box(client: TestClient, behind: Box) -> None:
    for name in ("a", "b", "c"):
        put_job(behind, State.QUEUED, name)
    assert "Next free place in" in words(client.get("/limits").text)


# Drawing


def test_a_point_is_the_highest_of_its_five_minutes_and_gaps_stay_gaps() -> None:
    now = 1_800_000_000.0
    start = plots.start_of(now)
    assert start <= now - plots.DAY + plots.BUCKET
    samples = [
        sample(start + 10, cpu=0.2),
        sample(start + 20, cpu=0.8),
        sample(start + 310, cpu=0.4, response_seconds=None),
        sample(start + 3000, cpu=2.0, guard="stop", oom_kills=2),
    ]
    day = plots.draw([sample(start - 1), *samples], now)
    assert day is not None
    assert day.cpu.line == "M1 20.0 3 60.0M21 0.0 22 0.0"
    assert day.response.line.count("M") == 2
    assert day.held == [(20, 2)]
    assert day.oom_kills == 2
    assert (day.cpu.now, day.cpu.highest) == (2.0, 2.0)


def test_nothing_measured_draws_nothing() -> None:
    assert plots.draw([], 1.0) is None
    day = plots.draw([sample(time.time(), response_seconds=None, memory_limit=0)], time.time())
    assert day is not None
    assert (day.response.line, day.response.now, day.response.highest) == ("", None, None)
