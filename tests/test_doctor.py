"""`stenobox doctor`: what it says of a healthy box, and of each way to be ill."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from support import free_port
from web_support import live, put_job

from tasks import doctor, machine, models, readiness, store
from tasks.actions import Box
from tasks.config import Config
from tasks.db import jobs, samples
from tasks.doctor import examine
from tasks.findings import Finding
from tasks.jobs import State
from tasks.recovery import take_data_folder
from webapp import checkup


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", slots=3, queue_limit=20, port=free_port(), max_bytes=1000)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on this machine is not the tests' business."""
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(()))


def said(config: Config, *checks: Any) -> dict[str, Finding]:
    """Findings by what was looked at."""
    return {finding.check: finding for finding in examine(config, checks or doctor.checks())}


def test_a_healthy_box_is_fine(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    put_job(box, State.QUEUED)
    box.config.data.chmod(0o700)
    for path in box.config.data.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    found = examine(box.config, doctor.checks())
    assert [finding for finding in found if finding.level != "ok" and finding.check not in ("disk", "cpus")] == []
    assert {
        "version",
        "sqlite",
        "torch",
        "whisperx",
        "limits",
        "disk",
        "data folder",
        "database",
        "clock",
        "model",
    } <= {finding.check for finding in found}
    assert "whole, 1 jobs" in said(box.config)["database"].message
    assert checkup.run(box.config, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["checks"][0] == {"level": "ok", "check": "version", "message": found[0].message, "advice": ""}


def test_a_folder_that_is_not_there_yet_is_fine(config: Config) -> None:
    assert {
        finding.level for finding in said(config, doctor.permissions, doctor.database, doctor.processes).values()
    } == {"ok"}
    assert not config.data.exists()
    assert said(config, doctor.model)["model"].level == "ok"


def test_nothing_heavy_is_imported(config: Config) -> None:
    before = set(sys.modules)
    examine(config, doctor.checks())
    assert {name.partition(".")[0] for name in set(sys.modules) - before} & {"torch", "whisperx", "av"} == set()


def test_what_is_not_installed_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    monkeypatch.setattr(doctor, "check_sqlite_version", lambda: doctor_sqlite())
    found = said(config, doctor.versions)
    assert (found["torch"].level, found["sqlite"].level, found["av"].level) == ("fail", "fail", "ok")


def doctor_sqlite() -> None:
    raise doctor.SchemaError("SQLite 3.40 can corrupt a database.")


def test_a_full_disk_fails_and_a_small_one_is_to_look_at(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SPARE_BYTES", 2**60)
    assert said(config, doctor.disk)["disk"].level == "fail"
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=doctor.SPARE_BYTES + 999, total=10**10))
    assert said(config, doctor.disk)["disk"].level == "warn"


def test_a_network_file_system_fails(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint="/tmp", fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    here = Config(data=Path("/tmp"))
    assert "on a network (nfs4)" in said(here, doctor.disk)["file system"].message


def test_files_that_others_can_read_are_named(box: Box) -> None:
    box.config.jobs_db.chmod(0o644)
    (box.config.data / "link").symlink_to("/etc/hostname")
    found = said(box.config, doctor.permissions)["data folder"]
    assert found.level == "warn"
    assert str(box.config.jobs_db) in found.message
    assert "link" not in found.message
    assert found.advice.startswith("chmod -R go= ")


def test_a_folder_that_can_not_be_written_fails(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = said(box.config, doctor.permissions)["data folder"]
    assert (found.level, "Read-only file system" in found.message) == ("fail", True)


def test_a_damaged_database_fails(box: Box) -> None:
    box.database.close()
    with box.config.jobs_db.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    found = said(box.config, doctor.database)["database"]
    assert (found.level, "restore the last backup" in found.advice) == ("fail", True)
    assert said(box.config, doctor.model)["model"].level == "warn"


@pytest.mark.parametrize(("version", "level", "words"), [("9999", "fail", "newer"), ("0001", "ok", "will be upgraded")])
def test_another_schema_is_told(box: Box, version: str, level: str, words: str) -> None:
    with box.database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    found = said(box.config, doctor.database)["database"]
    assert (found.level, words in found.message) == (level, True)


def test_a_job_from_the_future_tells_of_the_clock(box: Box) -> None:
    put_job(box, State.QUEUED)
    with box.database.write() as connection:
        connection.execute(sa.update(jobs).values(created_at=time.time() + 7200))
    assert said(box.config, doctor.database)["clock"].level == "warn"


def test_the_model_may_be_missing_unknown_or_too_large(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> Finding:
        return said(box.config, doctor.model)["model"]

    box.change_settings({"model": "tiny"}, "test")
    assert (model().level, model().advice) == ("warn", "stenobox models tiny")
    monkeypatch.setattr(models, "ready", lambda *_: True)
    assert model().level == "ok"
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory((machine.Bound("a small box", 2.0**28),), 0))
    assert "does not fit" in model().message
    with box.database.write() as connection:
        connection.execute(sa.text("UPDATE settings SET value = '\"gone\"' WHERE name = 'model'"))
    assert model().level == "fail"


def test_a_taken_port_fails_while_the_box_does_not_run(box: Box) -> None:
    found = said(box.config, doctor.processes)
    assert (found["processes"].message, found["port"].level) == ("The box is not running", "ok")
    with live(Config(data=box.config.data.with_name("other"))) as other:
        taken = Config(data=box.config.data, port=other.port)
        assert said(taken, doctor.processes)["port"].level == "fail"


def test_of_a_running_box_web_and_worker_are_asked(box: Box) -> None:
    with take_data_folder(box.config, "web"), live(Config(data=box.config.data.with_name("other"))) as server:
        config = Config(data=box.config.data, port=server.port)
        found = said(config, doctor.processes)
        assert (found["web"].level, found["worker"].level) == ("ok", "fail")
        with take_data_folder(config, "worker"):
            assert said(config, doctor.processes)["worker"].message == "has just started"
            add_sample(box, age=20)
            assert "gave a sign 2" in said(config, doctor.processes)["worker"].message
    with take_data_folder(box.config, "worker"), take_data_folder(box.config, "web"):
        assert said(box.config, doctor.processes)["web"].level == "fail"
        with box.database.write() as connection:
            connection.execute(sa.update(samples).values(at=time.time() - 1000))
        os.utime(box.config.data / "worker.lock", (0, 0))
        assert said(box.config, doctor.processes)["worker"].level == "fail"


def add_sample(box: Box, age: float) -> None:
    store.add_sample(
        box.database,
        store.Sample(
            at=time.time() - age,
            memory_used=1,
            memory_limit=2,
            swapped=0,
            stalled=None,
            cpu=0.0,
            response_seconds=None,
            oom_kills=0,
            running=0,
            queued=0,
            guard="calm",
        ),
    )


def test_a_check_that_breaks_is_a_finding(config: Config) -> None:
    def broken(_: Config) -> Any:
        raise RuntimeError("no luck")

    assert examine(config, (broken,)) == [Finding("fail", "broken", "It could not be looked at: RuntimeError: no luck")]


def test_lines_for_a_person(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding("ok", "disk", "fine"), Finding("fail", "port", "taken", "Choose another.")]
    assert checkup.text(found, colour=False) == (
        "ok    disk: fine\nfail  port: taken\n      → Choose another.\n\n1 failed, 0 to look at, 1 fine.\n"
    )
    assert "\033[31mfail\033[0m" in checkup.text(found, colour=True)
    monkeypatch.setattr(checkup, "examine", lambda *_, **__: found)
    assert checkup.run(config, as_json=False) == 1
    assert "1 failed" in capsys.readouterr().out


def test_reasons_not_to_be_ready(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(database: Any) -> list[str]:
        return [reason.code for reason in readiness.reasons(box.config, database)]

    assert codes(box.database) == []
    assert codes(None) == ["database"]
    monkeypatch.setattr(readiness, "SPARE_BYTES", 2**60)
    assert codes(box.database) == ["disk_full"]
    monkeypatch.undo()
    broken: Callable[..., Any] = lambda _: (_ for _ in ()).throw(doctor.StenoboxError("database_busy", "Busy."))  # noqa: E731
    monkeypatch.setattr(store, "choices", broken)
    assert codes(box.database) == ["database"]
    monkeypatch.undo()
    nowhere = Path("/nowhere")
    found = [readiness.full(nowhere), readiness.unwritable(nowhere)]
    assert [reason.code for reason in found if reason] == ["disk", "read_only"]
