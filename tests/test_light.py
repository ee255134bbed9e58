"""What the web process of a box has not imported after uploads by programs: it would be larger for nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support import BUSY_SECONDS, free_port, wait_until

from tasks import sqlite
from tasks.config import Config
from tasks.db import open_database
from webapp import light

HEAVY = {
    # for pages, which a box that only programs use doesn't show
    "jinja2",
    # for commands, of ours and of libraries
    "argparse", "click", "getpass", "tarfile", "webapp.bench", "webapp.checkup", "webapp.client", "webapp.offline",
    "webapp.standin", "webapp.submit", "webapp.supervisor", "tasks.backup", "tasks.doctor", "tasks.trial",
    # for the document of the API and for type checkers
    "webapp.openapi", "webapp.shapes",
    # for the worker and its children
    "tasks.engine", "tasks.fetching", "tasks.heartbeat", "tasks.monitor", "tasks.pipeline", "tasks.worker",
    "huey.consumer", "multiprocessing", "av", "numpy", "torch", "whisperx", "yt_dlp", "huggingface_hub",
    # for what a box does once or never
    "alembic", "argon2", "httpx", "platformdirs", "prometheus_client", "psutil",
    # twice the same
    "sqlite3",
}  # fmt: skip

TELL = """
import atexit, os, sys
atexit.register(lambda: open(os.environ["TOLD"], "w").write(" ".join(sys.modules)))
"""


def modules(folder: Path, command: list[str], **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A Python process that writes the names of its modules when it ends, and where."""
    (folder / "sitecustomize.py").write_text(TELL)
    told = folder / f"told-{command[0].strip('-')}"
    more = {"PYTHONPATH": str(folder), "TOLD": str(told), "MALLOC_ARENA_MAX": "1"}
    return subprocess.Popen([sys.executable, *command], env=os.environ | more | environment), told


def test_the_web_process_has_only_what_it_needs(tmp_path: Path) -> None:
    nothing, told = modules(tmp_path, ["-c", "pass"])
    assert nothing.wait(BUSY_SECONDS) == 0
    before = set(told.read_text().split())  # coverage's own
    port, data = free_port(), tmp_path / "data"
    open_database(Config(data=data)).close()  # upgraded before, as `serve` does
    web, told = modules(
        tmp_path, ["-m", "webapp.cli", "web"], STENOBOX_DATA=str(data), STENOBOX_PORT=str(port), STENOBOX_SLOTS="1"
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url))
        raw = httpx.put(f"{url}/api/v1/transcriptions/a.wav", content=b"sound", timeout=BUSY_SECONDS)
        form = httpx.post(f"{url}/api/v1/transcriptions", files={"file": b"sound"}, timeout=BUSY_SECONDS)
        assert (raw.status_code, form.status_code) == (202, 202), raw.text + form.text
        assert httpx.get(f"{url}/api/v1/nothing", timeout=BUSY_SECONDS).status_code == 404
    finally:
        web.terminate()
        web.wait(BUSY_SECONDS)
    found = set(told.read_text().split())
    assert {"uvicorn", "huey", "sqlalchemy", "webapp.app"} <= found
    assert (found - before) & HEAVY == set()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=BUSY_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def test_what_stood_in_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvicorn.main", "sqlite3"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with light.imports():
        assert vars(sys.modules["uvicorn.main"])["run"] is None
        assert sys.modules["sqlite3"] is sqlite.driver
    assert not {"uvicorn.main", "sqlite3"} & sys.modules.keys()


def test_what_is_there_already_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    with light.imports():
        assert sys.modules["sqlite3"] is sqlite3
    assert sys.modules["sqlite3"] is sqlite3
