"""Ten interruptions at random points, five of the client, five of the server by kill -9: the same bytes in the end."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from support import free_port, wait_until

from tasks import media
from tasks.config import Config

SIZE = 40_000_000
HEADERS = {"Tus-Resumable": "1.0.0"}


def start(config: Config, port: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "STENOBOX_DATA": str(config.data), "STENOBOX_PORT": str(port)}
    with (config.data.parent / "log").open("ab") as log:
        command = [sys.executable, "-P", "-m", "webapp.cli", "web"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(up, 120)
    return process


def send(port: int, path: str, offset: int, data: bytes, until: int) -> socket.socket:
    """Begin to send all that is left; the connection after so many bytes of it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    lines = [
        f"PATCH {path} HTTP/1.1", "Host: localhost", "Tus-Resumable: 1.0.0", f"Upload-Offset: {offset}",
        f"Content-Length: {len(data) - offset}", "Content-Type: application/offset+octet-stream", "", "",
    ]  # fmt: skip
    connection.sendall("\r\n".join(lines).encode())
    connection.sendall(memoryview(data)[offset : offset + until])
    return connection


def test_an_upload_interrupted_at_ten_random_points_arrives_byte_for_byte(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    data = chance.randbytes(SIZE)
    config, port = Config(data=tmp_path / "data"), free_port()
    url = f"http://127.0.0.1:{port}"
    web = start(config, port)
    try:
        begin = {"Upload-Length": str(SIZE), "Upload-Metadata": "filename YS5tcDM=,submit MQ=="}
        path = httpx.post(f"{url}/api/v1/uploads", headers=HEADERS | begin).headers["location"]

        def offset() -> int:
            return int(httpx.head(url + path, headers=HEADERS, timeout=30).headers["upload-offset"])

        at = 0
        for number in range(10):
            connection = send(port, path, at, data, chance.randrange(1, SIZE // 12))
            if number % 2:
                connection.close()
            else:
                web.send_signal(signal.SIGKILL)
                web.wait()
                connection.close()
                web = start(config, port)
            assert offset() >= at  # what was told is never taken back
            wait_until(lambda: not httpx.get(url + path, timeout=30).json()["active"], 30)
            at = offset()
        with send(port, path, at, data, SIZE) as connection:
            wait_until(lambda: offset() == SIZE, 60)
            assert b" 204 " in connection.recv(1000)
        job = httpx.get(f"{url}/api/v1/jobs/{path.rpartition('/')[2]}").json()
        assert (job["state"], job["source"]["bytes"]) == ("queued", SIZE)
        with media.source(config, job["id"]).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()
    finally:
        web.kill()
        web.wait()
