"""A real server in a real memory control group: overloaded, squeezed and released. The long form: tools/overload.py."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import wait_until

from tasks import store
from tasks.db import Database

pytestmark = pytest.mark.long

TOOL = Path(__file__).parent.parent / "tools" / "overload.py"
GIB = 2**30


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("overload_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture
def group() -> Iterator[Any]:
    """A memory control group of 1.6 GiB."""
    try:
        group = tool.Group(int(1.6 * GIB))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield group
    group.remove()
    assert not group.folder.exists()


def test_many_times_what_it_can_do_kills_nothing_and_loses_nothing(group: Any) -> None:
    result = tool.overload(group, 20, rate=20, variables={"STENOBOX_QUEUE_LIMIT": "3"}, patience=300)
    assert tool.good(result), result
    assert result["ended"]["completed"] >= 4
    assert result["answers"]["429 queue_full"] > result["answers"]["202"], "it was not overloaded"


def test_squeezed_it_refuses_and_recovers_by_itself(group: Any, tmp_path: Path) -> None:
    """The limit falls to just above what an idle engine needs, as when a neighbour grows: the box holds, then unloads
    the engine, and is itself again."""
    variables = {"STENOBOX_SLOTS": "1", "STENOBOX_ENGINE_IDLE": "600"}
    process, url = tool.start(group, tmp_path / "data", tmp_path / "serve.log", variables)
    database = Database(tmp_path / "data" / "jobs.db")
    body = tool.SAMPLE.read_bytes()

    def submit() -> httpx.Response:
        return httpx.post(f"{url}/api/v1/transcriptions", files={"file": ("a.flac", body)}, timeout=60)

    def completed(answer: httpx.Response) -> bool:
        job = httpx.get(url + answer.json()["links"]["self"], timeout=60).json()
        assert job["state"] not in ("failed", "canceled"), job
        return bool(job["state"] == "completed")

    def guard() -> str:
        return store.list_samples(database, 0)[-1].guard

    def squeezed() -> bool:
        with contextlib.suppress(OSError):  # nothing is left that the kernel could take back at once
            group.limit(int(group.used() / 0.935))
        return guard() != "calm"

    try:
        first = submit()
        wait_until(lambda: completed(first), 120)
        wait_until(squeezed, 60, every=1)
        refused = submit()
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "memory_pressure"
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        with_engine = group.used()
        wait_until(lambda: guard() == "calm", 60, every=0.5)
        assert group.used() < with_engine / 2, "the engine is still there"
        group.limit(int(1.6 * GIB))  # the neighbour has left
        again = wait_until(lambda: (answer := submit()).status_code == 202 and answer, 30, every=0.5)
        wait_until(lambda: completed(again), 120)
        assert group.oom_kills() == 0
    finally:
        database.close()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
