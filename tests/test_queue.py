"""The queue: wake-up calls that can hold nothing but an id, in a file that may be lost at any time."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huey.consumer import Scheduler, Worker
from huey.registry import Message

from tasks import sqlite
from tasks.jobs import new_id
from tasks.queue import TASKS, IdSerializer, Queue, quiet

pytestmark = pytest.mark.usefixtures("journal")

ID = "0123456789abcdef" * 2


class Answers:
    """What a worker would do, written down."""

    def __init__(self, queue: Queue) -> None:
        self.calls: list[tuple[str, str]] = []
        queue.answer(
            run_job=lambda job_id: self.calls.append(("run_job", job_id)),
            warm_engine=lambda job_id: self.calls.append(("warm_engine", job_id)),
        )


def open_queue(path: Path) -> Queue:
    """A queue that waits only a twentieth of a second for a lock."""
    queue = Queue(path)
    queue.huey.storage._timeout = 0.05
    return queue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "huey.db"


@pytest.fixture
def queue(path: Path) -> Iterator[Queue]:
    queue = open_queue(path)
    yield queue
    queue.close()


@pytest.fixture
def answers(queue: Queue) -> Answers:
    return Answers(queue)


def loops(queue: Queue, times: int) -> None:
    """Let one of Huey's own workers look so many times; raises what would end its thread."""
    worker = Worker(queue.huey, threading.Event(), default_delay=0.0, max_delay=0.0, backoff=1.0)
    for _ in range(times):
        worker.loop()


def plant(path: Path, data: bytes) -> None:
    """Write a row into the queue's file as somebody else could."""
    outside = sqlite.connect(path)
    outside.execute("INSERT INTO task (queue, data, priority) VALUES ('stenobox', ?, 0)", (data,))
    outside.commit()
    outside.close()


# Messages


@pytest.mark.parametrize("name", TASKS)
def test_a_message_is_the_name_of_a_task_and_an_id(name: str) -> None:
    serializer = IdSerializer()
    data = serializer.serialize(Message("1", f"tasks.queue.{name}", args=(ID,)))
    assert json.loads(data) == [name, ID]
    message = serializer.deserialize(data)
    assert (message.name, message.args, message.kwargs) == (f"tasks.queue.{name}", (ID,), {})
    assert (message.retries, message.on_complete, message.expires) == (0, None, None)


class Planted:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


