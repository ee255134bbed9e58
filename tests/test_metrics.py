"""What is counted for Prometheus, by real processes, and what the documents and dashboards say of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from support import SAMPLES, Served, free_port, serve, wait_until

from tasks import metrics
from tasks.actions import Box
from tasks.config import Config

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """A server with metrics that has completed one job, failed one and refused one; and the port of its metrics."""
    port = free_port()
    served = serve(
        tmp_path_factory.mktemp("watched"),
        STENOBOX_SLOTS="1",
        STENOBOX_QUEUE_LIMIT="0",
        STENOBOX_METRICS=f"127.0.0.1:{port}",
    )
    folder = served.data.parent
    (folder / "noise.mp3").write_text("no sound in here")
    served.finish(served.submit(SAMPLES / "en-u002.flac"))
    running = served.submit(SAMPLES / "en-long2_en_120.flac")
    refused = served.post("/api/v1/transcriptions", files={"file": ("a.wav", b"sound")})
    assert refused.status_code == 429
    served.post(f"{running['links']['self']}/cancel")
    served.finish(running)
    served.finish(served.submit(folder / "noise.mp3"))
    yield served, port
    assert served.stop() == 0, served.log.read_text()


def read(port: int) -> dict[tuple[str, str], float]:
    """Samples by name and by the labels that are told apart."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


def test_what_has_happened_is_counted(watched: tuple[Served, int]) -> None:
    found = wait_until(
        lambda: (now := read(watched[1])).get(("stenobox_jobs_finished_total", "code=undecodable,state=failed")) and now
    )
    assert found["stenobox_jobs_finished_total", "code=,state=completed"] == 1
    assert found["stenobox_jobs_finished_total", "code=,state=canceled"] == 1
    assert found["stenobox_submissions_accepted_total", ""] == 3
    assert found["stenobox_submissions_refused_total", "code=queue_full"] == 1
    assert found["stenobox_queue_wait_seconds_count", ""] == 3
    assert found["stenobox_realtime_factor_count", "model=demo"] == 1
    assert found["stenobox_engine_starts_total", ""] >= 1
    for stage in ("decode", "transcribe", "align"):
        assert found["stenobox_stage_seconds_count", f"stage={stage}"] >= 1


def test_what_the_box_holds_is_told(watched: tuple[Served, int]) -> None:
    served, port = watched
    found = read(port)
    capacity = served.get("/api/v1/capacity").json()
    assert found["stenobox_slots", ""] == capacity["limits"]["slots"] == 1
    assert found["stenobox_places", ""] == 1
    assert found["stenobox_oldest_wait_seconds", ""] == 0
    assert sum(found["stenobox_guard", f"level={level}"] for level in ("calm", "hold", "unload", "stop")) == 1
    limit, used = found["stenobox_memory_limit_bytes", ""], found["stenobox_memory_used_bytes", ""]
    assert found["stenobox_memory_headroom_bytes", ""] == limit - used
    assert found["stenobox_disk_free_bytes", ""] > 0


def names_of(families: dict[tuple[str, str], float]) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in families}


def test_the_document_names_every_metric(watched: tuple[Served, int]) -> None:
    table = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(stenobox_\w+)", table))
    assert told - {"stenobox_deaths_total"} <= names_of(read(watched[1])) <= told | {"stenobox_deaths_total"}


@pytest.mark.parametrize("file", ["alerts.yml", "grafana/stenobox.json"])
def test_alerts_and_dashboard_ask_only_for_metrics_there_are(file: str) -> None:
    told = set(re.findall(r"`(stenobox_\w+)", (DOCS / "monitoring.md").read_text(encoding="utf-8")))
    text = (DOCS / file).read_text(encoding="utf-8")
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bstenobox_\w+", text)}
    assert asked <= told
    assert len(asked) > 5


def test_alerts_say_what_to_do() -> None:
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert len(rules) >= 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["action"].endswith(".")


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    dashboard = json.loads((DOCS / "grafana" / "stenobox.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_nothing_is_counted_or_loaded_unless_it_is_wanted(tmp_path: Path) -> None:
    code = (
        "import sys; from tasks import metrics; from tasks.config import from_env; "
        "metrics.begin(from_env()); metrics.refused('queue_full'); metrics.engine_started(); "
        "print('prometheus_client' in sys.modules)"
    )
    environment = {**os.environ, "STENOBOX_DATA": str(tmp_path), "STENOBOX_METRICS": ""}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
    assert not (tmp_path / "run").exists()


def test_a_box_that_starts_forgets_what_was_counted_before(config: Config) -> None:
    metrics.folder(config).mkdir(parents=True)
    (metrics.folder(config) / "counter_1.db").write_bytes(b"old")
    metrics.forget(config)
    assert not metrics.folder(config).exists()


def test_a_taken_port_is_told(box: Box, watched: tuple[Served, int]) -> None:
    from webapp import scrape

    os.environ[metrics.FOLDER] = str(box.config.data)
    try:
        with pytest.raises(OSError, match="in use"):
            scrape.serve(box, f"127.0.0.1:{watched[1]}")
    finally:
        del os.environ[metrics.FOLDER]
