#!/usr/bin/env python
"""Overload a server in a memory-capped control group and see that nothing dies: a table of what happened.

    .venv/bin/python tools/overload.py                        1.5, 2 and 4 GB, ten minutes each
    .venv/bin/python tools/overload.py --gib 1.6 --seconds 30

Needs Linux and a memory control group that may be made below (root, usually). Exits 1 when the kernel killed
anything, when a submission was answered other than 202, 422 or 429, or when an accepted job did not complete.
"""

from __future__ import annotations

import argparse
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
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tasks import store
from tasks.db import Database
from tasks.machine import working_set

SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "samples" / "en-u002.flac"
BASE = Path("/sys/fs/cgroup")
CLIENTS = 16


class Group:
    """A memory control group of version 1 or 2, with a limit in bytes. Raises OSError where none can be made."""

    def __init__(self, limit: int) -> None:
        self.first = (BASE / "memory").is_dir()
        parent = BASE / "memory" if self.first else BASE
        self.folder = parent / f"stenobox-overload-{os.getpid()}"
        if not self.first:
            (BASE / "cgroup.subtree_control").write_text("+memory")
        self.folder.mkdir()
        try:
            self.limit(limit)
            if not self.first:
                (self.folder / "memory.swap.max").write_text("0")
        except OSError:
            self.folder.rmdir()
            raise

    def limit(self, limit: int) -> None:
        (self.folder / ("memory.limit_in_bytes" if self.first else "memory.max")).write_text(str(limit))

    def used(self) -> int:
        """As Stenobox counts it from inside."""
        return working_set(self.folder) or 0

    def oom_kills(self) -> int:
        lines = (self.folder / ("memory.oom_control" if self.first else "memory.events")).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def remove(self) -> None:
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:  # the last process is still on its way out
                time.sleep(0.1)


def start(group: Group, data: Path, log: Path, variables: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """`stenobox serve` inside the group: sh enters it and becomes the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    command = ["sh", "-c", enter, str(group.folder), sys.executable, "-P", "-m", "webapp.cli", "serve"]
    environment = os.environ | {"STENOBOX_DATA": str(data), "STENOBOX_PORT": str(port)} | variables
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd="/")
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            if httpx.get(f"{url}/healthz", timeout=2).status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.2)
    process.terminate()
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


class Clients:
    """Threads that submit at a steady rate together, whatever the answers are."""

    def __init__(self, url: str, rate: float) -> None:
        self.url, self.gap = url, CLIENTS / rate
        self.answers: Counter[str] = Counter()
        self.accepted: list[str] = []
        self.refusals: list[float] = []
        self._body = SAMPLE.read_bytes()
        self._lock = threading.Lock()

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._submit_until, args=(end, n)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _submit_until(self, end: float, number: int) -> None:
        time.sleep(self.gap * number / CLIENTS)
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while (began := time.monotonic()) < end:
                self._submit(client)
                time.sleep(max(0.0, self.gap - (time.monotonic() - began)))

    def _submit(self, client: httpx.Client) -> None:
        began = time.monotonic()
        try:
            answer = client.post("/api/v1/transcriptions", files={"file": ("a.flac", self._body)})
        except httpx.TransportError as error:
            with self._lock:
                self.answers[type(error).__name__] += 1
            return
        body = answer.json()
        with self._lock:
            if answer.status_code == 202:
                self.answers["202"] += 1
                self.accepted.append(body["id"])
            else:
                self.answers[f"{answer.status_code} {body['error']['code']}"] += 1
                self.refusals.append(time.monotonic() - began)


def finish(url: str, ids: list[str], seconds: float) -> Counter[str]:
    """Wait until all are done; how many are in each state."""
    waiting, states = set(ids), Counter[str]()
    end = time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60) as client:
        while waiting and time.monotonic() < end:
            for job_id in list(waiting):
                state = client.get(f"/api/v1/jobs/{job_id}").json()["state"]
                if state in ("completed", "failed", "canceled"):
                    waiting.remove(job_id)
                    states[state] += 1
            time.sleep(0.5)
    states["unfinished"] = len(waiting)
    return +states


def overload(group: Group, seconds: float, rate: float, variables: dict[str, str], patience: float) -> dict[str, Any]:
    """One run: what happened."""
    with tempfile.TemporaryDirectory(prefix="stenobox-overload-") as scratch:
        data, log = Path(scratch) / "data", Path(scratch) / "serve.log"
        process = None
        try:
            process, url = start(group, data, log, variables)
            clients = Clients(url, rate)
            clients.run(seconds)
            states = finish(url, clients.accepted, patience)
            database = Database(data / "jobs.db")
            samples = store.list_samples(database, 0)
            attempts = [job.attempts for job in store.list_finished(database, 10_000)]
            database.close()
            return {
                "seconds": seconds,
                "submitted": sum(clients.answers.values()),
                "answers": dict(sorted(clients.answers.items())),
                "ended": dict(states),
                "attempts_most": max(attempts, default=0),
                "refusal_ms": round(statistics.median(clients.refusals) * 1000, 1) if clients.refusals else None,
                "oom_kills": group.oom_kills(),
                "peak_percent": round(max(s.memory_used / s.memory_limit for s in samples) * 100, 1),
                "guard": dict(Counter(s.guard for s in samples)),
                "log": log.read_text()[-4000:],
            }
        finally:
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def good(result: dict[str, Any]) -> bool:
    """No kill, no other answer than yes, never and later, and what was accepted is done."""
    known = all(answer.startswith(("202", "422 never_fits", "429")) for answer in result["answers"])
    ended = result["ended"] == ({"completed": result["answers"]["202"]} if "202" in result["answers"] else {})
    return result["oom_kills"] == 0 and known and ended


def main() -> int:
    parser = argparse.ArgumentParser(description="Overload a server in a memory-capped control group.")
    parser.add_argument("--gib", type=float, nargs="+", default=[1.5, 2.0, 4.0], help="memory limits")
    parser.add_argument("--seconds", type=float, default=600, help="of overload, for each limit")
    parser.add_argument("--rate", type=float, default=20, help="submissions a second")
    parser.add_argument("--patience", type=float, default=1800, help="seconds for what was accepted to finish")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="variables of the server")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    results = []
    print("GiB   submitted  answers, ends, guard's samples")
    for gib in options.gib:
        variables = dict(pair.split("=", 1) for pair in options.set)
        group = Group(int(gib * 2**30))
        try:
            result = overload(group, options.seconds, options.rate, variables, options.patience)
        finally:
            group.remove()
        results.append({"gib": gib, **result})
        shown = {k: v for k, v in result.items() if k not in ("submitted", "seconds", "log")}
        print(f"{gib:<5} {result['submitted']:<10} {json.dumps(shown)}", flush=True)
        if not good(result):
            print(result["log"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if all(map(good, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
