#!/usr/bin/env python
"""Benchmarks of admission: ratios and counts from one run, on loopback. `make bench` runs all three.

    crowd     500 submitters at once against a box with room for 20: who is admitted, and what the others are told
    refusals  refusals a second beside those of a Starlette application that does nothing else
    promises  clients that wait exactly as long as they were told: how many are admitted when they come back

Exits 1 when the crowd was not counted exactly. Times depend on the machine; ratios much less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "samples" / "en-u002.flac"
PATH = "/api/v1/transcriptions"
BARE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

def refuse(request: Request) -> JSONResponse:
    error = {"code": "queue_full", "message": "The box is full.", "type": "rate_limit_error", "param": None}
    return JSONResponse({"error": error}, 429, {"Retry-After": "30"})

async def refuse_at_once(request: Request) -> JSONResponse:
    return refuse(request)

app = Starlette(routes=[Route("/api/v1/transcriptions", refuse_at_once, methods=["POST"]), Route("/healthz", refuse)])
uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, server_header=False)
"""


def form(data: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    return head + data + b"\r\n--edge--\r\n"


BODY = form(SAMPLE.read_bytes())


def head(*lines: str) -> bytes:
    always = (f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: multipart/form-data; boundary=edge")
    return "\r\n".join((*always, f"Content-Length: {len(BODY)}", *lines, "", "")).encode()


@contextmanager
def serving(command: list[str], **variables: str) -> Iterator[tuple[str, int]]:
    """A server on a free port while the block runs: its URL and port. "{port}" in the command is replaced."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="stenobox-bench-") as data:
        environment = os.environ | {"STENOBOX_DATA": data, "STENOBOX_PORT": str(port)} | variables
        with (Path(data) / "log").open("wb") as log:
            filled = [part.replace("{port}", str(port)) for part in command]
            process = subprocess.Popen([sys.executable, *filled], env=environment, stdout=log, stderr=log, cwd="/")
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, process)
            yield url, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            httpx.get(f"{url}/healthz", timeout=2)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


# A crowd


@dataclass
class Answer:
    """status of the answer; before_body: whether it came before the body was asked for; headers in lower case."""

    status: int
    before_body: bool
    headers: dict[str, str]


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value for name, _, value in pairs}


async def submit_politely(port: int) -> Answer:
    """Send the head and "Expect: 100-continue"; the body only when it is asked for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head("Expect: 100-continue"))
        status, headers = await _read_head(reader)
        if status != 100:
            return Answer(status, True, headers)
        writer.write(BODY)
        return Answer(*(await _read_head(reader))[:1], False, {})
    finally:
        writer.close()


async def crowd(port: int, number: int) -> list[Answer]:
    return list(await asyncio.gather(*(submit_politely(port) for _ in range(number))))


def run_crowd(submitters: int, places: int) -> dict[str, Any]:
    """The web process alone, so that no job ends and the count is exact."""
    with serving(["-P", "-m", "webapp.cli", "web"], STENOBOX_SLOTS="2", STENOBOX_QUEUE_LIMIT=str(places - 2)) as (
        _,
        port,
    ):
        began = time.monotonic()
        answers = asyncio.run(crowd(port, submitters))
        took = time.monotonic() - began
    refused = [answer for answer in answers if answer.status == 429]
    return {
        "submitters": submitters,
        "places": places,
        "admitted": sum(answer.status == 202 for answer in answers),
        "refused": len(refused),
        "before_body": sum(answer.before_body for answer in refused),
        "integer_retry_after": sum(answer.headers.get("retry-after", "").isdigit() for answer in refused),
        "5xx": sum(answer.status >= 500 for answer in answers),
        "other": dict(Counter(str(answer.status) for answer in answers if answer.status not in (202, 429))),
        "seconds": round(took, 2),
    }


def exact(found: dict[str, Any]) -> bool:
    """Exactly so many admitted, and all others refused as they should be."""
    rest = found["submitters"] - found["places"]
    told = (found["refused"], found["before_body"], found["integer_retry_after"])
    return found["admitted"] == found["places"] and told == (rest, rest, rest) and not found["5xx"]


# Refusals


class Hammer(asyncio.Protocol):
    """Posts on one connection, again when the answer is there; counts answers by status."""

    def __init__(self, request: bytes, answers: Counter[int]) -> None:
        self.lost = asyncio.Event()
        self._request, self._answers = request, answers
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        top, end, rest = self._heard.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(top.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._answers[int(top.split(None, 2)[1])] += 1
        self._heard = b""
        if b"connection: close" in top.lower():
            self._transport.close()
        else:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def _same(hammer: Hammer) -> Hammer:
    return hammer


async def hammer(port: int, seconds: float, connections: int) -> Counter[int]:
    """Answers by status of so many connections that post all the time."""
    answers: Counter[int] = Counter()
    request = head() + BODY

    async def again_and_again() -> None:
        while True:
            hammer = Hammer(request, answers)
            transport, _ = await asyncio.get_running_loop().create_connection(partial(_same, hammer), "127.0.0.1", port)
            try:
                await hammer.lost.wait()
            finally:
                transport.close()

    tasks = [asyncio.create_task(again_and_again()) for _ in range(connections)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return answers


def run_refusals(rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    """A full box and a bare application take turns, so that what slows the machine slows both."""
    web = serving(["-P", "-m", "webapp.cli", "web"], STENOBOX_SLOTS="1", STENOBOX_QUEUE_LIMIT="19")
    with web as (_, box), serving(["-c", BARE, "{port}"]) as (_, bare):
        asyncio.run(crowd(box, 20))  # it is full now, and nothing ends
        rates: dict[str, list[float]] = {"box": [], "bare": []}
        for _ in range(rounds):
            for name, port in (("box", box), ("bare", bare)):
                answers = asyncio.run(hammer(port, seconds, connections))
                assert set(answers) == {429}, answers
                rates[name].append(answers[429] / seconds)
    ratios = [ours / theirs for ours, theirs in zip(rates["box"], rates["bare"], strict=True)]
    return {
        "body_bytes": len(BODY),
        "box": round(statistics.median(rates["box"])),
        "bare": round(statistics.median(rates["bare"])),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


# Promises


async def client(url: str, key: str, found: Counter[str], waits: list[float]) -> None:
    """Submit; when refused wait exactly as told, and come back until admitted."""
    async with httpx.AsyncClient(timeout=60) as http:
        returned = False
        while True:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answer = await http.post(url + PATH, files={"file": ("a.flac", SAMPLE.read_bytes())}, headers=headers)
            if answer.status_code == 202:
                found["admitted on return" if returned else "admitted at once"] += 1
                return
            assert answer.status_code == 429, answer.text
            found["refused on return" if returned else "refused first"] += 1
            returned = True
            waits.append(float(answer.headers["Retry-After"]))
            await asyncio.sleep(waits[-1])


async def bursts(url: str, clients: int, keys: int, found: Counter[str], waits: list[float]) -> None:
    await asyncio.gather(*(client(url, f"key-{n % keys}" if keys else "", found, waits) for n in range(clients)))


def _idle(url: str) -> None:
    while any(httpx.get(f"{url}/api/v1/jobs?state={state}").json()["jobs"] for state in ("queued", "running")):
        time.sleep(0.2)


def run_promises(clients: int, rounds: int) -> list[dict[str, Any]]:
    """A real box with the demo model. In each round all come at once; nobody else does."""
    rows = []
    for slots, queue_limit in ((1, 0), (1, 3), (2, 2)):
        variables = {"STENOBOX_SLOTS": str(slots), "STENOBOX_QUEUE_LIMIT": str(queue_limit)}
        with serving(["-P", "-m", "webapp.cli", "serve"], **variables) as (url, _):
            for _ in range(3):  # the model is loaded, and the box knows how long its jobs take
                asyncio.run(client(url, "", Counter(), []))
                _idle(url)
            for keys in (0, clients):
                found: Counter[str] = Counter()
                waits: list[float] = []
                for _ in range(rounds):
                    asyncio.run(bursts(url, clients, keys, found, waits))
                    _idle(url)
                came_back = found["admitted on return"] + found["refused on return"]
                rows.append(
                    {
                        "slots": slots,
                        "queue": queue_limit,
                        "keys": keys,
                        "returns": came_back,
                        "kept": round(found["admitted on return"] / came_back, 3) if came_back else None,
                        "longest_told": max(waits, default=0),
                    }
                )
                print(f"  {rows[-1]}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmarks of admission, on loopback.")
    parser.add_argument("which", nargs="*", metavar="NAME", help="crowd, refusals, promises (default: all)")
    parser.add_argument("--submitters", type=int, default=500)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each round of refusals")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--clients", type=int, default=15, help="of each round of promises")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    which, results = options.which or ["crowd", "refusals", "promises"], {}
    good = True
    if "crowd" in which:
        results["crowd"] = run_crowd(options.submitters, options.places)
        good = exact(results["crowd"])
        print(f"crowd: {json.dumps(results['crowd'])}: {'exact' if good else 'NOT EXACT'}", flush=True)
    if "refusals" in which:
        results["refusals"] = run_refusals(options.rounds, options.seconds, options.connections)
        print(f"refusals: {json.dumps(results['refusals'])} (wanted: a ratio of 0.8)", flush=True)
    if "promises" in which:
        print("promises (wanted: 0.9 kept)")
        results["promises"] = run_promises(options.clients, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
