"""A small disk, really full: in the middle of an upload and in the middle of a transcription. The upload fails with a
sentence, the database stays whole, what waits in line waits, and once there is room everything goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chaos_support import PATIENCE, box
from support import SAMPLES, wait_until

from tasks.capacity import SPARE_BYTES
from tasks.heartbeat import RECONCILE_SECONDS

pytestmark = pytest.mark.chaos

MB = 2**20
SIZE_MB = SPARE_BYTES // MB + 100
"""More than what uploads must leave free, or every one would be refused at once."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "stenobox", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Somebody else's file, which leaves so many bytes."""
    path = folder / "ballast"

    def taken() -> bool:
        free = os.statvfs(folder)
        with path.open("wb") as file, contextlib.suppress(OSError):  # the box has just written some of it
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)
            return True
        return False

    wait_until(taken, PATIENCE)
    return path


def send_until_full(url: str, folder: Path) -> httpx.Response:
    """An upload in the middle of which somebody else takes the rest of the disk."""

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="slow.wav"\r\n\r\n' + bytes(2 * MB)
        wait_until(lambda: any(path.stat().st_size >= MB for path in folder.glob("data/media/*/source.part")), PATIENCE)
        fill(folder, leave=MB)
        for _ in range(8):
            yield bytes(MB)
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return httpx.post(url + "/api/v1/transcriptions", content=body(), headers=headers, timeout=PATIENCE)


@pytest.mark.timeout(900)
def test_full_in_the_middle_of_an_upload_and_of_a_transcription(disk: Path, tmp_path: Path) -> None:
    with box(disk, STENOBOX_SLOTS="1") as of:
        refused = send_until_full(of.served.url, disk)
        assert refused.status_code == 507
        assert refused.json()["error"]["code"] == "disk_full"
        wait_until(lambda: of.count("1") == 0 and not any((of.data / "media").iterdir()), PATIENCE)
        (disk / "ballast").unlink()

        first = of.served.submit(SAMPLES / "en-long2_en_120.flac")
        with of.held(first["id"]):
            second = of.served.submit(SAMPLES / "en-u000.flac")  # waits for the only slot
            ballast = fill(disk, leave=4 * MB)
            assert of.served.post("/api/v1/transcriptions", files={"file": b"x"}).status_code == 507
            assert of.served.get("/healthz").status_code == 200
        assert of.served.finish(first, PATIENCE)["state"] == "completed"  # it needed no more
        time.sleep(2 * RECONCILE_SECONDS)  # twice somebody looks whether something can be begun
        row = of.row(second["id"])
        assert (row["state"], row["attempts"]) == ("queued", 0)
        assert of.files(second["id"]) == {"source"}
        page = of.served.get("/").text
        assert "nothing is begun" in page
        assert [reason["code"] for reason in of.served.get("/readyz").json()["reasons"]] == ["disk_full"]

        ballast.unlink()
        assert of.served.finish(second, PATIENCE)["state"] == "completed"
        assert "nothing is begun" not in of.served.get("/").text
        assert of.served.stop(seconds=60) == 0
        of.must_be_whole({first["id"], second["id"]})
