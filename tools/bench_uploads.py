#!/usr/bin/env python
"""How fast a gigabyte comes in over loopback, beside two bare Starlette applications that write the body to disk.

    bare   writes each chunk as it comes, and answers while the disk still has to write
    synced writes 1 MiB at a time and answers when all of it is on disk, as ours does: 202 promises that
    put    `PUT /api/v1/transcriptions/a` (wanted: 0.9 of the bare one)
    tus    the same as one upload in slices of 32 MiB (wanted: 0.7), each on disk before its offset is told

All take turns in each round, another one first each time; files are removed and the disk is synced between them, off
the clock, so that nobody's dirty pages are written at another's expense. Ratios are medians over rounds: what slows the
machine slows all of a round. Exits 1 when a ratio to the bare one or the web process's memory (wanted: 60 MB at most)
is not as wanted.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from webapp.supervisor import MALLOC

BARE = """
import os
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
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

async def synced(request: Request) -> JSONResponse:
    size, piece = 0, bytearray()
    with open(os.path.join(sys.argv[2], "body"), "wb", buffering=0) as file:
        async for chunk in request.stream():
            piece += chunk
            size += len(chunk)
            if len(piece) >= 2**20:
                file.write(piece)
                piece = bytearray()
        file.write(piece)
        await run_in_threadpool(os.fsync, file.fileno())
    return JSONResponse({"bytes": size})

async def healthz(request: Request) -> JSONResponse:
    return JSONResponse({})

app = Starlette(routes=[
    Route("/put", put, methods=["PUT"]), Route("/synced", synced, methods=["PUT"]), Route("/healthz", healthz)
])
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
        environment |= MALLOC
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


class Clock:
    """Seconds of what is measured; cleaning up after it is not."""

    def start(self) -> None:
        self.began = time.monotonic()

    def stop(self) -> None:
        self.took = time.monotonic() - self.began


Run = Callable[[int, int, Clock], None]
"""Sends so many bytes to a port, stops the clock, and cleans up."""


def bare(path: str, folder: Path) -> Run:
    def run(port: int, size: int, clock: Clock) -> None:
        ask(port, "PUT", path, size=size)
        clock.stop()
        (folder / "body").unlink()

    return run


def put(port: int, size: int, clock: Clock) -> None:
    job = ask(port, "PUT", "/api/v1/transcriptions/a", size=size).headers["Location"]
    clock.stop()
    ask(port, "DELETE", job)


def tus(port: int, size: int, clock: Clock) -> None:
    version = {"Tus-Resumable": "1.0.0"}
    begin = version | {"Upload-Length": str(size), "Upload-Metadata": "submit MQ=="}
    path = ask(port, "POST", "/api/v1/uploads", begin).headers["Location"]
    for offset in range(0, size, SLICE):
        headers = version | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = ask(port, "PATCH", path, headers, min(SLICE, size - offset))
    clock.stop()
    ask(port, "DELETE", answer.headers["Stenobox-Job"])


@contextmanager
def watching(process: psutil.Process) -> Iterator[list[int]]:
    """The most memory that the process had while the block ran, as the only item."""
    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    stop.set()
    thread.join()


def measure(size: int, rounds: int) -> dict[str, object]:
    with (
        serving(["-P", "-m", "webapp.cli", "web"]) as (box, web, _),
        serving(["-c", BARE, "{port}", "{data}"]) as (other, _, folder),
        watching(web) as most,
    ):
        runs: list[tuple[str, Run, int]] = [
            ("bare", bare("/put", folder), other),
            ("put", put, box),
            ("synced", bare("/synced", folder), other),
            ("tus", tus, box),
        ]
        rates: dict[str, list[float]] = {name: [] for name, *_ in runs}
        for number in range(rounds + 1):
            first = number % len(runs)
            for name, run, port in runs[first:] + runs[:first]:
                os.sync()
                clock = Clock()
                clock.start()
                run(port, size if number else size // 10, clock)
                if number:  # the first is to warm up
                    rates[name].append(size / 1e6 / clock.took)
    found: dict[str, object] = {name: round(statistics.median(values)) for name, values in rates.items()}
    for ours in ("put", "tus"):
        for theirs in ("bare", "synced"):
            ratios = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
            found[f"{ours}_to_{theirs}"] = round(statistics.median(ratios), 3)
            found[f"{ours}_to_{theirs}_each"] = [round(ratio, 2) for ratio in ratios]
    return found | {"web_peak_mb": round(most[0] / 1e6, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Uploads beside a bare application, on loopback.")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.megabytes * 1_000_000, options.rounds)
    good = found["put_to_bare"] >= 0.9 and found["tus_to_bare"] >= 0.7 and found["web_peak_mb"] <= 60  # type: ignore[operator]
    print(f"uploads, MB/s: {json.dumps(found)}: {'as wanted' if good else 'NOT AS WANTED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
