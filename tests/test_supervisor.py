"""What `stenobox serve` tells supervisord, read back by supervisord's own parser, and what it does before that."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervisor.options import ServerOptions
from support import Served, free_port, wait_until

from tasks.config import Config
from webapp import supervisor
from webapp.cli import main
from webapp.supervisor import PortTaken, address, become_supervisor, check_ports, write_settings


def settings(config: Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings as supervisord understands them."""
    path = write_settings(config)
    monkeypatch.chdir(path.parent)  # as become_supervisor does
    options = ServerOptions()
    options.realize(["-n", "-s", "-c", str(path)])
    return options


def programs(options: Any) -> dict[str, Any]:
    return {program.name: program for group in options.process_group_configs for program in group.process_configs}


@pytest.mark.parametrize(
    "name", ["data", "100%d", "%(here)s", "with space", "a # b", "a ; b", 'it\'s "q"', "b\\c", "über", "$HOME", "~x"]
)
def test_any_folder_name_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    options = settings(Config(data=data, grace=7), monkeypatch)
    assert Path(options.pidfile).resolve() == data / "run" / "supervisord.pid"
    assert set(programs(options)) == {"web", "worker"}
    assert len(options.process_group_configs) == 1  # groups are stopped one after the other, what is in one at once
    for word, program in programs(options).items():
        assert shlex.split(program.command) == [sys.executable, "-P", "-m", "webapp.cli", word]
        assert program.directory == "/"
        assert program.stdout_logfile == "/dev/stdout"
        assert program.redirect_stderr
        assert program.environment["STENOBOX_PARENT"] == str(os.getpid())
        assert (program.stopsignal, program.stopwaitsecs) == (signal.SIGTERM, 7)
        assert program.autorestart


@pytest.mark.parametrize("python", ["/opt/my python/bin/python", "/opt/100%/python", "/opt/it's/python"])
def test_any_place_of_python_is_understood(config: Config, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    config.data.mkdir()
    monkeypatch.setattr(sys, "executable", python)
    for program in programs(settings(config, monkeypatch)).values():
        assert shlex.split(program.command)[0] == python


def test_lines_of_all_processes_go_where_the_output_goes_also_to_a_socket(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()  # as under systemd: it can't be opened by name
    environment = {
        **os.environ,
        "STENOBOX_DATA": str(tmp_path / "data"),
        "STENOBOX_PORT": str(free_port()),
        "STENOBOX_LOG": "text",
    }
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "webapp.cli", "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        ours.settimeout(0.2)
        told = bytearray()

        def read() -> bool:
            with contextlib.suppress(TimeoutError):
                told.extend(ours.recv(65_536))
            return b"Uvicorn running" in told and re.search(rb"worker \w+ ready", told) is not None

        try:
            wait_until(read)
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_the_settings_are_closed_to_others_and_written_again_at_each_start(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.data.mkdir()
    path = write_settings(config)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("old")
    assert "webapp.cli web" in write_settings(config).read_text()


@pytest.mark.parametrize(("uid", "named"), [(0, True), (1000, False)])
def test_only_root_is_named_as_the_user(config: Config, monkeypatch: pytest.MonkeyPatch, uid: int, named: bool) -> None:
    config.data.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert ("user=root" in write_settings(config).read_text()) is named


def test_supervisord_takes_over_this_very_process(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.mkdir()
    called: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
    monkeypatch.chdir("/")
    become_supervisor(config)
    run = config.data / "run"
    assert Path.cwd() == run
    command = [sys.executable, "-P", "-m", "webapp.supervised", "-n", "-s", "-c", str(run / "supervisord.conf")]
    assert called == [(sys.executable, command)]


# The port


def test_a_free_port_is_fine(config: Config) -> None:
    import msgspec

    check_ports(msgspec.structs.replace(config, port=0))


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_taken_port_is_said_with_its_address(tmp_path: Path, host: str, family: int) -> None:
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with taken:
        config = Config(data=tmp_path, host=host, port=taken.getsockname()[1])
        with pytest.raises(PortTaken, match="something else listens there") as error:
            check_ports(config)
        assert str(error.value).startswith(address(config) + " can't be used")


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ("127.0.0.1:{taken}", "something else listens there"),
        ("localhost:{taken}", "something else listens there"),
        ("192.0.2.1:9091", "Cannot assign requested address"),
        ("127.0.0.1:99999", "there is no such port"),
        ("0.0.0.0:{own}", "the pages are on that port"),
    ],
)
def test_a_port_of_the_metrics_that_cannot_be_had_is_said_at_the_start(
    config: Config, metrics: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = metrics.format(taken=taken.getsockname()[1], own=own)
        monkeypatch.setenv("STENOBOX_DATA", str(config.data))
        monkeypatch.setenv("STENOBOX_PORT", str(own))
        monkeypatch.setenv("STENOBOX_METRICS", where)
        assert main(["serve"]) == 1
    told = capsys.readouterr().err
    assert f"{where}, where /metrics should be, can't be used: {said}." in told
    assert "STENOBOX_METRICS=127.0.0.1:9092" in told


def test_an_address_that_is_not_this_machines_is_said(tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match=r"http://192\.0\.2\.1:8000 can't be used: Cannot assign requested address"):
        check_ports(Config(data=tmp_path, host="192.0.2.1", hosts="x"))


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("box", "http://box:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_the_address_is_one_a_browser_takes(tmp_path: Path, host: str, text: str) -> None:
    assert address(Config(data=tmp_path, host=host)) == text


# The real thing


def test_a_web_process_that_dies_comes_back(served: Served) -> None:
    [before] = served.children("webapp.cli web")
    os.kill(before, signal.SIGKILL)

    def back() -> int | None:
        now = served.children("webapp.cli web")
        return now[0] if now and now != [before] else None

    wait_until(back, 20)
    import httpx

    def answers() -> bool:
        try:
            return served.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, 20)


def test_the_supervisor_listens_to_nobody(served: Served) -> None:
    supervisord = psutil.Process(served.process.pid)
    assert "webapp.supervised" in " ".join(supervisord.cmdline())
    assert supervisord.net_connections() == []
    assert stat.S_IMODE((served.data / "run" / "supervisord.conf").stat().st_mode) == 0o600
    assert supervisor.__doc__
