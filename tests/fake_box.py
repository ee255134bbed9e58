"""A box on loopback that answers as told: refusals, faults, answers that get lost. It keeps every job it took."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeBox(ThreadingHTTPServer):
    """script: what happens to the next submissions, one each: (status, code, Retry-After or None), "lost" (taken, no
    answer) or "broken" (not taken, no answer). Then everything is taken. runs: looks until a job is over."""

    daemon_threads = True

    def __init__(self, *script: Any, runs: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.script = deque(script)
        self.runs = runs
        self.capacity: dict[str, Any] | None = None
        self.jobs: list[dict[str, Any]] = []
        self.looks: dict[str, int] = {}
        self.fail: dict[str, str] = {}
        """Sentences of the jobs that fail, by the recording's name."""
        self.asked: list[float] = []
        """When submissions came."""
        self.forms: list[bytes] = []
        self.known: dict[str, dict[str, Any]] = {}
        """Jobs by the Idempotency-Key of their submission."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def names(self) -> list[str]:
        return [job["source"]["name"] for job in self.jobs]

    def take(self, name: str, size: int) -> dict[str, Any]:
        job = {
            "id": f"{len(self.jobs):032x}",
            "state": "queued",
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "source": {"name": name, "bytes": size},
            "error": None,
        }
        self.jobs.append(job)
        return job

    def look(self, job: dict[str, Any]) -> None:
        self.looks[job["id"]] = self.looks.get(job["id"], 0) + 1
        if self.looks[job["id"]] >= self.runs and job["state"] == "queued":
            sentence = self.fail.get(job["source"]["name"])
            job["state"] = "failed" if sentence else "completed"
            job["error"] = {"code": "undecodable", "message": sentence, "retryable": False} if sentence else None


class Answers(BaseHTTPRequestHandler):
    server: FakeBox
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        box = self.server
        box.asked.append(time.monotonic())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        box.forms.append(body)
        event = box.script.popleft() if box.script else None
        if isinstance(event, tuple):
            status, code, wait = event
            headers = {} if wait is None else {"Retry_After": str(wait)}
            error = {"code": code, "message": f"It says {code}.", "type": "x", "param": None}
            if code.startswith("unknown_"):
                error["param"] = code.removeprefix("unknown_")
            return self.answer(status, {"error": error}, **headers)
        key = self.headers["Idempotency-Key"] or ""
        job = box.known.get(key)
        if job is None and event != "broken":
            if self.headers["Content-Type"] == "application/json":
                url = json.loads(body)["url"]
                job = box.take(f"About {url.rpartition('/')[2]}", 0)
                job["source"]["url"] = url
            else:
                name = re.search(rb'filename="([^"]*)"', body)
                assert name
                sound = body.split(b"filename=")[1].split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0]
                job = box.take(name[1].decode(), len(sound))
            if key:
                box.known[key] = job
        if event is None:
            return self.answer(202, job)
        return self._lose()

    def _lose(self) -> None:
        self.close_connection = True

    def do_GET(self) -> None:
        box, path = self.server, self.path.partition("?")[0]
        if path == "/api/v1/capacity" and box.capacity is not None:
            return self.answer(200, box.capacity)
        if path == "/api/v1/jobs":
            return self.answer(200, {"jobs": box.jobs[::-1], "next": None})
        job = next((job for job in box.jobs if job["id"] in path), None)
        if job is None:
            error = {"code": "not_found", "message": "There is no such job.", "type": "x", "param": None}
            return self.answer(404, {"error": error})
        if path.endswith("/transcript"):
            return self.answer(200, f"words of {job['source']['name']}\n".encode())
        box.look(job)
        return self.answer(200, job)


@contextmanager
def standing(box: FakeBox) -> Iterator[FakeBox]:
    thread = threading.Thread(target=box.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield box
    finally:
        box.shutdown()
        box.server_close()
        thread.join()
