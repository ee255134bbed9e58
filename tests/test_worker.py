"""The worker among its neighbours, as real processes: stopped, killed and restarted in the middle of its work."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import media_files
import psutil
import pytest
from holding import held, row
from support import SAMPLES, TRUTH, Served, serve, wait_until

from tasks import media
from tasks.actions import Box
from tasks.config import Config
from tasks.db import open_database
from tasks.heartbeat import RECONCILE_SECONDS
from tasks.jobs import Params
from tasks.queue import Queue
from tasks.sqlite import driver as sqlite
from webapp import cli

pytestmark = pytest.mark.long

SHORT, LONG = SAMPLES / "en-u000.flac", SAMPLES / "en-long2_en_120.flac"
MINUTE_WORDS = sum(word["end"] < 60 for word in TRUTH[LONG.name]["words"])
MEASURED = any(name.startswith("COVERAGE_PROCESS") for name in os.environ)
IDLE_MIB = 150 + (3 * 25 if MEASURED else 0)  # coverage takes its share in each of the three processes
GRACE = 60
"""Far more than leaving takes: who has to be killed in the end has not left."""


def submit(data: Path, source: Path) -> str:
    """Put a recording in line without a web process."""
    config = Config(data=data)
    database = open_database(config)
    queue = Queue(config.queue_db)
    try:
        box = Box(config, database, queue)
        with box.receive(source.name) as receiving:
            receiving.write(source.read_bytes())
            return receiving.queue(Params("demo")).id
    finally:
        queue.close()
        database.close()


def files(data: Path, job_id: str) -> list[str]:
    """Of a job, without the waveform that a decoder leaves."""
    folder = media.folder(Config(data=data), job_id)
    return sorted({path.name for path in folder.iterdir()} - set(media.EXTRAS)) if folder.exists() else []


def worker(data: Path, code: str = "", **variables: str) -> subprocess.Popen[bytes]:
    """`stenobox worker` alone. code: Python to run before it."""
    environment = {**os.environ, "STENOBOX_DATA": str(data), "STENOBOX_GRACE": str(GRACE), **variables}
    main = f"import sys; {code}; from webapp import cli; sys.exit(cli.main(['worker']))" if code else ""
    command = ["-c", main] if code else ["-P", "-m", "webapp.cli", "worker"]
    WORKERS.append(subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE))
    return WORKERS[-1]


WORKERS: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    """One that failed would take the machine from all that come after it."""
    yield
    while WORKERS:
        process = WORKERS.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def ready(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Wait until it obeys signals."""
    assert process.stderr is not None
    while b" ready" not in (line := process.stderr.readline()):
        assert line, "it left before it was ready"
    return process


