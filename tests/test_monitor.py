"""The monitor: what it writes, how seldom, and what it does as memory runs out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import free_port, wait_until
from web_support import END, FORM, client_of, file_part, live, put_job

from tasks import machine, monitor, store
from tasks.actions import Box
from tasks.causes import PRESSED_SENTENCE
from tasks.config import Config
from tasks.engine.engines import Engines
from tasks.errors import StenoboxError
from tasks.guard import Level
from tasks.heartbeat import Heartbeat
from tasks.jobs import State
from tasks.machine import Bound, Memory, Pressure
from tasks.monitor import Monitor, response_seconds
from tasks.pipeline import Pipeline
from tasks.running import Reason, Stopped

GIB = 2**30


class Machine:
    """What the machine says it is, until a test changes it."""

    def __init__(self) -> None:
        self.used, self.swapped, self.kills = 0.3, 0, 0
        self.stalled: float | None = None
        self.burnt = 0.0

    def memory(self) -> Memory:
        return Memory((Bound("physical memory", GIB),), round(self.used * GIB))

    def pressure(self) -> Pressure:
        return Pressure(self.stalled, self.swapped, self.kills)


class FakeEngines:
    """An engine that is there, used by so many."""

    def __init__(self) -> None:
        self.users, self.unloaded = 0, 0
        self.pid: int | None = None

    def unload_if_free(self) -> bool:
        if self.users:
            return False
        self.unloaded += 1
        return True

    def leave_if_idle(self) -> None: ...


class Fixture:
    """A monitor whose clock and machine a test turns by hand."""

    def __init__(self, box: Box, machine: Machine) -> None:
        self.box, self.machine = box, machine
        self.now = 1000.0
        self.engines: Any = FakeEngines()
        self.heartbeat = Heartbeat(box.config, box.planner, box.database, box.queue, self.engines)
        self.monitor = Monitor(box.config, box.database, self.heartbeat, self.engines, clock=lambda: self.now)

    def look(self, seconds: int = 1, used: float | None = None) -> None:
        """One look a second."""
        if used is not None:
            self.machine.used = used
        for _ in range(seconds):
            self.now += 1
            self.monitor.look()

    @property
    def samples(self) -> list[store.Sample]:
        return store.list_samples(self.box.database, 0)

    @contextmanager
    def running(self, count: int = 1) -> Iterator[list[Any]]:
        """So many jobs under the heartbeat's watch."""
        with ExitStack() as stack:
            found = []
            for _ in range(count):
                put_job(self.box, State.QUEUED)
                attempt = store.claim_next(self.box.database, self.box.planner.first(), "worker", 60)
                assert attempt is not None
                found.append(stack.enter_context(self.heartbeat.watch(attempt)))
            yield found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", port=free_port(), slots=3, queue_limit=5)


