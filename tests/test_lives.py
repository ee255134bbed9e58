"""Accepted means on disk; canceled and deleted mean gone: whatever the job is doing, and whatever hangs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from chaos_support import LONG, PATIENCE, ROUNDS, Box, box, descriptors, dice, speech
from support import SAMPLES, wait_until

from tasks.db import POOL_SIZE

pytestmark = pytest.mark.chaos

SHORT = SAMPLES / "en-u000.flac"
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow.wav"\r\n\r\n'


def held(of: Box) -> list[str]:
    """Media that is deleted and still open or mapped in one of the box's processes: its space isn't back."""
    found = []
    for process in of.processes():
        proc = Path(f"/proc/{process.pid}")
        try:
            lines = [str(entry.readlink()) for entry in (proc / "fd").iterdir()]
            lines += (proc / "maps").read_text().splitlines()
        except OSError:  # it has just gone, or one of its files
            continue
        found += [line for line in lines if str(of.data / "media") in line and line.endswith(" (deleted)")]
    return found


def upload_slowly(of: Box) -> socket.socket:
    """An upload that has begun and goes no further."""
    connection = socket.create_connection(("127.0.0.1", int(of.served.url.rpartition(":")[2])))
    head = f"POST /api/v1/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**6}\r\n"
    connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + HEAD + bytes(100_000))
    return connection


@contextmanager
def running(of: Box, stage: str | None = None, known: int = 1) -> Iterator[tuple[str, Callable[[], None]]]:
    """A job held in that stage, and how it is let go on; whatever the stage, just claimed, when there is none.
    known: as for `holding.held`."""
    job_id: str = of.served.submit(speech(of.folder))["id"]
    if stage is None:
        wait_until(lambda: of.row(job_id)["state"] == "running", PATIENCE, every=0.005)
        yield job_id, lambda: None
        return
    with of.held(job_id, stage, known) as engine:
        yield job_id, engine.resume


def gone(process: psutil.Process) -> bool:
    """Whether it has ended, if not been collected."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def cancel(of: Box, job_id: str) -> None:
    assert of.served.post(f"/api/v1/jobs/{job_id}/cancel").status_code in (200, 202)


def delete(of: Box, job_id: str) -> None:
    assert httpx.delete(f"{of.served.url}/api/v1/jobs/{job_id}", timeout=60).status_code == 204


