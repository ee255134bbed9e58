"""schemathesis finds nothing, with all its checks: as a program with a key, and as the operator of an open box.

SCHEMATHESIS=long: two hundred examples an operation instead of ten.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import change_limit
from web_support import Live, live

from tasks import ingest
from tasks.config import Config
from tasks.links import Item, Preview, Terms

HERE = Path(__file__).parent
LONG = os.environ.get("SCHEMATHESIS") == "long"
OPERATOR = ("--include-tag", "For the operator", "--include-tag", "The box")


@pytest.fixture
def server(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    def look(url: str, terms: Terms) -> Preview:  # no process and no network for each odd link
        return Preview("A talk", False, (Item(url, "A talk", 60.0, False),), False)

    monkeypatch.setattr(ingest.links, "look", look)
    with live(config) as running:
        change_limit(running.box.database, "queue_limit", 100_000)
        yield running


def find_nothing(url: str, folder: Path, *more: str) -> None:
    examples = "200" if LONG else "10"
    # Measured is the server, not who asks.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{url}/openapi.json", "--checks", "all", "--seed", "1", "--max-examples", examples),
            *("--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "120"),
            *("--generation-database", "none", "--warnings", "off", "--no-color", *more),
        ],
        cwd=folder,  # it leaves a folder of its own where it runs
        env=environment | {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")},
        capture_output=True,
        text=True,
        timeout=570 if not LONG else 7200,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


@pytest.mark.timeout(0 if LONG else 600)
def test_it_finds_nothing_with_a_key(server: Live, tmp_path: Path) -> None:
    server.box.logins.set_password("correct horse battery", "test")
    key = server.box.access.create_key("fuzz", "submit")[1]
    find_nothing(server.url, tmp_path, "-H", f"X-API-Key: {key}")
    assert server.states(), "nothing was ever taken"


@pytest.mark.timeout(0 if LONG else 600)
def test_it_finds_nothing_as_the_operator(server: Live, tmp_path: Path) -> None:
    find_nothing(server.url, tmp_path, *OPERATOR, "--phases", "examples,coverage,fuzzing")  # no links lead from there
