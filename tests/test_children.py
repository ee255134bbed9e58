"""Real child processes: none outlives its parent, all of a group end, and no secret of the operator's reaches one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import wait_until

from tasks import children
from tasks.children import ChildDied, ending, environment, kill, spawn, stop

CHILD = '''
"""A child that does as its first argument says. Prints a line when it is ready."""
import ctypes, json, os, signal, subprocess, sys, time
from pathlib import Path
from tasks import children

def ready(**more):
    print(json.dumps({"pid": os.getpid(), **more}), flush=True)

def report():
    children.die_with_parent(expendable="expendable" in sys.argv)
    ready(sid=os.getsid(0), cwd=os.getcwd(), path=sys.path, environment=dict(os.environ), arguments=sys.argv[1:],
          stdin=os.readlink("/proc/self/fd/0"), oom=Path("/proc/self/oom_score_adj").read_text().strip(),
          threads=len(os.listdir("/proc/self/task")))

def report_elsewhere():
    sys.platform = "another"
    report()

def wait():
    children.die_with_parent()
    ready()
    time.sleep(60)

def stuck_in_native_code():
    children.die_with_parent()
    ready()
    ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock: no thread of ours runs

def wait_unsignalled():
    sys.platform = "another"
    children.die_with_parent()
    ready()
    time.sleep(60)

def ignore():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready()
    time.sleep(60)

def family(ignoring=False):
    handler = signal.SIG_IGN if ignoring else signal.SIG_DFL
    grandchild = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: signal.signal(signal.SIGTERM, handler))
    ready(grandchild=grandchild.pid)
    time.sleep(60)

def family_of_deaf():
    family(ignoring=True)

def leave():
    ready()
    sys.exit(3)

globals()[sys.argv[1]]()
'''

PARENT = """
import sys, time
from tasks import children
child = children.spawn("a_child", sys.argv[1], env=children.environment(PYTHONPATH=sys.argv[2]))
time.sleep(60)
"""

Start = Callable[..., tuple["subprocess.Popen[bytes]", dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a_child.py").write_text(CHILD)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start a child and wait for its first line: (process, what it said)."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **more: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        process = spawn("a_child", *arguments, env=environment(PYTHONPATH=str(folder), **more), stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        kill(process)
        assert process.stdout is not None
        process.stdout.close()


def gone(pid: int) -> bool:
    """Whether the process has ended (nobody may be there to reap an orphan)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# What a child is given


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "DATABASE_URL",
        "STENOBOX_PASSWORD",
        "STENOBOX_HOSTS",
        "SSH_AUTH_SOCK",
        "LD_PRELOAD",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "SOMETHING_NOBODY_THOUGHT_OF",
    ],
)
def test_a_child_inherits_no_secret_and_nothing_that_runs_code(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "secret")
    assert name not in environment()
    assert "secret" not in environment().values()


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LANG",
        "TZ",
        "STENOBOX_DATA",
        "CUDA_VISIBLE_DEVICES",
        "HTTPS_PROXY",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ],
)
def test_a_child_inherits_what_it_needs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "value")
    assert environment()[name] == "value"


def test_what_is_not_set_is_not_passed_on_and_what_is_added_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    given = environment(HOME="/elsewhere", OMP_NUM_THREADS="2")
    assert "TZ" not in given
    assert (given["HOME"], given["OMP_NUM_THREADS"]) == ("/elsewhere", "2")
    assert given["MALLOC_ARENA_MAX"] == "1"


