"""What the chaos suite shares: a real box that can be killed, frozen and started again, and what must hold after it.

`make test` runs the suite in a short form, `make chaos` in a long one (CHAOS=long), with other delays each time.
CHAOS_SEED repeats the choices, not the moments.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import holding
import httpx
import media_files
import numpy as np
import psutil
from support import Served, serve, wait_until

from tasks import media
from tasks.jobs import FINISHED, is_id
from tasks.sqlite import driver as sqlite

LONG = os.environ.get("CHAOS") == "long"
ROUNDS = 20 if LONG else 1
SEED = int(os.environ.get("CHAOS_SEED") or time.time())
PATIENCE = 240.0
"""Seconds for what takes five when nothing else runs: many tests may share two cores."""


def dice() -> random.Random:
    print(f"CHAOS_SEED={SEED}")
    return random.Random(SEED)


class Box:
    """A `stenobox serve` with a book that SQLite itself keeps of every change of state, whatever the program believes.
    It may be stopped, killed and started again on the same folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.variables = {"STENOBOX_SLOTS": "2", "STENOBOX_QUEUE_LIMIT": "10000", **variables}
        self.served = serve(folder, **self.variables)
        with self.connect() as connection:
            connection.execute("CREATE TABLE book (id TEXT, state TEXT)")
            connection.execute(
                "CREATE TRIGGER keep AFTER UPDATE OF state ON jobs WHEN old.state <> new.state "
                "BEGIN INSERT INTO book VALUES (new.id, new.state); END"
            )
        self._said = ""

    @property
    def data(self) -> Path:
        return self.served.data

    def connect(self) -> Any:
        connection = sqlite.connect(self.data / "jobs.db", timeout=30, isolation_level=None)
        connection.row_factory = sqlite.Row
        return closing(connection)

    def row(self, job_id: str) -> dict[str, Any]:
        with self.connect() as connection:
            return dict(connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone() or {})

    def count(self, condition: str) -> int:
        with self.connect() as connection:
            return int(connection.execute(f"SELECT count(*) FROM jobs WHERE {condition}").fetchone()[0])

    def files(self, job_id: str) -> set[str]:
        """Of a job, without the waveform that a decoder leaves."""
        folder = self.data / "media" / job_id
        return {path.name for path in folder.iterdir()} - set(media.EXTRAS) if folder.exists() else set()

    @property
    def said(self) -> str:
        """Everything in the log, of all starts."""
        return self._said + self.served.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """Every living process that carries this box's data folder in its environment, wherever it hangs."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("STENOBOX_DATA") == str(self.data)
                    and process.pid != os.getpid()
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def find(self, what: str) -> list[psutil.Process]:
        """Its processes of one kind: web or worker, by their last word, or a child, by its module."""
        found = []
        for process in psutil.Process(self.served.process.pid).children(recursive=True):
            try:
                line = process.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if line[-1:] == [what] or what in line:
                found.append(process)
        return found

    def held(self, job_id: str, stage: str = "transcribe", known: int = 1) -> Any:
        """The job in that stage while the block lasts, see `holding.held`."""
        return holding.held(self.data, self.served.process.pid, job_id, stage, known)

    def kept(self, job_id: str) -> list[dict[str, Any]]:
        return holding.journal(self.data, job_id)

    def kill(self) -> None:
        """SIGKILL every process, the supervisor first, as when a machine goes."""
        self.served.process.kill()
        self.served.process.wait()
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        wait_until(lambda: not self.processes(), PATIENCE)

    def start(self) -> None:
        """Again, on the same folder."""
        self._said += self.served.log.read_text()
        self.served = serve(self.folder, **self.variables)

    def close(self) -> None:
        if self.served.process.poll() is None:
            self.served.process.send_signal(signal.SIGTERM)
            try:
                self.served.process.wait(60)
            finally:
                for process in self.processes():
                    process.kill()

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until every job is terminal."""
        wait_until(lambda: self.count("finished_at IS NULL") == 0, seconds, every=0.25)

    def must_be_whole(self, accepted: set[str]) -> dict[str, dict[str, Any]]:
        """What holds after everything, once it is stopped: every accepted job is terminal exactly once, the database is
        whole, and no file or process is left. Returns the rows by id."""
        with self.connect() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall()[0][0] == "ok"
            rows = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM jobs")}
            book = Counter((row["id"], row["state"]) for row in connection.execute("SELECT * FROM book"))
        assert accepted <= set(rows), "accepted and lost"
        assert {row["state"] for row in rows.values()} <= set(FINISHED)
        for job_id, row in rows.items():
            ends = {state: book[job_id, state] for state in FINISHED if book[job_id, state]}
            assert ends == {row["state"]: 1}, f"{job_id} ended {ends}"
        folders = {path.name: path for path in (self.data / "media").iterdir()}
        assert set(folders) == set(rows)
        assert all(map(is_id, folders))
        for job_id, row in rows.items():
            assert self.files(job_id) == {"source", row["result"]} - {None}
        assert self.processes() == []
        return rows


class Watch:
    """Looks on while it happens: the most jobs and engines that ever ran at the same time."""

    def __init__(self, box: Box) -> None:
        self.box, self.looks, self.most_running, self.most_engines = box, 0, 0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            try:
                self.most_running = max(self.most_running, self.box.count("state = 'running'"))
                if self.looks % 10 == 0:
                    self.most_engines = max(self.most_engines, len(self.box.find("tasks.engine.child")))
            except (psutil.NoSuchProcess, sqlite.Error):  # the tree is just being killed
                continue
            self.looks += 1


@contextmanager
def box(folder: Path, **variables: str) -> Iterator[Box]:
    made = Box(folder, **variables)
    try:
        yield made
    finally:
        made.close()


def speech(folder: Path, minutes: int = 2 if LONG else 1) -> Path:
    """Long enough to be stopped in the middle of it. The same minutes of sound, over and over."""
    path = folder / f"speech-{minutes}.flac"
    if not path.exists():
        sound = media_files.sound("en-long2_en_120.flac")
        samples = minutes * 60 * media_files.RATE
        media_files.make(path, np.tile(sound, -(-samples // len(sound)))[:samples])
    return path


def ready(served: Served) -> dict[str, Any] | None:
    """What /readyz says; None while nobody answers."""
    try:
        answer: dict[str, Any] = httpx.get(served.url + "/readyz", timeout=10).json()
    except httpx.TransportError:
        return None
    return answer


def descriptors(process: psutil.Process) -> tuple[int, int]:
    """How many descriptors a process has open: those of its pool of database connections, and all others. How many the
    pool has at a moment says how much was asked at once since the start, and no more."""
    names = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            names.append(entry.readlink().name)
        except FileNotFoundError:  # closed while we looked
            continue
    pooled = sum(name.startswith("jobs.db") for name in names)
    return pooled, len(names) - pooled
