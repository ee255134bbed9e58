#!/usr/bin/env python
"""How fast a gigabyte comes in over loopback, beside a bare Starlette application that writes the body to disk.

    put    `PUT /api/v1/transcriptions/a` (wanted: 0.9 of the bare one)
    tus    the same as one upload in slices of 32 MiB (wanted: 0.7)

All take turns in each round, so that what slows the machine slows all. Both sides write to the same disk; ours is also
synced to it, theirs is not. Exits 1 when a ratio or the web process's memory (wanted: 60 MB at most) is not as wanted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

BARE = """
import os
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

async def put(request: Request) -> JSONResponse:
    size = 0
    with open(os.path.join(sys.argv[2], "body"), "wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
            size += len(chunk)
    return JSONResponse({"bytes": size})

async def healthz(request: Request) -> JSONResponse:
    return JSONResponse({})

app = Starlette(routes=[Route("/put", put, methods=["PUT"]), Route("/healthz", healthz)])
uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, server_header=False)
"""
MIGRATE = "from tasks import config, db; db.open_database(config.from_env()).close()"
SLICE = 32 * 1024 * 1024
BLOCK = os.urandom(1024 * 1024)


@contextmanager
def serving(command: list[str]) -> Iterator[tuple[int, psutil.Process, Path]]:
    """A server on a free port while the block runs: port, process, its folder. {port} and {data} are replaced."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="stenobox-bench-") as data:
        environment = os.environ | {"STENOBOX_DATA": data, "STENOBOX_PORT": str(port), "STENOBOX_SLOTS": "1"}
        environment |= {"MALLOC_ARENA_MAX": "1"}  # as the supervisor has it
        filled = [part.replace("{port}", str(port)).replace("{data}", data) for part in command]
        # As `serve` does: what it takes to make the database is not in the web process.
        subprocess.run([sys.executable, "-c", MIGRATE], env=environment, cwd="/", check=True)
        log = (Path(data) / "log").open("wb")
        process = subprocess.Popen([sys.executable, *filled], env=environment, stdout=log, stderr=log, cwd="/")
        try:
            for _ in range(600):
                try:
                    ask(port, "GET", "/healthz")
                    break
                except OSError:
                    time.sleep(0.1)
            yield port, psutil.Process(process.pid), Path(data)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.close()


def ask(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, size: int = 0
) -> http.client.HTTPResponse:
    """One request with so many bytes of body, from memory."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.putrequest(method, path)
    for name, value in {"Content-Length": str(size), **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    view = memoryview(BLOCK)
    while size:
        sent = min(size, len(BLOCK))
        connection.sock.sendall(view[:sent])
        size -= sent
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status}")
    return answer


def bare(port: int, size: int) -> None:
    ask(port, "PUT", "/put", size=size)


def put(port: int, size: int) -> None:
    delete(port, ask(port, "PUT", "/api/v1/transcriptions/a", size=size).headers["Location"])


def tus(port: int, size: int) -> None:
    version = {"Tus-Resumable": "1.0.0"}
    begin = version | {"Upload-Length": str(size), "Upload-Metadata": "submit MQ=="}
    path = ask(port, "POST", "/api/v1/uploads", begin).headers["Location"]
    for offset in range(0, size, SLICE):
        headers = version | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = ask(port, "PATCH", path, headers, min(SLICE, size - offset))
    delete(port, answer.headers["Stenobox-Job"])


def delete(port: int, job: str) -> None:
    _clock.pause()
    ask(port, "DELETE", job)
    os.sync()


class Clock:
    """Seconds of what is measured; cleaning up after it is not."""

    def start(self) -> None:
        self.began, self.took = time.monotonic(), None

    def pause(self) -> None:
        self.took: float | None = time.monotonic() - self.began


_clock = Clock()


def measure(size: int, rounds: int) -> dict[str, object]:
    rates: dict[str, list[float]] = {"bare": [], "put": [], "tus": []}
    with (
        serving(["-P", "-m", "webapp.cli", "web"]) as (box, web, _),
        serving(["-c", BARE, "{port}", "{data}"]) as (
            other,
            _,
            folder,
        ),
    ):
        peak, stop = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.02):
                peak = max(peak, web.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        for number in range(rounds + 1):
            for name, run, port in (("bare", bare, other), ("put", put, box), ("tus", tus, box)):
                _clock.start()
                run(port, size if number else size // 10)
                if _clock.took is None:
                    _clock.pause()
                if number:  # the first is to warm up
                    rates[name].append(size / 1e6 / (_clock.took or 1))
            (folder / "body").unlink()
            os.sync()
        stop.set()
        thread.join()
    found: dict[str, object] = {name: round(statistics.median(values)) for name, values in rates.items()}
    for name in ("put", "tus"):
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates["bare"], strict=True)]
        found[f"{name}_ratio"] = round(statistics.median(ratios), 3)
        found[f"{name}_ratios"] = [round(ratio, 2) for ratio in ratios]
    return found | {"web_peak_mb": round(peak / 1e6, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Uploads beside a bare application, on loopback.")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.megabytes * 1_000_000, options.rounds)
    good = found["put_ratio"] >= 0.9 and found["tus_ratio"] >= 0.7 and found["web_peak_mb"] <= 60  # type: ignore[operator]
    print(f"uploads, MB/s: {json.dumps(found)}: {'as wanted' if good else 'NOT AS WANTED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
