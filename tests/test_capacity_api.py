"""What fits and why, told to programs; settings changed and obeyed at once; how refusals say when to come back."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import nvml_support
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from web_support import END, FORM, client_of, file_part, put_job

from tasks import machine, models, store
from tasks.actions import Box
from tasks.capacity import Limits, Load, Request, decide
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import State
from tasks.lookout import FRESH_SECONDS
from tasks.machine import Bound, Memory

CAPACITY, SETTINGS, SUBMIT = "/api/v1/capacity", "/api/v1/settings", "/api/v1/transcriptions"


def submit(client: TestClient, **headers: str) -> Any:
    return client.post(
        SUBMIT, content=file_part() + END, headers=FORM | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def change(client: TestClient, **changes: Any) -> Any:
    answer = client.patch(SETTINGS, json=changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


def squeeze(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Give this process a memory limit."""
    bounds = (Bound("physical memory", 64 * 2**30), Bound("control group /test", size))
    monkeypatch.setattr(machine, "memory", lambda: Memory(bounds, 2**28))


# Capacity


def test_capacity_shows_the_arithmetic_line_by_line(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    squeeze(monkeypatch, 4 * 2**30)
    told = client.get(CAPACITY).json()
    assert told["limits"]["slots"] == told["slots"]["in_force"] == 1
    assert told["slots"]["fixed"] is True
    lines = told["arithmetic"]["lines"]
    assert {line["unit"] for line in lines} == {"bytes", "jobs"}
    total = next(line for line in lines if line["text"] == "room for jobs")
    assert total["value"] == sum(line["value"] for line in lines[: lines.index(total)])
    one = lines[lines.index(total) + 1]["value"]
    assert told["arithmetic"]["maximum"] == min(16, total["value"] // one)
    assert [bound["name"] for bound in told["memory"]["bounds"] if bound["tightest"]] == ["control group /test"]
    assert told["memory"]["limit_bytes"] == 4 * 2**30
    assert list(told["models"]) == list(models.BY_SIZE)
    assert told["models"]["demo"]["maximum"] > 0 == told["models"]["large-v3"]["maximum"]
    assert told["load"] == {"running": 0, "queued": 0, "receiving": 0, "places": 3, "guard": "calm"}
    assert told["next_free_seconds"] == 0


def test_capacity_tells_where_each_stage_runs_and_why(client: TestClient) -> None:
    told = client.get(CAPACITY).json()
    assert told["devices"] == {
        "recognition": "cpu",
        "voice_detection": "cpu",
        "alignment": "cpu",
        "why": "No GPU was found, so everything runs on the CPU.",
        "gpu": None,
    }
    assert told["arithmetic"]["device"] == "cpu"


def test_capacity_counts_the_memory_of_a_gpu(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml_support.install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with client_of(config) as client:
        squeeze(monkeypatch, 16 * 2**30)
        told = client.get(CAPACITY).json()
        assert told["devices"]["gpu"] == {"name": "NVIDIA L4", "memory_bytes": 24 * 2**30}
        assert told["devices"]["recognition"] == told["devices"]["alignment"] == told["arithmetic"]["device"] == "cuda"
        assert "An NVIDIA GPU was found" in told["devices"]["why"]
        lines = {line["text"]: line["value"] for line in told["arithmetic"]["lines"]}
        assert lines["GPU memory: NVIDIA L4"] == 24 * 2**30
        assert told["slots"]["maximum"] == min(lines["jobs that fit in memory"], lines["jobs that fit in GPU memory"])
        squeeze(monkeypatch, 2**30)
        client.app.state.box.planner._plans.clear()  # type: ignore[attr-defined]
        (warning,) = client.get(CAPACITY).json()["warnings"]
    assert "Without the GPU, by STENOBOX_DEVICE=cpu" in warning


def test_capacity_follows_the_default_model_and_automatic_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeeze(monkeypatch, 8 * 2**30)
    monkeypatch.setattr(machine, "cpus", lambda stated=0: machine.Cpus(16, (Bound("CPUs of the machine", 16),)))
    with client_of(Config(data=tmp_path / "data")) as client:
        before = client.get(CAPACITY).json()
        change(client, model="medium")
        after = client.get(CAPACITY).json()
    for told in (before, after):
        assert told["slots"]["in_force"] == told["slots"]["recommended"] == told["arithmetic"]["recommended"]
    assert after["arithmetic"]["model"] == "medium"
    assert after["slots"]["in_force"] < before["slots"]["in_force"]


@pytest.mark.parametrize(
    ("slots", "memory", "model", "words"),
    [
        (1, 4, "demo", []),
        (16, 3, "demo", ["16 slots are set, but by the arithmetic memory holds"]),
        (2, 64, "demo", ["2 slots are set, more than the 1 recommended for 2 CPUs"]),
        (1, 2, "large-v3", ["The default model large-v3 does not fit into memory", "the largest that fits"]),
        (1, 1, "demo", ["No model fits: give this box more memory."]),
    ],
)
def test_capacity_warns_in_sentences(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, slots: int, memory: int, model: str, words: list[str]
) -> None:
    squeeze(monkeypatch, memory * 2**30)
    monkeypatch.setattr(machine, "cpus", lambda stated=0: machine.Cpus(2, (Bound("CPUs of the machine", 2),)))
    change(client, slots=slots, model=model)
    client.app.state.box.planner._plans.clear()  # type: ignore[attr-defined]
    warnings = client.get(CAPACITY).json()["warnings"]
    assert bool(warnings) == bool(words)
    assert all(any(word in warning for warning in warnings) for word in words), warnings


def test_capacity_passes_on_the_warning_about_shared_cpus(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_APP_NAME", "box")
    told = client.get(CAPACITY).json()
    assert "Fly" in told["cpus"]["warning"]
    assert told["cpus"]["warning"] in told["warnings"]


def test_the_next_free_place_is_a_time_when_full_and_unknown_when_closed(client: TestClient, behind: Box) -> None:
    for name in ("a", "b", "c"):
        put_job(behind, State.QUEUED, name)
    assert client.get(CAPACITY).json()["next_free_seconds"] >= 30
    client.post("/api/v1/pause")
    assert client.get(CAPACITY).json()["next_free_seconds"] is None


def test_capacity_answers_at_once_when_the_database_is_busy(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is made to wait where a locked database would make it."""
    change(client, queue_limit=7)
    free = threading.Event()

    def wait(*_: Any) -> Load:
        free.wait(60)
        return Load()

    monkeypatch.setattr(store, "load", wait)
    try:
        told = client.get(CAPACITY)
        assert not free.is_set()
    finally:
        free.set()
    assert told.status_code == 200
    assert told.json()["load"] is None
    assert told.json()["next_free_seconds"] is None
    assert told.json()["limits"]["queue_limit"] == 7
    assert told.json()["arithmetic"]["lines"]


# Settings


def test_settings_can_be_sent_back_as_they_are(client: TestClient) -> None:
    before = client.get(SETTINGS).json()
    assert before["changed"] == []
    after = change(client, **before["settings"])
    assert after["settings"] == before["settings"]
    assert client.get(f"{SETTINGS}/changes").json() == {"changes": []}


@pytest.mark.parametrize(
    ("changes", "load", "request_", "code"),
    [
        ({"slots": 1}, Load(running=2, queued=1), Request(), "queue_full"),
        ({"queue_limit": 0}, Load(running=2), Request(), "queue_full"),
        ({"fail_fast": True}, Load(running=2), Request(), "queue_full"),
        ({"max_bytes": 10}, Load(), Request(bytes=11), "too_large"),
        ({"intake": "paused"}, Load(), Request(), "paused"),
        ({"intake": "draining"}, Load(), Request(), "draining"),
        ({"per_key": 1}, Load(of_key=1, running=1), Request(), "key_limit"),
    ],
)
def test_a_change_is_obeyed_by_the_next_decision(
    client: TestClient, behind: Box, changes: dict[str, Any], load: Load, request_: Request, code: str
) -> None:
    change(client, slots=2, queue_limit=2, max_bytes=100)
    assert decide(behind.limits(), load, request_) is None
    change(client, **changes)
    refusal = decide(behind.limits(), load, request_)
    assert refusal is not None
    assert refusal.code == code
    change(client, **dict.fromkeys(changes), **({"slots": 2} if "slots" not in changes else {}))
    assert set(client.get(SETTINGS).json()["changed"]).isdisjoint(changes)


def test_every_setting_can_be_changed_taken_back_and_is_recorded(client: TestClient) -> None:
    new = {
        "slots": 3, "queue_limit": 9, "max_bytes": 5, "max_seconds": 60.5, "fail_fast": True, "intake": "paused",
        "model": "tiny", "per_key": 4, "keep_days": 0.5, "keep_media_days": 0.25, "reuse": False,
        "download_slots": 5, "link_hosts": "example.org", "generic_links": False,
    }  # fmt: skip
    assert set(new) == set(Limits.__struct_fields__)
    first = client.get(SETTINGS).json()["settings"]
    told = change(client, **new)
    assert told["settings"] == new
    assert told["changed"] == sorted(new)
    changes = client.get(f"{SETTINGS}/changes").json()["changes"]
    assert {entry["name"]: entry["new"] for entry in changes} == new
    assert {entry["by"] for entry in changes} == {"API, testclient"}
    assert len(client.get(f"{SETTINGS}/changes?limit=2").json()["changes"]) == 2
    assert change(client, **dict.fromkeys(new))["settings"] == first


def test_automatic_slots_win_over_the_environment_when_asked_for(client: TestClient, behind: Box) -> None:
    told = change(client, slots="auto")
    assert told["settings"]["slots"] == "auto"
    assert told["slots_in_force"] == behind.planner.plan("demo").recommended
    assert change(client, slots=None)["settings"]["slots"] == 1


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"slots": 17}, "invalid_value", "slots"),
        ({"slots": True}, "invalid_value", "slots"),
        ({"slots": 1.5}, "invalid_value", "slots"),
        ({"slots": [1]}, "invalid_value", "slots"),
        ({"slots": "many"}, "invalid_value", "slots"),
        ({"slots": "2"}, "invalid_value", "slots"),
        ({"fail_fast": 1}, "invalid_value", "fail_fast"),
        ({"fail_fast": "true"}, "invalid_value", "fail_fast"),
        ({"keep_days": "1"}, "invalid_value", "keep_days"),
        ({"queue_limit": -1}, "invalid_value", "queue_limit"),
        ({"queue_limit": 10**40}, "invalid_value", "queue_limit"),
        ({"max_seconds": "nan"}, "invalid_value", "max_seconds"),
        ({"keep_days": "nan"}, "invalid_value", "keep_days"),
        ({"keep_days": "inf"}, "invalid_value", "keep_days"),
        ({"intake": "ajar"}, "invalid_value", "intake"),
        ({"fail_fast": "maybe"}, "invalid_value", "fail_fast"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": {"a": 1}}, "invalid_value", "model"),
        ({"model": "../../etc"}, "unknown_model", "model"),
        ({"colour": 1}, "unknown_field", "colour"),
        ({"colour": None}, "unknown_field", "colour"),
        ({"queue_limit": 1, "slots": 99}, "invalid_value", "slots"),
    ],
)
def test_a_wrong_setting_changes_nothing(client: TestClient, body: dict[str, Any], code: str, param: str) -> None:
    before = client.get(SETTINGS).json()
    answer = client.patch(SETTINGS, json=body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"].endswith(".")
    assert client.get(SETTINGS).json() == before


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"slots=1", "application/x-www-form-urlencoded", 415),
        (b"", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"slots": NaN}', "application/json", 400),
        (b'{"model": "\\ud800"}', "application/json", 400),
        (b'{"model": "\xff"}', "application/json", 400),
        (b"[" * 16_000, "application/json", 400),
        (b" " * 16_385, "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    client: TestClient, body: bytes, media_type: str, status: int
) -> None:
    answer = client.patch(SETTINGS, content=body, headers={"Content-Type": media_type})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message", "type", "param"}


@pytest.mark.parametrize("limit", ["0", "501", "x", "-1"])
def test_a_wrong_number_of_changes_is_refused(client: TestClient, limit: str) -> None:
    assert client.get(f"{SETTINGS}/changes?limit={limit}").status_code == 422


@pytest.mark.parametrize(("verb", "intake"), [("pause", "paused"), ("drain", "draining"), ("resume", "open")])
def test_pause_drain_and_resume(client: TestClient, verb: str, intake: str) -> None:
    assert client.post(f"/api/v1/{verb}").json()["settings"]["intake"] == intake
    assert submit(client).status_code == (202 if verb == "resume" else 503)


def test_a_change_that_lets_more_run_wakes_the_worker(
    client: TestClient, behind: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put_job(behind, State.QUEUED, name)
    woken: list[str] = []
    monkeypatch.setattr(behind.queue, "wake", woken.append)
    change(client, intake="paused")
    assert woken == []
    change(client, slots=2)
    assert woken == []
    client.post("/api/v1/resume")
    assert len(set(woken)) == 2


# Whose it is, and when to come back


def test_a_key_at_its_limit_is_refused_before_its_body(client: TestClient, behind: Box) -> None:
    change(client, per_key=1, slots=2)
    assert submit(client, X_API_Key="one").status_code == 202
    refused = submit(client, X_API_Key="one")
    assert refused.json()["error"]["code"] == "key_limit"
    assert submit(client, Authorization="Bearer one").status_code == 429  # the same key in its other form
    assert submit(client, Authorization="Bearer two").status_code == 202
    with behind.database.read() as connection:
        one, two = connection.scalars(sa.text("SELECT submitter FROM jobs ORDER BY created_at"))
    assert all(re.fullmatch("[0-9a-f]{16}", mark) for mark in (one, two))
    client.delete(client.get("/api/v1/jobs").json()["jobs"][0]["links"]["self"])
    time.sleep(FRESH_SECONDS)
    with pytest.raises(StenoboxError, match="Your key has 1 active") as caught:
        behind.lookout.check(None, submitter=one)
    assert caught.value.code == "key_limit"
    behind.lookout.check(None, submitter=two)  # what was just counted for another key says nothing
    behind.lookout.check(None)


def test_refusals_tell_clients_whether_and_when_to_try_again(client: TestClient, behind: Box) -> None:
    for name in ("a", "b", "c"):
        put_job(behind, State.QUEUED, name)
    full = submit(client)
    assert full.status_code == 429
    assert full.headers["x-should-retry"] == "true"
    assert int(full.headers["retry-after-ms"]) == 1000 * int(full.headers["retry-after"]) > 0
    lost = client.get("/api/v1/jobs/lost")
    assert lost.headers["x-should-retry"] == "false"
    assert "retry-after" not in lost.headers
