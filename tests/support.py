"""What tests share besides fixtures: the samples and their truth, waiting, and a real server."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks import store
from tasks.capacity import Limits
from tasks.config import Config
from tasks.db import Database, open_database, prepare_data_folder

DATA = Path(__file__).parent / "data"
SAMPLES = DATA / "samples"
TRUTH: dict[str, dict[str, Any]] = {
    entry["file"]: entry for entry in json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


BUSY_SECONDS = 180.0
"""What anything may take on a machine that is busy with something else: a minute of speech took 81 s beside six other
suites. Waiting that ends with a condition is free."""


def wait_until(condition: Callable[[], Any], seconds: float = BUSY_SECONDS, every: float = 0.05) -> Any:
    """The first true value of condition; fails the test after so many seconds, if those are more than BUSY_SECONDS."""
    deadline = time.monotonic() + max(seconds, BUSY_SECONDS)
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {max(seconds, BUSY_SECONDS):.0f} s: {condition}")


@functools.cache
def migrated() -> bytes:
    """An empty jobs.db. Alembic takes a tenth of a second: here once a process, instead of for each test."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data=Path(folder, "data"))
        open_database(config).close()
        return config.jobs_db.read_bytes()


def migrate_by_copy(config: Config) -> None:
    """What the first start on a new data folder leaves there."""
    if not config.data.exists():
        prepare_data_folder(config)
        config.jobs_db.touch(0o600)
        config.jobs_db.write_bytes(migrated())


def without_pysqlite3(folder: Path) -> Path:
    """A folder for PYTHONPATH: processes find a machine without pysqlite3, as on ARM64 Linux."""
    (folder / "pysqlite3").mkdir(parents=True)
    (folder / "pysqlite3" / "__init__.py").write_text("raise ImportError('there is no wheel for this machine')\n")
    return folder


@dataclass
class Served:
    """A running `stenobox serve`."""

    url: str
    data: Path
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=BUSY_SECONDS, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=BUSY_SECONDS, **options)

    def submit(self, path: Path, **fields: str) -> dict[str, Any]:
        """Post a file; the job."""
        with path.open("rb") as file:
            answer = self.post("/api/v1/transcriptions", data=fields, files={"file": (path.name, file)})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def finish(self, job: dict[str, Any], seconds: float = 300) -> dict[str, Any]:
        """Wait until the job is terminal; the job."""

        def terminal() -> dict[str, Any] | None:
            now: dict[str, Any] = self.get(job["links"]["self"]).json()
            return now if now["state"] in ("completed", "failed", "canceled") else None

        done: dict[str, Any] = wait_until(terminal, seconds)
        return done

    def transcript(self, job: dict[str, Any], form: str = "json") -> httpx.Response:
        return self.get(f"{job['links']['self']}/transcript", params={"format": form})

    def children(self, module: str) -> list[int]:
        """Pids below this server whose command line names the module."""
        import psutil

        found = psutil.Process(self.process.pid).children(recursive=True)
        return [p.pid for p in found if p.is_running() and module in " ".join(_cmdline(p))]

    def stop(self, number: int = signal.SIGTERM, seconds: float = BUSY_SECONDS) -> int:
        """Signal the supervisor and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def _cmdline(process: Any) -> list[str]:
    import psutil

    try:
        line: list[str] = process.cmdline()
        return line
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def serve(folder: Path, umask: int = -1, **variables: str) -> Served:
    """Start `stenobox serve` on a free port with its data under folder. The caller stops it. umask: of whoever starts
    it, -1: ours."""
    port = free_port()
    environment = {
        **os.environ,
        "STENOBOX_DATA": str(folder / "data"),
        "STENOBOX_PORT": str(port),
        "STENOBOX_GRACE": "5",
        **variables,
    }
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "webapp.cli", "serve"],
            env=environment,
            stdout=output,
            stderr=output,
            cwd="/",
            umask=umask,
        )
    served = Served(f"http://127.0.0.1:{port}", folder / "data", process, log)

    def up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return served.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(up, 120)
    except BaseException:
        process.kill()  # or what it started would outlive this test
        process.wait()
        raise
    return served


def change_limit(database: Database, name: str, value: Any) -> None:
    """Change one setting, as a person would."""
    store.change_limits(database, Limits(1, 20, 10**9, 14_400.0), {name: value}, by="test")
