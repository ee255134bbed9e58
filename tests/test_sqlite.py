"""A whole box where no SQLite without the WAL fault is to be had (see also test_db, test_store and test_queue)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support import SAMPLES, TRUTH, serve, without_pysqlite3

from tasks import sqlite


@pytest.mark.skipif(sqlite.has_fixed_wal(sqlite3.sqlite_version_info), reason="Python's own SQLite has no fault here")
def test_a_box_with_an_older_sqlite_works_with_a_rollback_journal_and_says_so(tmp_path: Path) -> None:
    path = str(without_pysqlite3(tmp_path / "path"))
    served = serve(tmp_path, PYTHONPATH=path, STENOBOX_SLOTS="1")
    try:
        job = served.finish(served.submit(SAMPLES / "en-u002.flac"))
        assert job["state"] == "completed", job["error"]
        assert served.transcript(job, "txt").text.strip() == TRUTH["en-u002.flac"]["text"]
        assert {file.name for file in served.data.glob("*.db*")} <= {"jobs.db", "jobs.db-journal", "huey.db",
                                                                     "huey.db-journal"}  # fmt: skip
        environment = {"STENOBOX_DATA": str(served.data), "PYTHONPATH": path}
        backup = [sys.executable, "-m", "webapp.cli", "backup", str(tmp_path / "box.tar")]
        assert "1 jobs" in subprocess.run(backup, env=environment, capture_output=True, text=True).stdout
        doctor = [sys.executable, "-m", "webapp.cli", "doctor"]
        told = subprocess.run(doctor, env=environment, capture_output=True, text=True).stdout
        assert f"SQLite {sqlite3.sqlite_version} (sqlite3), with a rollback journal" in told
    finally:
        assert served.stop() == 0, served.log.read_text()
    with closing(sqlite3.connect(served.data / "jobs.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)  # what it is when none was kept
