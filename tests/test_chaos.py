"""No accepted job is lost and none is done twice, whoever is killed, whenever: real processes, kill -9, a seed."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import media_files
import psutil
import pytest
from pysqlite3 import dbapi2 as sqlite
from support import SAMPLES, Served, serve, wait_until

from tasks.jobs import FINISHED, MAX_CRASHES, is_id

SUBMISSIONS, THREADS, SLOTS = 200, 8, 2
KILLING_SECONDS = 30.0
SEED = int(os.environ.get("CHAOS_SEED") or time.time())


def connect(served: Served) -> Any:
    connection = sqlite.connect(served.data / "jobs.db", timeout=10, isolation_level=None)
    connection.row_factory = sqlite.Row
    return closing(connection)


def count(served: Served, condition: str) -> int:
    with connect(served) as connection:
        return int(connection.execute(f"SELECT count(*) FROM jobs WHERE {condition}").fetchone()[0])


def processes_of(served: Served) -> list[psutil.Process]:
    """Every living process that carries this server's data folder in its environment, wherever it hangs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STENOBOX_DATA") == str(served.data) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def find(served: Served, what: str) -> list[psutil.Process]:
    """The server's processes of one kind: its web or worker, by their last word, or a child, by its module."""
    found = []
    for process in psutil.Process(served.process.pid).children(recursive=True):
        try:
            line = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if line[-1:] == [what] or what in line:
            found.append(process)
    return found


class Watch:
    """Looks on while it happens: the most jobs and engines that ever ran at the same time."""

    def __init__(self, served: Served) -> None:
        self.served, self.looks, self.most_running, self.most_engines = served, 0, 0, 0
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
            self.most_running = max(self.most_running, count(self.served, "state = 'running'"))
            if self.looks % 10 == 0:
                self.most_engines = max(self.most_engines, len(find(self.served, "tasks.engine.child")))
            self.looks += 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = serve(tmp_path, STENOBOX_SLOTS=str(SLOTS), STENOBOX_QUEUE_LIMIT="10000")
    with connect(served) as connection:  # SQLite itself keeps the book, whatever the program believes
        connection.execute("CREATE TABLE book (id TEXT, state TEXT)")
        connection.execute(
            "CREATE TRIGGER keep AFTER UPDATE OF state ON jobs WHEN old.state <> new.state "
            "BEGIN INSERT INTO book VALUES (new.id, new.state); END"
        )
    yield served
    served.stop()
    for process in processes_of(served):
        process.kill()


def submit_all(served: Served, sources: list[Path], over: threading.Event) -> tuple[list[str], Counter[str]]:
    """Post every source, again and again until it is accepted; the ids, and what else was answered."""
    accepted: list[str] = []
    answers: Counter[str] = Counter()

    def one(source: Path) -> None:
        while True:
            try:
                accepted.append(served.submit(source)["id"])
                return
            except httpx.TransportError as error:  # the web is dead: the client can't know whether it was accepted
                answers[type(error).__name__] += 1
                assert not over.wait(0.3)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, sources))
    return accepted, answers


def kill_some(served: Served, dice: random.Random) -> Counter[str]:
    """kill -9 the worker, the engine, a decoder or the web, at random moments."""
    killed: Counter[str] = Counter()
    end = time.monotonic() + KILLING_SECONDS
    while time.monotonic() < end:
        time.sleep(dice.uniform(0.5, 5))
        victim = dice.choices(["tasks.engine.child", "worker", "web", "tasks.decode"], weights=[4, 3, 2, 2])[0]
        for _ in range(100):  # a decoder lives for a quarter of a second
            if found := find(served, victim):
                break
        for process in found:
            try:
                os.kill(process.pid, signal.SIGKILL)
                killed[victim] += 1
            except ProcessLookupError:
                continue
    return killed


@pytest.mark.timeout(420)
def test_no_accepted_job_is_lost_and_none_is_done_twice(served: Served, tmp_path: Path) -> None:
    print(f"seed {SEED} (CHAOS_SEED repeats the choices, not the moments)")
    began = time.monotonic()
    dice = random.Random(SEED)
    short = media_files.plain_wav(tmp_path / "short.wav", media_files.silence(0.05))
    sources = [SAMPLES / "de-u020.flac" if number % 4 == 0 else short for number in range(SUBMISSIONS)]
    over = threading.Event()
    with Watch(served) as watch, ThreadPoolExecutor(2) as pool:
        try:
            submitting = pool.submit(submit_all, served, sources, over)
            killed = pool.submit(kill_some, served, dice).result()
            accepted, answers = submitting.result(120)
            wait_until(lambda: count(served, "finished_at IS NULL") == 0, 240, every=0.5)
        finally:
            over.set()
    assert served.stop() == 0

    with connect(served) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall()[0][0] == "ok"
        rows = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM jobs")}
        book = Counter((row["id"], row["state"]) for row in connection.execute("SELECT * FROM book"))
    states = Counter(row["state"] for row in rows.values())
    crashes = Counter(row["crashes"] for row in rows.values())
    print(f"{time.monotonic() - began:.0f} s; killed {dict(killed)}; the clients saw {dict(answers)}")
    print(f"{len(accepted)} accepted, {len(rows)} jobs, {dict(states)}; jobs by crashes {dict(crashes)}")
    print(f"{watch.looks} looks: at most {watch.most_running} jobs and {watch.most_engines} engine at once")

    # None is lost.
    assert len(accepted) == len(set(accepted)) == SUBMISSIONS
    assert set(accepted) <= set(rows)
    assert {row["state"] for row in rows.values()} <= set(FINISHED)
    for row in rows.values():
        if row["state"] != "completed":
            assert (row["state"], row["error_code"], row["crashes"]) == ("failed", "killed", MAX_CRASHES)
    assert states["completed"] >= SUBMISSIONS * 0.9
    assert sum(killed.values()) >= 5

    # None is done twice.
    assert all(times == 1 for (_, state), times in book.items() if state in FINISHED)
    assert {job_id for job_id, state in book if state == "completed"} == {
        job_id for job_id, row in rows.items() if row["state"] == "completed"
    }
    said = Counter(re.findall(r"job ([0-9a-f]{32}): completed", served.log.read_text()))
    assert set(said.values()) <= {1}
    assert states["completed"] - len(said) <= killed["worker"]  # killed between the deed and the word

    # Never more than there is room for.
    assert 1 <= watch.most_running <= SLOTS
    assert watch.most_engines <= 1

    # Nothing is left.
    folders = {path.name: path for path in (served.data / "media").iterdir()}
    assert set(folders) == set(rows)
    assert all(map(is_id, folders))
    for job_id, row in rows.items():
        expected = {"source", row["result"]} - {None}
        assert {path.name for path in folders[job_id].iterdir()} == expected
    assert [process for process in processes_of(served) if process.status() != psutil.STATUS_ZOMBIE] == []
