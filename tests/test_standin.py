"""A data folder that can't be written at the start: an answer with the reason, and a start as soon as it can."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import Served, serve, wait_until

from tasks.config import Config
from webapp import standin


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A data folder that is a file system of its own, mounted read-only."""
    folder = tmp_path / "data"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
        pytest.skip("file systems can't be mounted here")
    remount(folder, "ro")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=True)


def is_ready(served: Served) -> bool:
    try:
        return served.get("/readyz").status_code == 200
    except httpx.TransportError:  # between the stand-in and the web process nobody listens
        return False


def test_it_is_alive_and_says_why_and_recovers_without_a_restart(volume: Path) -> None:
    served = serve(volume.parent, STENOBOX_SLOTS="1")
    try:
        assert served.get("/healthz").status_code == 200
        ready = served.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"][0]["code"] == "read_only"
        refused = served.post("/api/v1/transcriptions", files={"file": ("a.wav", b"sound")})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_failing")
        assert "Read-only file system" in refused.json()["error"]["message"]
        assert refused.headers["Retry-After"] == "10"
        page = served.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 503
        assert "Read-only file system" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert served.get("/", headers={"Host": "evil.example"}).status_code == 400
        remount(volume, "rw")
        wait_until(lambda: is_ready(served))
        assert served.process.poll() is None
        assert served.get("/api/v1/jobs").json()["jobs"] == []
    finally:
        assert served.stop() == 0, served.log.read_text()
    assert served.log.read_text().count("can't be written") == 1


def test_it_leaves_when_told_to(volume: Path) -> None:
    served = serve(volume.parent)
    assert served.stop(signal.SIGINT) == 0


def test_a_folder_that_can_be_written_needs_no_stand_in(config: Config) -> None:
    assert standin.wait_until_writable(config)  # there is none yet
    config.data.mkdir()
    assert standin.wait_until_writable(config)
    assert list(config.data.iterdir()) == []
