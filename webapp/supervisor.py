"""`stenobox serve`: supervisord keeps the web and the worker alive and stops both.

This process becomes supervisord, so that a box is three processes and signals reach it directly.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path

from tasks.config import Config
from tasks.exposure import port_fault

_PROGRAM = """
[program:{name}]
command={python} -P -m webapp.cli {name}
directory=/
environment=STENOBOX_PARENT="{pid}",PYTHONUNBUFFERED="1",{malloc}
autorestart=true
startsecs=1
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop}
redirect_stderr=true
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
"""
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    # What comes in comes in buffers of 256 KB. By its own rules glibc takes each from the kernel and gives it back:
    # 200,000 page faults for a gigabyte.
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**21),
}
"""How both processes take memory. Their children have their own ways (see `tasks.children`)."""


class PortTaken(Exception):
    """Nothing can be served at the address; the sentence says why."""


def address(config: Config) -> str:
    """Where the box is, for programs and browsers on this machine."""
    host = config.host
    if config.listens_everywhere:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def check_ports(config: Config) -> None:
    """Raises PortTaken while somebody else listens where the box should: better before the start than in a restart
    loop."""
    if why := port_fault(config.host, config.port):
        raise PortTaken(
            f"{address(config)} can't be used: {why}. Stop it, or choose another port, for example STENOBOX_PORT=8001"
        )
    host, _, port = config.metrics.rpartition(":")
    why = port_fault(host.strip("[]"), int(port)) if port else ""
    if port and int(port) == config.port != 0:
        why = "the pages are on that port"
    if why:
        raise PortTaken(
            f"{config.metrics}, where /metrics should be, can't be used: {why}. "
            "Choose another, for example STENOBOX_METRICS=127.0.0.1:9092"
        )


def write_settings(config: Config) -> Path:
    """supervisord's configuration file, in the data folder. Its paths are relative to where it lies: in this format,
    " #" and " ;" in a folder's name would begin a comment."""
    run = config.data / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    programs = "".join(
        _PROGRAM.format(
            name=name,
            python=shlex.quote(sys.executable),
            pid=os.getpid(),
            malloc=",".join(f'{name}="{value}"' for name, value in MALLOC.items()),
            stop=max(1, math.floor(config.grace)),
        )
        for name in ("worker", "web")
    )
    own = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=supervisord.pid\n"
    if os.getuid() == 0:
        own += "user=root\n"  # it runs as who started it; without this line it warns
    own += "[group:box]\nprograms=worker,web\n"  # stopped together, not one after the other
    path = run / "supervisord.conf"
    path.write_text((own + programs).replace("%", "%%"))
    return path


def become_supervisor(config: Config) -> None:
    """Replace this process; does not return."""
    path = write_settings(config)
    sys.stdout.flush()
    os.chdir(path.parent)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "webapp.supervised", "-n", "-s", "-c", str(path)])
