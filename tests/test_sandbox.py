"""The decoder's sandbox, asked from inside: each in a child of its own, for nothing of it can be taken back."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tasks.decode import sandbox

FILTERED = sys.platform == "linux" and platform.machine() in sandbox._CALLS


def inside(code: str, folder: Path) -> list[str]:
    """What this code prints once it is in the sandbox."""
    start = "import ctypes, os, resource, socket, subprocess, sys, threading\nfrom tasks.decode import sandbox\n"
    attempt = textwrap.dedent("""
        def attempt(what, *arguments):
            try:
                what(*arguments)
            except OSError as error:
                print(type(error).__name__, error.errno)
            else:
                print("done")
    """)
    done = subprocess.run(
        [sys.executable, "-c", start + attempt + textwrap.dedent(code)],
        capture_output=True, text=True, check=True, cwd=folder, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_limits_hold(tmp_path: Path) -> None:
    code = """
        sandbox.enter(130.5, 10_240_000)
        r = resource
        print(r.getrlimit(r.RLIMIT_CPU), r.getrlimit(r.RLIMIT_FSIZE))
        print(r.getrlimit(r.RLIMIT_AS)[0], r.getrlimit(r.RLIMIT_CORE)[0])
    """
    memory = 3 * 1024**3 if sys.platform == "linux" else -1
    assert inside(code, tmp_path) == ["(130, 135) (10240000, 10240000)", f"{memory} 0"]


@pytest.mark.skipif(not FILTERED, reason="no seccomp filter on this system")
def test_no_sockets_and_no_programs_in_any_thread(tmp_path: Path) -> None:
    code = """
        go, gone = threading.Event(), threading.Event()
        def older():
            go.wait()
            attempt(socket.socket)
            gone.set()
        threading.Thread(target=older).start()
        attempt(socket.socket)
        print(sandbox.enter(60, 1000))
        attempt(socket.socket)
        attempt(socket.socket, socket.AF_UNIX)
        attempt(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)
        attempt(os.execv, "/bin/true", ["true"])
        go.set()
        gone.wait()
        print(open("/proc/self/status").read().partition("NoNewPrivs:")[2].split()[0])
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.syscall(425, 1, 0), libc.syscall(0x40000000 + 41, 2, 1, 0) if os.uname().machine == "x86_64" else -1)
    """
    assert inside(code, tmp_path) == ["done", "True", *["PermissionError 13"] * 5, "1", "-1 -1"]


def test_nothing_new_can_be_opened_for_a_while(tmp_path: Path) -> None:
    code = """
        with sandbox.no_new_files():
            attempt(open, "/dev/null")
            attempt(socket.socket)
            attempt(os.dup, 0)
        attempt(open, "/dev/null")
        with sandbox.no_new_files(but=1):
            kept = open("/dev/null")
            attempt(open, "/dev/null")
    """
    assert inside(code, tmp_path) == ["OSError 24", "OSError 24", "OSError 24", "done", "OSError 24"]


def test_other_systems_go_without_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not sandbox._refuse_calls()
