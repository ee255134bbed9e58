"""`stenobox keys` and `stenobox password`: what they print, and what they leave in the environment."""

from __future__ import annotations

import getpass
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tasks import keys
from tasks.access import Access
from tasks.config import PASSWORD, VARIABLES, Config
from tasks.db import open_database
from tasks.errors import StenoboxError
from tasks.logins import Logins
from webapp import cli, keys_cli, password_cli

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process; its status and what it printed."""
    for variable in (*VARIABLES.values(), PASSWORD):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STENOBOX_DATA", str(tmp_path / "data"))
    umask, handlers = os.umask(0o022), list(logging.getLogger().handlers)

    def run(*arguments: str) -> Any:
        status = cli.main(list(arguments))
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    yield run
    os.umask(umask)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def logins(tmp_path: Path) -> Iterator[Logins]:
    config = Config(data=tmp_path / "data")
    database = open_database(config)
    yield Logins(config, database, Access(config, database))
    database.close()


def test_a_key_from_its_making_to_its_end(run: Run) -> None:
    assert "There are no keys yet." in run("keys", "list").err
    made = run("keys", "create", "phone", "--scope", "submit", "--max-active", "3", "--expires", "90d")
    assert made.status == 0
    text = made.out.strip()
    assert keys.well_formed(text), "the key alone is on stdout, for scripts"
    assert "shown this once" in made.err
    listed = run("keys", "list").out
    assert listed.startswith(f"phone  …{text[-4:]}  submit  made ")
    assert ", never used, 3 active jobs at most, expires " in listed
    assert text not in listed
    again = run("keys", "create", "phone")
    assert (again.status, "already" in again.err) == (1, True)
    rotated = run("keys", "rotate", "phone")
    assert keys.well_formed(rotated.out.strip())
    assert rotated.out.strip() != text
    assert run("keys", "revoke", "phone").status == 0
    assert run("keys", "revoke", "phone").status == 1
    assert "revoked" in run("keys", "list").out


def test_a_reader_is_told_whose_jobs_it_sees(run: Run) -> None:
    assert "--jobs-of" in run("keys", "create", "viewer", "--scope", "read").err
    run("keys", "create", "phone")
    shared = run("keys", "create", "reader", "--scope", "read", "--jobs-of", "phone")
    assert (shared.status, "--jobs-of" in shared.err) == (0, False)


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("12h", 0.5), ("2w", 14), ("1Y", 365), (" 1d ", 1)])
def test_a_span_of_time(text: str, days: float) -> None:
    assert keys_cli.days_of(text) == days


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "1m", "9" * 9 + "d", "\u0661d"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(StenoboxError, match="For example: 90d"):
        keys_cli.days_of(text)


def test_the_password_is_set_from_a_pipe(run: Run, logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
    assert run("password").status == 0
    logins.log_in("correct horse", "a", "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    assert run("password").status == 1
    assert run("password", "--remove").status == 0
    assert not logins.password_is_set()
    assert "no password" in run("password", "--remove").err


@pytest.mark.parametrize(
    ("typed", "said"), [(["correct horse"] * 2, ""), (["correct horse", "other"], "not the same"), (["x"], "at least")]
)
def test_at_a_terminal_the_password_is_asked_for_twice(
    run: Run, logins: Logins, monkeypatch: pytest.MonkeyPatch, typed: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    answers = iter(typed)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(answers))
    done = run("password")
    assert (done.status, said in done.err) == (1 if said else 0, True)
    assert logins.password_is_set() == (not said)


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({"port": 8000}, "http://127.0.0.1:8000/setup?token="),
        ({"host": "::1", "port": 8000}, "http://[::1]:8000/setup?token="),
        ({"host": "192.168.1.7", "port": 8000}, "http://192.168.1.7:8000/setup?token="),
        ({"host": "0.0.0.0", "port": 8000, "hosts": "steno.lan"}, "http://steno.lan:8000/setup?token="),
        ({"hosts": "steno.example.org"}, "https://steno.example.org/setup?token="),
        ({"host": "0.0.0.0", "hosts": "a.fly.dev", "proxies": "172.16.0.0/12"}, "https://a.fly.dev/setup?token="),
    ],
)
def test_where_a_link_leads(tmp_path: Path, config: dict[str, Any], start: str) -> None:
    assert password_cli.link(Config(data=tmp_path, **config), "abc") == start + "abc"


def test_a_box_on_every_address_names_one_that_leads_to_this_machine(tmp_path: Path) -> None:
    where = urlsplit(password_cli.link(Config(data=tmp_path, host="0.0.0.0", port=8000), "abc"))
    own = {address.address for found in psutil.net_if_addrs().values() for address in found}
    assert where.hostname in own - {"127.0.0.1"} | {"localhost"}  # the latter where this machine has no way out
    assert where.port == 8000


def test_a_link_is_made_at_the_command_line(run: Run, logins: Logins) -> None:
    printed = run("password", "--link").out.strip()
    assert logins.is_invited(printed.partition("token=")[2])


def test_a_box_that_others_reach_says_how_to_set_the_first_password(
    tmp_path: Path, logins: Logins, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(data=tmp_path / "data", hosts="steno.example.org")
    password_cli.prepare_doors(config, "", again=False)
    said = capsys.readouterr().err
    token = said.partition("https://steno.example.org/setup?token=")[2].split()[0]
    assert logins.is_invited(token)
    password_cli.prepare_doors(config, "", again=True)
    assert capsys.readouterr().err == "", "the web process that starts again makes no other"
    assert logins.is_invited(token)
    logins.set_up(token, "correct horse")
    password_cli.prepare_doors(config, "", again=False)
    assert capsys.readouterr().err == ""


def test_a_box_of_ones_own_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password_cli.prepare_doors(Config(data=tmp_path / "data"), "", again=False)
    assert capsys.readouterr().err == ""


def test_the_environments_password_is_taken_and_leaves_it(
    tmp_path: Path, logins: Logins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PASSWORD, "correct horse")
    given = password_cli.take_password()
    assert (given, PASSWORD in os.environ, password_cli.take_password()) == ("correct horse", False, "")
    password_cli.prepare_doors(Config(data=tmp_path / "data", hosts="steno.example.org"), given, again=False)
    assert capsys.readouterr().err == ""
    logins.log_in("correct horse", "a", "")
    password_cli.prepare_doors(Config(data=tmp_path / "data"), "short", again=False)
    assert "STENOBOX_PASSWORD is short" in capsys.readouterr().err
    logins.log_in("short", "a", "")


def test_every_command_takes_the_password_out_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "correct horse")
    run("keys", "list")
    assert PASSWORD not in os.environ


def test_what_commands_write_is_the_owners_alone(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "phone")
    found = list((tmp_path / "data").rglob("*"))
    assert found
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data", *found) if path.is_dir()} == {0o700}
