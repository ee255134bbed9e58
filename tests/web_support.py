"""What tests of the faces share: forms written by hand, jobs in any state, and a real server without a worker."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from contract import hold
from starlette.testclient import TestClient
from support import BUSY_SECONDS, migrate_by_copy, wait_until

from tasks import media, store
from tasks.actions import Box
from tasks.capacity import Request
from tasks.config import Config
from tasks.jobs import Job, Params, Source, State
from tasks.transcripts import as_json
from webapp.app import create_app

BOUNDARY = b"xXboundaryXx"
FORM = {"Content-Type": "multipart/form-data; boundary=" + BOUNDARY.decode()}
END = b"--" + BOUNDARY + b"--\r\n"
LOST = "0123456789abcdef" * 2
"""An id in the right form that no job has."""

TRANSCRIPT: dict[str, Any] = {
    "language": "en",
    "seconds": 2.5,
    "text": "yes no",
    "segments": [
        {
            "id": 0,
            "start": 0.5,
            "end": 2.0,
            "text": "yes no",
            "speaker": None,
            "confidence": 0.9,
            "words": [
                {"word": "yes", "start": 0.5, "end": 1.0, "confidence": 0.9},
                {"word": "no", "start": 1.2, "end": 2.0, "confidence": 0.8},
            ],
        }
    ],
}


def part(disposition: str | bytes, data: bytes = b"sound", headers: bytes = b"") -> bytes:
    """One part of a form, its headers exactly as given."""
    if isinstance(disposition, str):
        disposition = disposition.encode()
    start = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition
    return start + b"\r\n" + headers + b"\r\n" + data + b"\r\n"


def file_part(data: bytes = b"sound", name: str | bytes = "talk.mp3") -> bytes:
    """The part `file`, under a name as browsers write it."""
    if isinstance(name, str):
        name = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode()
    return part(b'name="file"; filename="' + name + b'"', data)


def field_part(name: str, value: str) -> bytes:
    return part(f'name="{name}"', value.encode())


def client_of(config: Config, **options: Any) -> TestClient:
    """A client of the application, as a context manager. It sees internal errors as a stranger does: as a 500.

    Every answer is held to the OpenAPI document, whatever the test is about.
    """
    migrate_by_copy(config)
    options = {"base_url": "http://localhost", "raise_server_exceptions": False, "follow_redirects": False, **options}
    client = TestClient(create_app(config), **options)
    client.event_hooks = {"response": [hold]}
    return client


def put_job(
    box: Box, state: State, name: str = "talk.mp3", transcript: dict[str, Any] | None = None, **facts: Any
) -> Job:
    """A job in that state, led there the way a real one goes. facts: what a Failure or a result carries."""
    first, database = box.planner.first(), box.database
    if state == State.RECEIVING:
        return box.get(store.admit(database, first, Request(), Source("upload", name), box.receiver))
    with box.receive(name) as receiving:
        receiving.write(b"sound")
        job = receiving.queue(Params("demo", facts.get("language")))
    if state == State.QUEUED:
        return box.get(job.id)
    if state == State.CANCELED:
        box.cancel(job.id)
        return box.get(job.id)
    attempt = store.claim_next(database, first, "a worker", 3600)
    assert attempt is not None
    assert attempt.job.id == job.id, "another job was ahead"
    if state == State.FAILED:
        store.fail_if_owned(
            database, attempt.token, facts.get("code", "no_audio"), facts.get("message", "There is no sound in it.")
        )
    if state == State.COMPLETED:
        result = f"{attempt.token}.json"
        body = TRANSCRIPT if transcript is None else transcript
        media.write_durably(media.transcript(box.config, job.id, result), as_json(body).encode())
        store.finish_if_owned(database, attempt.token, result, body["seconds"], facts.get("note"), work=1.0)
    return box.get(job.id)


def put_every_state(box: Box) -> dict[State, Job]:
    """One job in each state; needs three places."""
    states = (State.COMPLETED, State.FAILED, State.RUNNING, State.CANCELED, State.QUEUED, State.RECEIVING)
    return {state: put_job(box, state, f"{state}.mp3") for state in states}


class Live:
    """A real uvicorn in this process, with no worker behind it: jobs stay queued."""

    def __init__(self, config: Config, **more: Any) -> None:
        self.config = config
        migrate_by_copy(config)
        self.app = create_app(config)
        options: dict[str, Any] = {
            "log_config": None,
            "access_log": False,
            "lifespan": "on",
            "timeout_graceful_shutdown": 1,
        }
        self.server = uvicorn.Server(uvicorn.Config(self.app, **options | more))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def box(self) -> Box:
        box: Box = self.app.state.box
        return box

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=BUSY_SECONDS)

    def states(self) -> list[str]:
        return [job.state.value for job in store.list_jobs(self.box.database, None, 1000)]

    def folders(self) -> list[Path]:
        return list(self.config.media.iterdir())


@contextmanager
def live(config: Config, **more: Any) -> Iterator[Live]:
    """more: options of uvicorn's."""
    running = Live(config, **more)
    thread = threading.Thread(target=running.server.run, kwargs={"sockets": [running.socket]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: running.server.started, every=0.01)
        yield running
    finally:
        running.server.should_exit = True
        thread.join(BUSY_SECONDS)
        running.socket.close()
        assert not thread.is_alive()
