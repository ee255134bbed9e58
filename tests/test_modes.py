"""What a whole box at work leaves readable: nothing of its files to other users, its password to nobody at all."""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import BUSY_SECONDS, SAMPLES, Served, free_port, serve, wait_until

pytestmark = pytest.mark.long

SAMPLE = SAMPLES / "en-u000.flac"
SECRET = "a donkey eats 4711 thistles"
WRONG = "a camel drinks 1174 puddles"


@pytest.fixture
def started() -> Iterator[list[Served]]:
    boxes: list[Served] = []
    yield boxes
    for box in boxes:
        box.stop()


# Files


class Modes:
    """Every file and folder that was ever seen below some folders, and those that others could read or write."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self.seen: set[str] = set()
        self.wrong: dict[str, str] = {}

    def look(self) -> None:
        for folder in self._folders:
            for parent, folders, files in os.walk(folder):
                for name in ("", *folders, *files):
                    self._note(Path(parent) / name)

    def _note(self, path: Path) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:  # gone meanwhile
            return
        self.seen.add(path.name)
        allowed = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
        if not stat.S_ISLNK(found.st_mode) and stat.S_IMODE(found.st_mode) != allowed:
            self.wrong[str(path)] = oct(found.st_mode)


def test_all_that_a_box_writes_is_its_users_alone_whoever_starts_it(started: list[Served], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    temporary = tmp_path / "tmp"
    temporary.mkdir(mode=0o700)
    variables = {"STENOBOX_METRICS": f"127.0.0.1:{free_port()}", "STENOBOX_SLOTS": "2", "TMPDIR": str(temporary)}
    box = serve(tmp_path, umask=0, **variables)
    started.append(box)
    modes = Modes(box.data, temporary)
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"no sound" * 1000)
    jobs = [box.submit(SAMPLE), box.submit(broken)]
    with SAMPLE.open("rb") as file:
        sent = box.post("/api/v1/audio-extractions", data={"format": "mp3"}, files={"file": ("talk.flac", file)})
    jobs.append(sent.json())
    begin_upload(box)

    def finished() -> bool:
        modes.look()
        states = [box.get(job["links"]["self"]).json()["state"] for job in jobs]
        return all(state in ("completed", "failed") for state in states)

    wait_until(finished, every=0.01)
    assert box.get(f"{jobs[0]['links']['self']}/transcript").status_code == 200
    backup = tmp_path / "box.tar"
    run_command("backup", str(backup), "--media", data=box.data)
    run_command("keys", "create", "phone", data=box.data)
    modes.look()
    assert box.stop() == 0, box.log.read_text()
    modes.look()
    assert modes.wrong == {}
    expected = {"jobs.db", "jobs.db-wal", "jobs.db-shm", "huey.db", "web.lock", "worker.lock", "supervisord.conf"}
    assert expected | {"media", "source", "source.part"} <= modes.seen, sorted(modes.seen)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with tarfile.open(backup) as file:
        assert {oct(member.mode & 0o077) for member in file.getmembers()} == {"0o0"}


def begin_upload(box: Served) -> None:
    """A resumable upload that never ends."""
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
    name = base64.b64encode(b"half.mp3").decode()
    made = box.post("/api/v1/uploads", headers=headers | {"Upload-Metadata": f"filename {name}"})
    more = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    patched = httpx.patch(box.url + httpx.URL(made.headers["Location"]).path, headers=headers | more, content=b"x" * 10)
    assert patched.status_code == 204


def run_command(*arguments: str, data: Path) -> None:
    command = [sys.executable, "-P", "-m", "webapp.cli", *arguments]
    subprocess.run(command, env=os.environ | {"STENOBOX_DATA": str(data)}, check=True, umask=0, capture_output=True)


# The password


def processes(box: Served) -> list[tuple[str, str]]:
    """Of the box's whole tree: command line and environment, as its user can read them."""
    found = []
    root = psutil.Process(box.process.pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            line, environment = " ".join(process.cmdline()), process.environ()
        except (psutil.Error, OSError):  # just left
            continue
        found.append((line, repr(environment)))
    return found


def test_the_password_is_in_no_process_log_page_or_error(started: list[Served], tmp_path: Path) -> None:
    box = serve(tmp_path, STENOBOX_PASSWORD=SECRET, STENOBOX_KEY="sb_of_the_operators_shell")
    started.append(box)
    assert box.get("/api/v1/jobs").status_code == 401
    seen: set[str] = set()
    texts: list[str] = []
    with httpx.Client(base_url=box.url, timeout=BUSY_SECONDS) as browser:

        def ask(method: str, path: str, **options: Any) -> httpx.Response:
            answer = browser.request(method, path, **options)
            texts.append(f"{answer.headers}\n{answer.text}")
            return answer

        assert ask("POST", "/login", data={"password": WRONG, "next": "/limits"}).status_code == 401
        entered = browser.post("/login", data={"password": SECRET})
        assert entered.status_code == 303
        token = entered.cookies["stenobox"]
        for path in ("/", "/settings", "/limits", "/nothing", "/login", f"/jobs?password={SECRET}"):
            ask("GET", path)
        assert "STENOBOX_PASSWORD" in ask("GET", "/settings").text, "the operator sets it, also once web has started"
        ask("POST", "/settings/password", data={"current": SECRET, "new": SECRET})
        ask("POST", "/login", data={"password": SECRET, SECRET: "x", "next": "x" * 20_000})
        ask("POST", "/login", content=SECRET.encode(), headers={"Content-Type": "text/plain"})
        ask("POST", f"/login?password={SECRET}", json={"password": SECRET})
        ask("GET", "/api/v1/jobs", headers={"X-API-Key": SECRET})
        ask("GET", "/api/v1/jobs", headers={"Authorization": f"Bearer {SECRET}"})
        ask("PUT", "/api/v1/settings", headers={"Cookie": f"stenobox={SECRET}"})
        made = browser.post("/settings/keys", data={"name": "phone"})
        key = re.findall(r"sb_\w{38}", made.text)[0]
        assert ask("GET", "/api/v1/jobs", headers={"X-API-Key": key}).json() == {"jobs": [], "next": None}
        with SAMPLE.open("rb") as file:
            job = browser.post("/api/v1/transcriptions", files={"file": ("talk.flac", file)}).json()

        def finished() -> bool:
            for line, environment in processes(box):
                assert SECRET not in line + environment, line
                assert "sb_of_the_operators_shell" not in line + environment, line
                seen.update(
                    part for part in ("supervised", "cli web", "cli worker", "engine", "decode") if part in line
                )
            return bool(browser.get(job["links"]["self"]).json()["state"] == "completed")

        wait_until(finished, every=0.01)
        ask("GET", f"/jobs/{job['id']}")
    assert seen == {"supervised", "cli web", "cli worker", "engine", "decode"}
    assert box.stop() == 0
    log = box.log.read_text()
    for secret in (SECRET, SECRET.replace(" ", "%20"), SECRET.replace(" ", "+"), WRONG, token, key):
        assert secret not in log
        assert secret not in "".join(texts), secret
    for path in box.data.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