def leave(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, times: int = 1) -> tuple[int, str]:
    """Signal it so often; its exit status and what it had said."""
    for _ in range(times):
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.05)
    _, said = process.communicate(timeout=2 * GRACE)
    return process.returncode, said.decode()


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def pid_of(served: Served, command: str) -> int | None:
    """The pid of the server's `web` or `worker`."""
    for process in psutil.Process(served.process.pid).children():
        try:
            if process.cmdline()[-1:] == [command]:
                return process.pid
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return None


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of speech: long enough to be stopped in the middle of it."""
    sound = media_files.sound(LONG.name)[: 60 * media_files.RATE]
    return media_files.make(tmp_path_factory.mktemp("minute") / "minute.flac", sound)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signals") / "data"


@pytest.fixture(scope="module")
def job_id(data: Path, minute: Path) -> str:
    """The job of TestSignals."""
    return submit(data, minute)


class TestSignals:
    """One job through five workers, each told to leave in the middle of it."""

    @pytest.mark.parametrize("times", [1, 5])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
    def test_leaves_and_puts_the_job_back(self, number: int, times: int, data: Path, job_id: str) -> None:
        process = worker(data)
        wait_until(lambda: row(data, job_id)["state"] == "running", 20)
        wait_until(lambda: below(process.pid), 20)  # in the decoder or the engine
        children = below(process.pid)
        began = time.monotonic()
        status, said = leave(process, number, times)
        assert status == 0, said
        assert time.monotonic() - began < GRACE
        assert "Traceback" not in said
        found = row(data, job_id)
        assert (found["state"], found["attempts"], found["crashes"]) == ("queued", 0, 0)
        assert (found["token"], found["lease_until"], found["started_at"]) == (None, None, None)
        assert set(files(data, job_id)) <= {"source", "journal"}
        wait_until(lambda: all(gone(child) for child in children))

    def test_completes_after_all_that(self, data: Path, job_id: str) -> None:
        process = worker(data)
        wait_until(lambda: row(data, job_id)["state"] == "completed", 60)
        status, said = leave(process)
        assert status == 0, said
        assert row(data, job_id)["attempts"] == 1
        assert files(data, job_id) == sorted(["source", row(data, job_id)["result"]])
        assert said.count(f"job {job_id}: completed") == 1

    def test_an_idle_one_leaves_at_once(self, data: Path) -> None:
        process = ready(worker(data))
        began = time.monotonic()
        status, _ = leave(process)
        assert status == 0
        assert time.monotonic() - began < GRACE


class TestTheQueueFile:
    """It may be lost: what waits in the jobs table is run all the same."""

    @pytest.mark.parametrize("damage", ["lost", "garbage", "cut"])
    def test_lost_or_damaged_between_two_workers(self, damage: str, tmp_path: Path) -> None:
        data = tmp_path / "data"
        text = tmp_path / "text.mp3"
        text.write_text("Not a recording, so the answer is quick.")
        job_id = submit(data, text)
        queue = data / "huey.db"
        match damage:
            case "lost":
                queue.unlink()
            case "garbage":
                queue.write_bytes(os.urandom(8192))
            case "cut":
                queue.write_bytes(queue.read_bytes()[:1000])
        for suffix in ("-wal", "-shm"):
            queue.with_name(queue.name + suffix).unlink(missing_ok=True)
        process = worker(data)
        wait_until(lambda: row(data, job_id)["state"] == "failed", 20)
        assert row(data, job_id)["error_code"] == "undecodable"
        second = submit(data, text)
        wait_until(lambda: row(data, second)["state"] == "failed", 20)
        status, said = leave(process)
        assert status == 0, said


def test_a_damaged_queue_file_is_replaced_before_either_process_starts(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes that both replace it would end with a file each, and not hear one another."""
    config.data.mkdir()
    config.queue_db.write_bytes(os.urandom(8192))
    monkeypatch.setattr("webapp.supervisor.become_supervisor", lambda config: None)
    monkeypatch.setattr("webapp.supervisor.check_ports", lambda config: None)
    with pytest.raises(AssertionError, match="unreachable"):
        cli.serve(config, argparse.Namespace(password=""))
    connection = sqlite.connect(config.queue_db)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_second_worker_refuses(tmp_path: Path) -> None:
    first = ready(worker(tmp_path))
    status, said = leave(worker(tmp_path, "import tasks.recovery as r; r.LOCK_SECONDS = 0.5"), times=0)
    assert status == 1
    assert f"Another stenobox worker uses {tmp_path}" in said
    assert first.poll() is None
    assert leave(first)[0] == 0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server of TestAServer."""
    folder = tmp_path_factory.mktemp("killed")
    # Damaged before the start: both processes must end up with the same new file.
    (folder / "data").mkdir()
    (folder / "data" / "huey.db").write_bytes(os.urandom(8192))
    served = serve(
        folder,
        STENOBOX_SLOTS="2",
        STENOBOX_QUEUE_LIMIT="100",
        STENOBOX_ENGINE_IDLE="4",
        STENOBOX_GRACE=str(GRACE),
    )
    yield served
    served.stop()


class TestAServer:
    """One real server. In this order: what is killed comes back, and the supervisor's own death comes last."""

    @contextmanager
    def running(self, served: Served, source: Path) -> Iterator[dict[str, Any]]:
        """A job that has reached the engine, and stays there until the block ends."""
        job = served.submit(source)
        with held(served.data, served.process.pid, job["id"]):
            yield job

    def engine(self, served: Served) -> int | None:
        return next(iter(served.children("tasks.engine.child")), None)

    def completed(self, served: Served, job: dict[str, Any]) -> dict[str, Any]:
        done = served.finish(job)
        assert done["state"] == "completed", done
        words = len(served.transcript(done).json()["text"].split())
        truth = TRUTH.get(done["source"]["name"])
        assert words == pytest.approx(len(truth["words"]) if truth else MINUTE_WORDS, rel=0.05)
        assert len(files(served.data, job["id"])) == 2
        return done

    def test_both_use_the_same_queue_file(self, ours: Served) -> None:
        def inodes(pid: int | None) -> set[int]:
            assert pid is not None
            numbers = set()
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    if entry.readlink().name.startswith("huey.db") and "-" not in entry.readlink().name:
                        numbers.add(entry.stat().st_ino)
                except OSError:
                    continue
            return numbers

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs /proc")
        self.completed(ours, ours.submit(SHORT))
        found = inodes(pid_of(ours, "web"))
        assert found == inodes(pid_of(ours, "worker")) == {(ours.data / "huey.db").stat().st_ino}

    def test_submit_to_start(self, ours: Served) -> None:
        """From the moment a job is safely in line to its claim by a worker that had nothing to do."""
        short = media_files.plain_wav(ours.log.parent / "short.wav", media_files.silence(0.05))
        waits = []
        for _ in range(20):
            job = ours.submit(short)
            assert ours.finish(job)["note"].startswith("No speech found.")
            found = row(ours.data, job["id"])
            waits.append(found["started_at"] - found["queued_at"])
            assert ours.get(job["links"]["self"]).json()["attempts"] == 1
        median = statistics.median(waits)
        print(f"submit to start: median {1000 * median:.0f} ms, worst of 20 {1000 * max(waits):.0f} ms")
        assert all(wait >= 0 for wait in waits)
        assert median < RECONCILE_SECONDS / 2  # a message has woken it, not the look for what messages were lost

    def test_worker_killed(self, ours: Served, minute: Path) -> None:
        with self.running(ours, minute) as job:
            waiting = ours.submit(SHORT)
            dead, engine = pid_of(ours, "worker"), self.engine(ours)
            assert dead is not None
            assert engine is not None
            doomed = psutil.Process(engine)
            os.kill(dead, signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: gone(doomed), 5)
        wait_until(lambda: pid_of(ours, "worker") not in (None, dead), 10)
        wait_until(lambda: row(ours.data, job["id"])["attempts"] == 2, 10)
        print(f"rescued and claimed again {time.monotonic() - began:.1f} s after the kill")
        done = self.completed(ours, job)
        assert (done["attempts"], done["crashes"]) == (2, 0)  # no process of the job's own died unexplained
        self.completed(ours, waiting)
        assert ours.log.read_text().count(f"job {job['id']}: completed") == 1

    def test_engine_killed(self, ours: Served, minute: Path) -> None:
        with self.running(ours, minute) as job:
            engine = self.engine(ours)
            assert engine is not None
            os.kill(engine, signal.SIGKILL)
        done = self.completed(ours, job)
        assert (done["attempts"], done["crashes"], done["error"]) == (2, 1, None)

    def test_web_killed(self, ours: Served, minute: Path) -> None:
        with self.running(ours, minute) as job:
            dead, at_work = pid_of(ours, "web"), pid_of(ours, "worker")
            assert dead is not None
            os.kill(dead, signal.SIGKILL)
        wait_until(lambda: pid_of(ours, "web") not in (None, dead), 10)
        wait_until(lambda: _up(ours), 20)
        done = self.completed(ours, job)
        assert (done["attempts"], pid_of(ours, "worker")) == (1, at_work)

    def test_cancel_and_delete_of_running_jobs(self, ours: Served) -> None:
        with self.running(ours, LONG) as canceled, self.running(ours, LONG) as deleted:
            assert ours.post(f"{canceled['links']['self']}/cancel").status_code == 202
            assert httpx.delete(ours.url + deleted["links"]["self"], timeout=60).status_code == 204
        began = time.monotonic()
        done = ours.finish(canceled)
        assert (done["state"], done["error"]) == ("canceled", None)
        wait_until(lambda: not files(ours.data, deleted["id"]), 10)
        print(f"canceled and deleted {time.monotonic() - began:.1f} s after the request")
        assert ours.get(deleted["links"]["self"]).status_code == 404
        assert files(ours.data, canceled["id"]) == ["source"]
        self.completed(ours, ours.submit(SHORT))

    def test_at_a_persons_word_it_unloads_the_model(self, ours: Served) -> None:
        def asked() -> bool:
            self.completed(ours, ours.submit(SHORT))
            assert ours.post("/api/v1/unload").status_code == 202
            time.sleep(1)  # by itself it leaves after four
            return "the engine was unloaded: a person asked" in ours.log.read_text()

        wait_until(asked, 180)

    def test_idle_it_gives_its_memory_back(self, ours: Served) -> None:
        wait_until(lambda: len(below(ours.process.pid)) == 2, 15)
        processes = [psutil.Process(ours.process.pid), *below(ours.process.pid)]
        assert len(processes) == 3
        resident = [process.memory_info().rss / 2**20 for process in processes]
        # Libraries that all three have mapped count once in PSS, thrice in the sum of what is resident.
        own = [getattr(process.memory_full_info(), "pss", process.memory_info().rss) / 2**20 for process in processes]
        print(f"idle: {sum(own):.0f} MiB of PSS ({_each(own)}); {sum(resident):.0f} MiB resident ({_each(resident)})")
        assert sum(own) <= IDLE_MIB

    def test_interrupted_five_times_and_started_again(self, ours: Served, minute: Path) -> None:
        with self.running(ours, minute) as job:
            children = below(ours.process.pid)
            began = time.monotonic()
            for _ in range(5):
                if ours.process.poll() is None:
                    ours.process.send_signal(signal.SIGINT)
                    time.sleep(0.05)
            assert ours.process.wait(2 * GRACE) == 0, ours.log.read_text()
        print(f"left {time.monotonic() - began:.1f} s after the first signal")
        assert time.monotonic() - began < GRACE
        found = row(ours.data, job["id"])
        assert (found["state"], found["attempts"], found["crashes"]) == ("queued", 0, 0)
        wait_until(lambda: all(gone(child) for child in children))
        again = serve(ours.data.parent, STENOBOX_SLOTS="2")
        ours.url, ours.process = again.url, again.process
        assert self.completed(ours, job)["attempts"] == 1

    def test_supervisor_killed(self, ours: Served, minute: Path) -> None:
        with self.running(ours, minute):
            children = below(ours.process.pid)
            assert len(children) >= 3
            ours.process.kill()
            began = time.monotonic()
            wait_until(lambda: all(gone(child) for child in children), 5)
        print(f"all {len(children)} processes gone {time.monotonic() - began:.1f} s after the supervisor was killed")


def _each(sizes: list[float]) -> str:
    return ", ".join(f"{size:.0f}" for size in sizes)


def _up(served: Served) -> bool:
    try:
        return served.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