def stopped(of: Box, job_id: str, how: Callable[[Box, str], None], then: Callable[[], None] = lambda: None) -> float:
    """Cancel or delete it, and do what comes then. Seconds until nothing works on it and nothing of it is left but what
    should be."""
    began = time.monotonic()
    how(of, job_id)
    then()
    if how is cancel:
        wait_until(lambda: of.row(job_id)["state"] == "canceled", PATIENCE, every=0.02)
    else:
        assert of.served.get(f"/api/v1/jobs/{job_id}").status_code == 404
    expected = {"source"} if how is cancel else set()
    wait_until(lambda: of.files(job_id) == expected and not of.find("tasks.decode.child"), PATIENCE, every=0.02)
    wait_until(lambda: not held(of), PATIENCE, every=0.02)
    return time.monotonic() - began


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.timeout(900 * ROUNDS)
def test_canceled_and_deleted_in_every_state(tmp_path: Path) -> None:
    with box(tmp_path, STENOBOX_SLOTS="1", STENOBOX_LEASE="2") as of:  # a heartbeat each half second
        done = of.served.submit(SHORT)
        assert of.served.finish(done, PATIENCE)["state"] == "completed"
        [web], [worker] = of.find("web"), of.find("worker")
        before = (descriptors(web), descriptors(worker))
        canceled = []
        for number in range(ROUNDS):
            for how in (cancel, delete):
                for stage in (None, "transcribe", "align"):
                    if number == 0 and not LONG and stage is None and how is cancel:
                        continue
                    with running(of, stage) as (job_id, go_on):
                        waiting = of.served.submit(SHORT)["id"]
                        seconds = [stopped(of, waiting, how), stopped(of, job_id, how, then=go_on)]
                    took = f"{seconds[0]:.1f} and {seconds[1]:.1f} s"
                    print(f"{how.__name__} while it waits, and at {stage or 'its claim'}: {took}")
                    canceled += [waiting, job_id] if how is cancel else []
                # And hangs, with the interpreter's lock and all. It has begun: one that still loads is left alone.
                with running(of, "transcribe", known=2) as (job_id, _):
                    [engine] = of.find("tasks.engine.child")
                    print(f"{how.__name__} of what hangs: {stopped(of, job_id, how):.1f} s")
                wait_until(lambda engine=engine: gone(engine), PATIENCE)  # a gigabyte takes a while to be given back
                canceled += [job_id] if how is cancel else []
            with upload_slowly(of):
                wait_until(lambda: of.count("state = 'receiving'") == 1, PATIENCE)
                with of.connect() as database:
                    [arriving] = database.execute("SELECT id FROM jobs WHERE state = 'receiving'").fetchone()
                delete(of, arriving)
                assert of.count("state = 'receiving'") == 0
            wait_until(lambda gone=arriving: not of.files(gone), PATIENCE)
        last = of.served.submit(SHORT)
        assert of.served.finish(last, PATIENCE)["state"] == "completed"
        for job_id in canceled:  # nothing came back to life
            assert of.row(job_id)["state"] == "canceled"
            delete(of, job_id)
        assert {row["id"] for row in of.served.get("/api/v1/jobs").json()["jobs"]} == {done["id"], last["id"]}
        print(f"descriptors of web and worker: {before} before, {(descriptors(web), descriptors(worker))} after")
        for process, (_, others) in zip((web, worker), before, strict=True):
            wait_until(lambda process=process, others=others: descriptors(process)[1] <= others, PATIENCE)
            wait_until(
                lambda process=process: descriptors(process)[0] <= 2 * POOL_SIZE + 1, PATIENCE
            )  # and what they share
        assert of.served.stop(seconds=60) == 0
        with of.connect() as database:
            database.execute("DELETE FROM book WHERE id NOT IN (SELECT id FROM jobs)")
        of.must_be_whole({done["id"], last["id"]})


@pytest.mark.timeout(600 * ROUNDS)
def test_what_was_acknowledged_is_there_after_everything_was_killed_and_what_was_not_is_gone(tmp_path: Path) -> None:
    chance = dice()
    with box(tmp_path) as of:
        accepted: set[str] = set()
        for _ in range(ROUNDS):
            over, known = threading.Event(), len(accepted)

            def submit(over: threading.Event = over) -> None:
                while not over.is_set():
                    try:
                        accepted.add(of.served.submit(SHORT)["id"])
                    except (httpx.TransportError, AssertionError):  # killed while it was sent, or refused meanwhile
                        over.wait(0.1)

            with upload_slowly(of), ThreadPoolExecutor(4) as pool:
                try:
                    wait_until(lambda: of.count("state = 'receiving'") == 1, PATIENCE, every=0.01)
                    sending = [pool.submit(submit) for _ in range(4)]
                    wait_until(lambda known=known: len(accepted) > known + 1, PATIENCE, every=0.01)
                    time.sleep(chance.uniform(0, 0.5))
                    of.kill()
                finally:
                    over.set()
                for one in sending:
                    one.result(PATIENCE)
            with of.connect() as database:
                there = {row["id"]: row["state"] for row in database.execute("SELECT id, state FROM jobs")}
            assert accepted <= set(there)
            for job_id in accepted:
                assert "source" in of.files(job_id)
                assert (of.data / "media" / job_id / "source").read_bytes() == SHORT.read_bytes()
            broken = {job_id for job_id, state in there.items() if state == "receiving"}
            assert broken
            of.start()
            wait_until(lambda: of.count("state = 'receiving'") == 0, PATIENCE)
            for job_id in broken:
                assert not of.row(job_id)
                assert not of.files(job_id)
            of.settle()
        assert of.served.stop(seconds=60) == 0
        rows = of.must_be_whole(accepted)
        assert {row["state"] for row in rows.values()} == {"completed"}
        print(f"{len(accepted)} acknowledged, {len(rows)} there")
