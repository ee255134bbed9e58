"""What the doctor says of the doors: who can reach the box, who gets in, and who else can read what it keeps."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from tasks import exposure, keys, store
from tasks.accounts import keys as keys_table
from tasks.actions import Box
from tasks.config import KEY, PASSWORD, Config
from tasks.doctor import checks, examine
from tasks.findings import Finding
from webapp import cli

LONG = "correct horse battery"


def config_of(tmp_path: Path, **options: Any) -> Config:
    return Config(data=tmp_path / "data", **options)


def found(check: Any, *arguments: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in check(*arguments)]


def test_the_doctor_looks_at_all_of_them() -> None:
    names = {check.__name__ for check in checks()}
    assert {"reach", "password", "live_keys", "secrets", "permissions"} <= names


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("ok", "reach")]),
        ({"host": "0.0.0.0"}, [("ok", "reach"), ("warn", "names")]),
        ({"host": "::"}, [("ok", "reach"), ("warn", "names")]),
        ({"host": "0.0.0.0", "hosts": "a.example"}, [("ok", "reach")]),
        ({"hosts": "a.example"}, [("ok", "reach"), ("warn", "proxies")]),
        ({"hosts": "a.example", "proxies": "127.0.0.1"}, [("ok", "reach")]),
        (
            {"hosts": "a.example", "proxies": "0.0.0.0/0,::/0"},
            [("ok", "reach"), ("fail", "proxies"), ("fail", "proxies")],
        ),
        ({"hosts": "a.example", "proxies": "128.0.0.0/1"}, [("ok", "reach"), ("fail", "proxies")]),
        ({"hosts": "a.example", "proxies": "10.0.0.0/8,fd00::/16,172.16.0.0/12"}, [("ok", "reach")]),
    ],
)
def test_who_can_reach_the_box(tmp_path: Path, options: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found(exposure.reach, config_of(tmp_path, **options)) == expected


def test_the_names_that_are_answered_are_told(tmp_path: Path) -> None:
    told = list(exposure.reach(config_of(tmp_path, host="192.0.2.7")))[1]
    assert "any other name than localhost, 127.0.0.1, [::1], 192.0.2.7" in told.message
    assert "STENOBOX_HOSTS=" in told.advice


@pytest.mark.parametrize(
    ("options", "given", "level"),
    [({}, "", "ok"), ({}, LONG, "ok"), ({"host": "0.0.0.0"}, "", "fail"), ({"host": "0.0.0.0"}, LONG, "ok")],
)
def test_a_box_that_others_reach_needs_a_password(
    tmp_path: Path, options: dict[str, Any], given: str, level: str
) -> None:
    assert found(exposure.password, config_of(tmp_path, **options), given) == [(level, "password")]


@pytest.mark.parametrize(
    ("stored", "given", "level", "words"),
    [
        (LONG, "", "ok", "by environment"),
        (LONG, LONG, "ok", "by environment"),
        (LONG, "another one", "warn", "is not the password that counts"),
        ("short", "short", "warn", "easy to guess"),
        ("short", "", "ok", "by environment"),
    ],
)
def test_the_environments_password_is_compared_with_the_stored_one(
    box: Box, stored: str, given: str, level: str, words: str
) -> None:
    box.logins.set_password(stored, "environment")
    [told] = exposure.password(box.config, given)
    assert (told.level, words in told.message) == (level, True)
    assert stored not in told.message + told.advice
    assert not given or given not in told.message + told.advice


def test_the_command_hands_the_password_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(PASSWORD, LONG)
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(()))
    cli.main(["doctor"])
    said = capsys.readouterr().out
    assert "becomes the password at the next start" in said
    assert LONG not in said


def test_keys_that_nobody_needs_are_named(box: Box) -> None:
    assert found(exposure.live_keys, box.config) == [("ok", "keys")]
    for name in ("used", "new", "idle", "over", "gone"):
        box.access.create_key(name, days=90)
    box.access.revoke_key("gone")
    assert [finding.message for finding in exposure.live_keys(box.config)] == ["4 that count"]
    week_ago = time.time() - exposure.UNUSED_SECONDS - 60
    with box.database.write() as connection:
        table = keys_table.c
        for name, values in {
            "used": {"created_at": week_ago, "used_at": week_ago + 30},
            "idle": {"created_at": week_ago},
            "over": {"created_at": week_ago, "expires_at": time.time() - 1},
            "gone": {"created_at": week_ago, "expires_at": week_ago},
        }.items():
            connection.execute(sa.update(keys_table).where(table.name == name).values(values))
    over, idle = exposure.live_keys(box.config)
    assert (over.level, over.message) == ("warn", "Expired, so that programs with them are refused: over.")
    assert (idle.level, idle.message) == ("warn", "Never used since they were made, over a week ago: idle.")


def test_a_database_that_can_not_be_read_is_another_checks_business(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def older(_: Any) -> None:
        raise RuntimeError("no such table")

    monkeypatch.setattr(store, "password", older)
    assert found(exposure.password, box.config) == found(exposure.live_keys, box.config) == []


class Fake:
    """A process as psutil shows it."""

    def __init__(self, line: list[str], environment: dict[str, str] | None = None) -> None:
        self.pid, self._line, self._environment = 4242, line, environment

    def cmdline(self) -> list[str]:
        if not self._line:
            raise psutil.NoSuchProcess(self.pid)
        return self._line

    def environ(self) -> dict[str, str]:
        if self._environment is None:
            raise psutil.AccessDenied(self.pid)
        return self._environment


SOME_KEY = keys.mint()
WEB = ["python", "-P", "-m", "webapp.cli", "web"]


@pytest.mark.parametrize(
    ("process", "told"),
    [
        (Fake([]), ""),
        (Fake(["bash"]), ""),
        (Fake(WEB), ""),
        (Fake(WEB, {"HOME": "/"}), ""),
        (Fake(WEB, {PASSWORD: "x" * 9}), "the environment of process 4242 (webapp.cli web)"),
        (Fake(["bash"], {PASSWORD: "x" * 9}), ""),
        (Fake(["/usr/bin/env", f"{PASSWORD}=x", "stenobox"]), "the command line of process 4242 (env)"),
        (Fake(["env", f"{PASSWORD}=", "stenobox"]), ""),
        (Fake(["env", f"{KEY}={SOME_KEY}", "stenobox"]), "the command line of process 4242 (env)"),
        (Fake(["curl", "-H", f"X-API-Key: {SOME_KEY}", "u"]), "the command line of process 4242 (curl)"),
        (Fake(["curl", "-H", f"Authorization: Bearer {SOME_KEY}"]), "the command line of process 4242 (curl)"),
        (Fake(["grep", "sb_not_a_key_of_ours"]), ""),
    ],
)
def test_secrets_in_the_list_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: Fake, told: str
) -> None:
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([process]))
    [finding] = exposure.secrets(config_of(tmp_path))
    assert finding.level == ("warn" if told else "ok")
    assert told in finding.message
    assert SOME_KEY not in finding.message + finding.advice


def test_everything_is_looked_at_but_models_and_links(box: Box) -> None:
    data = box.config.data
    data.chmod(0o700)
    for path in data.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    deep = box.config.media / "a" / "b"
    deep.mkdir(parents=True, mode=0o700)
    deep.parent.chmod(0o700)
    (box.config.models / "mine").mkdir(mode=0o755)
    (data / "link").symlink_to("/etc/hostname")
    assert [finding.level for finding in exposure.permissions(box.config)] == ["ok"]
    for name in ("jobs.db-wal", "media/a/b/source.part", "some.log", "run"):
        open_one = data / name
        open_one.touch() if name != "run" else open_one.mkdir(exist_ok=True)
        open_one.chmod(0o640 if name != "run" else 0o710)
        [told] = exposure.permissions(box.config)
        assert (told.level, str(open_one) in told.message) == ("warn", True), name
        open_one.chmod(0o700 if name == "run" else 0o600)


def test_many_names_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    for number in range(9):
        (folder / str(number)).touch(0o644)
        (folder / str(number)).chmod(0o644)
    [told] = exposure.permissions(Config(data=folder))
    assert told.message.endswith(" and 4 more")


def test_a_file_of_another_user_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.config.data.chmod(0o700)
    real = Path.lstat

    def roots(path: Path) -> os.stat_result:
        status = real(path)
        fields = list(status)
        if path.name == "huey.db":
            fields[4] = status.st_uid + 1
        if path.name == "gone.txt":
            raise FileNotFoundError
        return os.stat_result(fields)

    (box.config.data / "huey.db").touch(0o600)
    (box.config.data / "gone.txt").touch(0o600)
    monkeypatch.setattr(Path, "lstat", roots)
    told = [finding for finding in exposure.permissions(box.config) if "another user" in finding.message]
    assert len(told) == 1
    assert "huey.db" in told[0].message
    assert "chown" in told[0].advice


def test_findings_of_a_fresh_box_are_few(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(()))
    checks = (exposure.reach, exposure.password, exposure.live_keys, exposure.secrets, exposure.permissions)
    told: list[Finding] = examine(config, checks)
    assert [finding.level for finding in told] == ["ok"] * 5
