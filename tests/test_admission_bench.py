"""`make bench` in small: the crowd is counted exactly, refusals and promises give figures. Ratios are not tested."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import SAMPLES, Served, serve

TOOL = Path(__file__).parent.parent / "tools" / "bench.py"


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("bench_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def test_a_crowd_is_counted_exactly_and_refused_before_its_bodies() -> None:
    found = tool.run_crowd(submitters=60, places=5)
    assert tool.exact(found), found


@pytest.mark.parametrize(
    "wrong", [{"admitted": 6}, {"refused": 54}, {"before_body": 54}, {"integer_retry_after": 54}, {"5xx": 1}]
)
def test_what_is_not_exact_is_said(wrong: dict[str, int]) -> None:
    good = {"submitters": 60, "places": 5, "admitted": 5, "refused": 55, "before_body": 55, "integer_retry_after": 55}
    good["5xx"] = 0
    assert tool.exact(good)
    assert not tool.exact(good | wrong)


def test_refusals_are_counted_on_both_sides() -> None:
    found = tool.run_refusals(rounds=1, seconds=0.3, connections=4)
    assert min(found["box"], found["bare"]) > 0
    assert found["ratio"] > 0


def test_clients_that_wait_as_told_get_in(tmp_path: Path) -> None:
    """Every one, in the end; most when they first come back (a figure of the benchmark)."""
    box: Served = serve(tmp_path, STENOBOX_SLOTS="1", STENOBOX_QUEUE_LIMIT="0")
    try:
        box.finish(box.submit(SAMPLES / "en-u002.flac"))
        found: Counter[str] = Counter()
        waits: list[float] = []
        asyncio.run(tool.bursts(box.url, 3, 0, found, waits))
    finally:
        box.stop()
    assert found["admitted at once"] + found["admitted on return"] == 3
    assert found["refused first"] == 2
    assert len(set(waits[:2])) == 2, "both were told of the same place"
