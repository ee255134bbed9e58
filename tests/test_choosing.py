"""Which model a person is advised to take, and that the demo model is nobody's silent choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from support import change_limit
from web_support import END, FORM, field_part, file_part, put_job

from tasks import choosing, machine, store
from tasks.actions import Box
from tasks.choosing import DEMO_NOTE, QUESTION, Choice
from tasks.costs import Kind, Record
from tasks.jobs import State
from tasks.machine import Bound

GIB = 2**30


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch, box: Box) -> object:
    """Say how much memory and how many CPUs this machine has; the choices then."""

    def say(gib: float, cpus: int) -> dict[str, Choice]:
        monkeypatch.setattr(machine, "memory", lambda: machine.Memory((Bound("test", round(gib * GIB)),), 0))
        found = machine.cpus()
        monkeypatch.setattr(machine, "cpus", lambda stated=0: replace(found, count=cpus))
        box.planner._plans.clear()
        return {one.model.name: one for one in choosing.choices(box.config, box.planner, box.database)}

    return say


@pytest.mark.parametrize(
    ("gib", "cpus", "name"),
    [(2.5, 2, "base"), (3.5, 2, "small"), (16, 2, "small"), (64, 64, "turbo")],
)
def test_the_best_model_that_fits_and_is_quick_enough_is_recommended(
    has: object, gib: float, cpus: int, name: str
) -> None:
    found = has(gib, cpus)  # type: ignore[operator]
    assert [one.model.name for one in found.values() if one.recommended] == [name]
    assert found[name].fits
    assert found[name].advised
    assert found[name].factor <= choosing.PATIENT
    assert not found["demo"].advised


def test_a_box_that_no_model_fits_recommends_none(has: object) -> None:
    found = has(1, 2)  # type: ignore[operator]
    assert not any(one.recommended for one in found.values())
    assert [one.model.name for one in found.values() if one.advised] == ["tiny"]


def test_what_was_measured_here_is_told_instead_of_estimates(has: object, box: Box) -> None:
    assert ", by estimate" in has(4, 2)["small"].takes  # type: ignore[operator]
    record = Record(Kind("small", "int8", 4), 900 * 2**20, 800 * 2**20, 300 * 2**20)
    store.add_record(box.database, record, audio_seconds=100.0, work_seconds=50.0, beside=1)
    small = has(4, 2)["small"]  # type: ignore[operator]
    assert small.measured
    assert small.takes == "an hour of speech takes about 30 min, and 2.0 GiB of memory"
    assert not small.recommended  # no longer quick enough


def test_more_threads_and_a_gpu_are_faster() -> None:
    assert choosing.expected_factor("small.en", "cpu", 8) < choosing.expected_factor("small", "cpu", 2)
    assert choosing.expected_factor("large-v3", "cuda", 2) < choosing.expected_factor("large-v3", "cpu", 16)
    assert choosing.expected_factor("our-own", "cpu", 2) == choosing.expected_factor("medium", "cpu", 2)


# The form without scripts


def send(client: TestClient, *fields: tuple[str, str]) -> object:
    body = b"".join(field_part(name, value) for name, value in fields) + file_part() + END
    return client.post("/jobs", content=body, headers=FORM)


def test_a_form_that_leaves_the_model_open_is_asked_before_the_bytes(client: TestClient, behind: Box) -> None:
    page = client.get("/").text
    select = page[page.index('<select id="model"') :].partition("</select>")[0]
    assert " required" in select.partition(">")[0]  # the browser asks, and nothing is sent
    assert select.count(" selected>") == 1
    assert '<option value="" selected>' in select
    answer = send(client, ("language", "de"), ("batch", "Two talks"), ("model", ""))
    assert answer.status_code == 422  # type: ignore[attr-defined]
    assert QUESTION in answer.text  # type: ignore[attr-defined]
    assert '<option value="de" selected>' in answer.text  # type: ignore[attr-defined]
    assert 'value="Two talks"' in answer.text  # type: ignore[attr-defined]
    assert store.list_active(behind.database) == []


def test_the_first_choice_becomes_the_usual_model(client: TestClient, behind: Box) -> None:
    assert send(client, ("model", "demo")).status_code == 303  # type: ignore[attr-defined]
    assert behind.limits().model == "demo"
    assert send(client, ("model", "base")).status_code == 303  # type: ignore[attr-defined]
    assert behind.limits().model == "base"
    assert send(client, ("model", "tiny")).status_code == 303  # type: ignore[attr-defined]
    assert behind.limits().model == "base"  # only the first
    page = client.get("/").text
    assert 'id="question"' not in page
    assert '<option value="base" selected>' in page


def test_a_link_is_asked_for_its_model_too(client: TestClient, behind: Box) -> None:
    url = "https://example.org/a.mp3"
    answer = client.post("/links", data={"url": url, "model": "", "language": ""})
    assert answer.status_code == 422
    assert 'id="model-fault"' in answer.text
    assert f'value="{url}"' in answer.text


def test_a_box_with_a_model_asks_nothing(client: TestClient, behind: Box) -> None:
    change_limit(behind.database, "model", "tiny")
    page = client.get("/").text
    assert 'id="question"' not in page
    assert " required" not in page[page.index('<select id="model"') :].partition(">")[0]


def test_the_sample_works_at_once_whatever_the_usual_model_is(client: TestClient, behind: Box) -> None:
    behind.change_settings({"model": "small"}, "a test")
    assert client.post("/jobs/sample").status_code == 303
    [job] = store.list_active(behind.database)
    assert job.params.model == "demo"
    assert not job.by_demo


# What the demo model did says so


def test_a_transcript_of_the_demo_model_says_so(client: TestClient, behind: Box) -> None:
    job = put_job(behind, State.COMPLETED)
    page = client.get(f"/jobs/{job.id}").text
    assert "Made by the demo model" in page
    assert 'href="#again-model"' in page
    assert "Completed by the demo model" in client.get("/").text
    assert client.get(f"/api/v1/jobs/{job.id}").json()["note"] == DEMO_NOTE


def test_a_program_that_names_no_model_is_told(client: TestClient, behind: Box) -> None:
    answer = client.post("/api/v1/transcriptions", files={"file": ("a.wav", b"sound")})
    assert answer.status_code == 202
    assert answer.json()["note"] == DEMO_NOTE
    named = client.post("/api/v1/transcriptions", files={"file": ("a.wav", b"sound")}, data={"model": "tiny"})
    assert named.json()["note"] is None