def test_a_real_child_leads_its_own_session_in_the_root_folder_without_input_and_without_secrets(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    process, said = start("report", "expendable", "two words")
    assert said["pid"] == said["sid"] == process.pid != os.getsid(0)
    assert (said["cwd"], said["stdin"]) == ("/", "/dev/null")
    assert "" not in said["path"]
    assert said["arguments"] == ["report", "expendable", "two words"]
    assert said["environment"]["STENOBOX_PARENT"] == str(os.getpid())
    assert "AWS_SECRET_ACCESS_KEY" not in said["environment"]
    assert process.wait(60) == 0


@pytest.mark.parametrize(("arguments", "score"), [(["expendable"], "500"), ([], None)])
def test_the_kernel_takes_an_expendable_child_first(start: Start, arguments: list[str], score: str | None) -> None:
    ours = Path("/proc/self/oom_score_adj").read_text().strip()
    process, said = start("report", *arguments)
    assert said["oom"] == (score or ours)
    assert process.wait(60) == 0


def test_a_system_without_that_signal_is_left_alone_and_watched_by_a_thread(start: Start) -> None:
    process, said = start("report_elsewhere", "expendable")
    assert said["oom"] == Path("/proc/self/oom_score_adj").read_text().strip()
    assert said["threads"] == 2
    assert process.wait(60) == 0


def test_a_process_that_nobody_spawned_watches_for_nobody(folder: Path) -> None:
    env = {**environment(PYTHONPATH=str(folder)), "STENOBOX_PARENT": ""}
    del env["STENOBOX_PARENT"]
    said = subprocess.run([sys.executable, "-m", "a_child", "report"], env=env, capture_output=True, check=True)
    assert json.loads(said.stdout)["threads"] == 1


# The end of the parent


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


@pytest.mark.parametrize(
    ("child", "number"),
    [
        ("wait", signal.SIGKILL),
        ("wait", signal.SIGTERM),
        ("wait_unsignalled", signal.SIGKILL),
        ("stuck_in_native_code", signal.SIGKILL),
    ],
)
def test_a_child_dies_with_its_parent_however_that_dies(folder: Path, child: str, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, child, str(folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = json.loads(parent.stdout.readline())["pid"]
    assert children_of(parent.pid) == [pid]
    parent.send_signal(number)
    parent.wait(60)
    try:
        wait_until(lambda: gone(pid), 10)
    finally:
        parent.stdout.close()


def test_a_child_does_not_die_with_the_thread_that_spawned_it(start: Start) -> None:
    spawned: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: spawned.append(start("wait")[0]))
    thread.start()
    thread.join(60)
    time.sleep(0.3)
    assert spawned[0].poll() is None


def test_the_watch_ends_the_process_as_soon_as_its_parent_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, ends = iter([7, 7, 1]), []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda pid, number: ends.append((pid, number)))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    children._watch(7)
    assert ends == [(os.getpid(), signal.SIGKILL)]


# Ending a child


def test_a_child_that_obeys_is_stopped_by_sigterm(start: Start) -> None:
    process, _ = start("wait")
    stop(process, 10)
    assert process.returncode == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_after_its_time(start: Start) -> None:
    process, _ = start("ignore")
    began = time.monotonic()
    stop(process, 0.2)
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("end", [kill, lambda process: stop(process, 10)], ids=["kill", "stop"])
def test_all_that_a_child_started_ends_with_it(start: Start, end: Callable[[Any], None]) -> None:
    process, said = start("family")
    assert not gone(said["grandchild"])
    end(process)
    assert process.returncode is not None
    wait_until(lambda: gone(said["grandchild"]), 5)


def test_what_a_child_started_ends_with_it_even_if_only_the_child_obeys(start: Start) -> None:
    process, said = start("family_of_deaf")
    stop(process, 10)
    assert process.returncode == -signal.SIGTERM
    wait_until(lambda: gone(said["grandchild"]), 5)


@pytest.mark.parametrize("end", [kill, stop])
def test_ending_a_child_that_has_ended_harms_nobody(
    start: Start, end: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = start("leave")
    assert process.wait(60) == 3
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, _: signalled.append(pid))
    end(process)
    assert process.returncode == 3
    assert signalled == []  # the number may be another's by now


def test_a_group_that_vanished_in_between_is_no_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _ = start("wait")
    killpg = os.killpg

    def vanish(pid: int, number: int) -> None:
        killpg(pid, signal.SIGKILL)
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", vanish)
    kill(process)
    assert process.returncode == -signal.SIGKILL


# How it ended, in words


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "left with status 0"),
        (3, "left with status 3"),
        (-signal.SIGKILL, "was killed (SIGKILL)"),
        (-signal.SIGTERM, "was killed (SIGTERM)"),
        (-signal.SIGINT, "was killed (SIGINT)"),
        (-signal.SIGSEGV, "crashed (SIGSEGV)"),
        (-signal.SIGABRT, "crashed (SIGABRT)"),
        (-signal.SIGXCPU, "crashed (SIGXCPU)"),
        (-(signal.SIGRTMIN + 1), "crashed (signal 35)"),
    ],
)
def test_an_ending_has_words(returncode: int, words: str) -> None:
    assert ending(returncode) == words


def test_a_death_says_who_and_how() -> None:
    death = ChildDied("decoder", ending(-signal.SIGSEGV))
    assert str(death) == "the decoder crashed (SIGSEGV)"
    assert (death.ending, death.deliberate) == ("crashed (SIGSEGV)", False)
    assert ChildDied("engine", "was killed (SIGKILL)", deliberate=True).deliberate
