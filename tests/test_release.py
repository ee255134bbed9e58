"""What is released works where nothing but its dependencies is: built, installed, started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx
import pytest
from support import SAMPLES, free_port, wait_until

from tasks import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the built package in it: its folder of programs. What Stenobox needs is borrowed from
    this one (7 GB), which holds Stenobox itself only by a link that is not followed from there."""
    folder = tmp_path_factory.mktemp(request.param)
    build = [sys.executable, "-m", "hatchling", "build", "-t", request.param, "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    assert __version__ in built.name
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
         "--disable-pip-version-check", built],
        check=True, capture_output=True,
    )  # fmt: skip
    return programs


def test_it_says_its_version_and_runs_its_own_files(installed: Path) -> None:
    told = subprocess.run([installed / "stenobox", "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert told.stdout.strip() == f"stenobox {__version__}"
    code = "import tasks, webapp.paths; print(tasks.__file__); print(webapp.paths.TEMPLATES)"
    places = subprocess.run([installed / "python", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert all(Path(line).is_relative_to(installed.parent) for line in places.stdout.split())


def test_it_serves_and_transcribes(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and "COVERAGE" not in name
    } | {"STENOBOX_DATA": str(tmp_path / "data"), "STENOBOX_PORT": str(port), "STENOBOX_GRACE": "5"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([installed / "stenobox"], env=environment, stdout=output, stderr=output, cwd="/")
    address = f"http://127.0.0.1:{port}"

    def answers(path: str) -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(address + path, timeout=30).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(lambda: answers("/healthz"))
        page = httpx.get(address, timeout=30).text
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
            assert answers(path), path
        with (SAMPLES / "en-u002.flac").open("rb") as file:
            job = httpx.post(f"{address}/api/v1/transcriptions", files={"file": file}, timeout=60).json()
        wait_until(lambda: httpx.get(address + job["links"]["self"], timeout=30).json()["state"] == "completed")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