REFUSED = {
    "nothing": b"",
    "no JSON": b"run_job",
    "not UTF-8": b'["run_job", "\xff\xfe"]',
    "a number": b"1",
    "null": b"null",
    "an object": json.dumps({"run_job": ID}).encode(),
    "too short": b'["run_job"]',
    "too long": json.dumps(["run_job", ID, ID]).encode(),
    "another task": json.dumps(["rm", ID]).encode(),
    "a task's full name": json.dumps(["tasks.queue.run_job", ID]).encode(),
    "a list as name": json.dumps([["run_job"], ID]).encode(),
    "a path as id": json.dumps(["run_job", "../../etc/passwd"]).encode(),
    "a number as id": json.dumps(["run_job", 1]).encode(),
    "a list as id": json.dumps(["run_job", [ID]]).encode(),
    "a nest": b"[" * 100_000,
    "a pickle": pickle.dumps(Message("1", "tasks.queue.run_job", args=(ID,))),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        IdSerializer().deserialize(REFUSED[name])


def test_a_pickle_in_the_file_never_runs_and_the_worker_goes_on(
    tmp_path: Path, path: Path, queue: Queue, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    bait = tmp_path / "executed"
    data = pickle.dumps(Planted(bait))
    pickle.loads(data)
    assert bait.exists()  # it would run, if anything unpickled it
    bait.unlink()
    plant(path, data)
    queue.wake(ID)
    with caplog.at_level(logging.CRITICAL, "huey"):
        loops(queue, 2)
    assert not bait.exists()
    assert answers.calls == [("run_job", ID)]


def test_no_message_of_a_stranger_stops_the_worker_or_is_read_twice(
    path: Path, queue: Queue, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    for data in REFUSED.values():
        plant(path, data)
    queue.wake(ID)
    with caplog.at_level(logging.CRITICAL, "huey"):
        loops(queue, len(REFUSED) + 1)
    assert answers.calls == [("run_job", ID)]
    assert len(queue.huey) == 0


# Calls and answers


def test_calls_are_answered_by_task_in_the_order_they_were_made(queue: Queue, answers: Answers) -> None:
    ids = [new_id() for _ in range(20)]
    for job_id in ids:
        queue.warm(job_id)
        queue.wake(job_id)
    loops(queue, 41)
    assert answers.calls == [(name, job_id) for job_id in ids for name in ("warm_engine", "run_job")]


def test_the_order_holds_when_messages_were_taken_in_between(queue: Queue, answers: Answers) -> None:
    ids = sorted(new_id() for _ in range(6))
    queue.wake(ids[0])
    loops(queue, 1)
    for job_id in ids[1:3]:
        queue.wake(job_id)
    loops(queue, 1)
    for job_id in ids[3:]:
        queue.wake(job_id)
    loops(queue, 5)
    assert [job_id for _, job_id in answers.calls] == ids


def test_a_call_is_answered_in_another_process_object(path: Path, queue: Queue) -> None:
    queue.wake(ID)
    worker = open_queue(path)
    answers = Answers(worker)
    loops(worker, 1)
    worker.close()
    assert answers.calls == [("run_job", ID)]


def test_an_answer_that_fails_does_not_stop_the_worker(
    queue: Queue, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    queue.answer(run_job=lambda _: [][0], warm_engine=lambda job_id: answers.calls.append(("warm_engine", job_id)))
    queue.wake(ID)
    queue.warm(ID)
    with caplog.at_level(logging.CRITICAL, "huey"):
        loops(queue, 2)
    assert answers.calls == [("warm_engine", ID)]


def test_a_call_costs_no_fsync_and_keeps_no_result(queue: Queue, answers: Answers, journal: str) -> None:
    queue.wake(ID)
    loops(queue, 1)
    assert queue.huey.storage.sql("PRAGMA synchronous", results=True) == [(0,)]
    assert queue.huey.storage.sql("PRAGMA journal_mode", results=True) == [(journal.lower(),)]
    assert queue.huey.result_count() == 0


def test_the_queue_runs_on_the_sqlite_of_the_box(queue: Queue) -> None:
    assert isinstance(queue.huey.storage.conn, sqlite.driver.Connection)


# A file that is lost, locked or damaged


@pytest.mark.parametrize("call", [Queue.wake, Queue.warm])
def test_a_call_on_a_locked_file_is_only_logged(
    path: Path, queue: Queue, call: Callable[[Queue, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    outside = sqlite.connect(path, isolation_level=None)
    outside.execute("BEGIN EXCLUSIVE")
    call(queue, ID)
    outside.close()
    assert ID in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert len(queue.huey) == 0
    call(queue, ID)
    assert len(queue.huey) == 1


@pytest.mark.parametrize(
    ("process", "said"), [(Worker, "Error reading from queue"), (Scheduler, "Error reading schedule")]
)
def test_what_huey_says_of_a_locked_file_is_a_line(
    path: Path, queue: Queue, caplog: pytest.LogCaptureFixture, process: Any, said: str
) -> None:
    log = logging.getLogger(f"huey.consumer.{process.process_name}")
    log.addFilter(quiet)
    queue.wake(ID)
    outside = sqlite.connect(path, isolation_level=None)
    outside.execute("BEGIN EXCLUSIVE")
    try:
        stop = threading.Event()
        stop.set()
        options: tuple[Any, ...] = (60, False) if process is Scheduler else (0.01, 0.01, 1)
        process(queue.huey, stop, *options).loop()
    finally:
        outside.close()
        log.removeFilter(quiet)
    (record,) = [one for one in caplog.records if said in one.getMessage()]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "locked" in record.getMessage()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_by_folder(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()
    path.mkdir()


def scribble(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"no database at all " * 1000)


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("harm", [remove_folder, replace_by_folder, scribble])
def test_a_call_never_raises_whatever_happened_to_the_file(
    path: Path, queue: Queue, harm: Callable[[Path], None], used: bool
) -> None:
    if used:
        queue.wake(ID)
    harm(path)
    queue.wake(ID)
    queue.warm(ID)


def test_a_full_disk_is_only_logged(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.huey.storage.sql("PRAGMA max_page_count = 1")
    for _ in range(200):
        queue.wake(ID)
    assert "full" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all " * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 20_000),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
    ],
    ids=["text", "overwritten", "truncated"],
)
def test_a_damaged_file_is_replaced_by_a_new_one(
    path: Path, damage: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    Queue(path).close()
    damage(path)
    queue = open_queue(path)
    answers = Answers(queue)
    queue.wake(ID)
    loops(queue, 1)
    queue.close()
    assert answers.calls == [("run_job", ID)]
    assert "starting a new one" in caplog.text


def test_a_lost_file_is_made_anew_at_the_next_start(path: Path) -> None:
    first = Queue(path)
    first.wake(ID)
    first.close()
    for file in path.parent.iterdir():
        file.unlink()
    queue = open_queue(path)
    answers = Answers(queue)
    loops(queue, 1)
    assert answers.calls == []
    queue.wake(ID)
    loops(queue, 1)
    queue.close()
    assert answers.calls == [("run_job", ID)]


def test_a_file_that_cannot_be_opened_is_not_taken_for_damaged(tmp_path: Path) -> None:
    with pytest.raises(sqlite.driver.OperationalError, match="unable to open"):
        Queue(tmp_path / "nowhere" / "huey.db")


def test_what_a_call_may_not_swallow_is_a_mistake_of_ours(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(_: str) -> None:
        raise AttributeError("typo")

    monkeypatch.setattr(queue, "_run_job", mistaken)
    with pytest.raises(AttributeError, match="typo"):
        queue.wake(ID)


def test_the_names_of_tasks_are_those_that_are_registered(queue: Queue) -> None:
    registered = {name.rpartition(".")[2] for name in queue.huey._registry._registry}
    assert registered == set(TASKS)