@pytest.fixture
def here(box: Box, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    fake = Machine()
    monkeypatch.setattr(machine, "memory", fake.memory)
    monkeypatch.setattr(machine, "pressure", fake.pressure)
    monkeypatch.setattr(machine, "cpu_seconds", lambda: fake.burnt)
    return Fixture(box, fake)


def test_an_idle_box_hardly_writes(here: Fixture) -> None:
    here.look(120)
    assert len(here.samples) == 2
    sample = here.samples[0]
    assert (sample.memory_used, sample.memory_limit) == (round(0.3 * GIB), GIB)
    assert (sample.running, sample.queued, sample.guard, sample.response_seconds) == (0, 0, "calm", None)


def test_a_busy_box_is_sampled_every_five_seconds(here: Fixture) -> None:
    with here.running():
        put_job(here.box, State.QUEUED)
        here.look(20)
    assert len(here.samples) == 4
    assert (here.samples[-1].running, here.samples[-1].queued) == (1, 1)


def test_cpu_is_the_share_of_what_the_box_may_use(here: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(machine, "cpus", lambda stated: machine.Cpus(4, ()))
    shares = []
    for burnt in (50.0, 60.0, 200.0, 0.0):
        here.machine.burnt = burnt
        shares.append(here.monitor._cpu_share())
        clock[0] += 5
    assert shares == [0.0, 0.5, 1.0, 0.0]


def test_a_change_of_level_is_written_at_once_so_that_admission_knows(here: Fixture) -> None:
    here.look()
    here.look(used=0.93)
    assert [sample.guard for sample in here.samples] == ["calm", "hold"]
    assert here.box.load().guard == "hold"


def test_while_it_holds_no_job_starts_and_none_is_taken_and_nothing_is_lost(here: Fixture) -> None:
    waiting = put_job(here.box, State.QUEUED)
    pipeline = Pipeline(
        here.box.config,
        here.box.database,
        here.box.queue,
        here.engines,
        here.heartbeat,
        "worker",
        here.box.planner,
        holding=lambda: here.monitor.holding,
    )
    here.look(used=0.93)
    pipeline.run(waiting.id)
    pipeline.warm(waiting.id)
    assert here.box.get(waiting.id).state == State.QUEUED
    with pytest.raises(StenoboxError) as refusal, here.box.receive("b.mp3"):
        pass
    assert refusal.value.code == "memory_pressure"
    here.look(30, used=0.3)
    assert not here.monitor.holding
    put_job(here.box, State.QUEUED)
    assert here.box.get(waiting.id).queue_position == 1


def test_a_client_sees_429_until_it_is_over(here: Fixture) -> None:
    with client_of(here.box.config) as client:
        body = file_part() + END

        def submit() -> Any:
            time.sleep(0.15)  # what the web process knows is at most a tenth of a second old
            return client.post("/api/v1/transcriptions", content=body, headers=FORM)

        assert submit().status_code == 202
        here.look(used=0.95)
        refused = submit()
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "memory_pressure"
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        here.look(40, used=0.3)
        assert submit().status_code == 202


def test_when_it_lifts_the_queue_is_woken(here: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    job = put_job(here.box, State.QUEUED)
    woken: list[str] = []
    monkeypatch.setattr(here.box.queue, "wake", woken.append)
    here.look(used=0.93)
    here.look(9, used=0.3)
    assert woken == []
    here.look(3)
    assert woken == [job.id]


def test_the_idle_engine_leaves_only_when_holding_did_not_help(here: Fixture) -> None:
    here.look(used=0.95)
    here.look(2)
    assert here.engines.unloaded == 0
    here.look(2)
    assert here.engines.unloaded > 0


def test_an_engine_in_use_stays(here: Fixture) -> None:
    here.engines.users = 1
    with here.running() as (running,):
        here.look(30, used=0.95)
        assert here.monitor._guard.level == Level.UNLOAD
        assert here.engines.unloaded == 0
        assert running.reason is None


def test_at_last_the_newest_job_is_stopped_then_the_next(here: Fixture) -> None:
    here.engines.users = 3
    with here.running(3) as (first, second, third):
        here.look(7, used=0.99)
        assert [one.reason for one in (first, second, third)] == [None, None, Reason.PRESSURE]
        here.look(9)
        assert second.reason is None
        here.look(2)
        assert [one.reason for one in (first, second)] == [None, Reason.PRESSURE]
        here.look(40, used=0.3)
        assert first.reason is None


def test_after_the_only_job_was_stopped_the_engine_is_replaced_even_once_calm(here: Fixture) -> None:
    here.engines.users = 1
    with here.running() as (running,):
        here.look(7, used=0.99)
        assert running.reason == Reason.PRESSURE
        here.look(60, used=0.3)  # it takes its time to stop
        assert here.engines.unloaded == 0
        here.engines.users = 0
        here.look(5)
        assert here.engines.unloaded == 1


def test_nothing_runs_and_nothing_can_be_stopped(here: Fixture) -> None:
    here.look(60, used=0.99)
    assert here.monitor._guard.level == Level.STOP
    assert here.monitor.holding


def pressed(here: Fixture, times: int) -> Any:
    """A job that is stopped for memory again and again."""
    job = put_job(here.box, State.QUEUED)
    pipeline = Pipeline(
        here.box.config,
        here.box.database,
        here.box.queue,
        here.engines,
        here.heartbeat,
        "worker",
        here.box.planner,
    )

    def words(running: Any) -> Any:
        here.heartbeat.stop_newest(Reason.PRESSURE)
        raise Stopped(running.reason)

    pipeline._words = words  # type: ignore[method-assign]
    for _ in range(times):
        pipeline.run(job.id)
    return here.box.get(job.id)


def test_a_stopped_job_goes_back_uncharged(here: Fixture) -> None:
    job = pressed(here, 3)
    assert (job.state, job.attempts, job.crashes, job.queue_position) == (State.QUEUED, 0, 0, 1)


def test_stopped_again_and_again_it_is_charged(here: Fixture) -> None:
    assert pressed(here, 4).crashes == 1


def test_and_fails_in_the_end_with_a_sentence(here: Fixture) -> None:
    job = pressed(here, 6)
    assert job.state == State.FAILED
    assert job.error is not None
    assert job.error.message == PRESSED_SENTENCE


def test_only_an_engine_that_nothing_uses_is_unloaded(box: Box) -> None:
    class Process:
        users, alive, stopped = 1, True, 0

        def stop(self) -> None:
            self.stopped += 1

    engines, process = Engines(box.config), Process()
    assert not engines.unload_if_free()
    engines._engine = process  # type: ignore[assignment]
    assert not engines.unload_if_free()
    process.users = 0
    assert engines.unload_if_free()
    assert process.stopped == 1
    assert not engines.unload_if_free()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on loopback that says this to whoever connects; nothing at all if it is empty."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if answer:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n", b"what?\r\n\r\n"], ids=["silent", "500", "odd"]
)
def test_no_good_answer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.3)
    with answering(answer) as port:
        assert response_seconds(Config(data=tmp_path, port=port)) is None


@pytest.mark.parametrize(("host", "hosts"), [("127.0.0.1", ""), ("0.0.0.0", "stenobox.lan"), ("localhost", "")])
def test_the_web_process_answers_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, hosts: str
) -> None:
    monkeypatch.setattr(monitor, "ANSWER_SECONDS", 60)
    with live(Config(data=tmp_path / "data", slots=1, hosts=hosts)) as running:
        seconds = response_seconds(Config(data=tmp_path, host=host, hosts=hosts, port=running.port))
        assert seconds is not None
        assert 0 < seconds < 60


def test_the_thread_goes_on_whatever_fails_and_leaves_when_told(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fixture = Fixture(box, Machine())
    real: Callable[[], Memory] = machine.memory
    calls: list[int] = []

    def memory() -> Memory:
        calls.append(1)
        if len(calls) == 1:
            raise StenoboxError("database_busy", "The database is busy.")
        if len(calls) == 2:
            raise RuntimeError("a bug")
        return real()

    monkeypatch.setattr(machine, "memory", memory)
    monkeypatch.setattr(monitor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(monitor, "SAMPLE_SECONDS", 0.01)
    real_monitor = Monitor(box.config, box.database, fixture.heartbeat, fixture.engines)
    real_monitor.start()
    wait_until(lambda: fixture.samples, 20)
    real_monitor.leave()
    real_monitor._thread.join(60)
    assert not real_monitor._thread.is_alive()
    assert "no sample: The database is busy." in caplog.text
    assert "the monitor failed; going on" in caplog.text
    sample = fixture.samples[0]
    assert 0 < sample.memory_used < sample.memory_limit
