"""Child processes: only these touch native code or hostile bytes, and none outlives its parent.

The parent spawns through one thread that never ends, because Linux sends a child its parent-death signal when the
*thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, finalize

from tasks import crashes, machine

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

STOP_SECONDS = 2.0
"""What a child gets between SIGTERM and SIGKILL."""

_words: WeakKeyDictionary[subprocess.Popen[bytes], tuple[int, finalize[..., Any]]] = WeakKeyDictionary()
"""What children write into as they crash, and what closes it."""

# Only what a child needs: no keys, tokens or passwords of the operator's.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "STENOBOX_DATA", "STENOBOX_LOG", "CUDA_VISIBLE_DEVICES",
              "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
              "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "HF_ENDPOINT", "HF_HUB_OFFLINE")  # fmt: skip

_TUNING = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING", "CUDA_MODULE_LOADING",
           "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE", "CT2_CUDA_ALLOCATOR", "CT2_CUDA_CACHING_ALLOCATOR_CONFIG",
           "CT2_CUDA_ALLOW_FP16", "CT2_CUDA_ALLOW_BF16", "CT2_CUDA_TRUE_FP16_GEMM", "CT2_FORCE_CPU_ISA", "CT2_USE_MKL",
           "CT2_USE_EXPERIMENTAL_PACKED_GEMM")  # fmt: skip
"""How torch and CTranslate2 take memory and compute, where an operator knows better than they."""


def tuning() -> dict[str, str]:
    """Those of the operator's variables that an engine may be tuned with."""
    return {name: os.environ[name] for name in _TUNING if name in os.environ}


def environment(**more: str) -> dict[str, str]:
    """A clean environment for a child, plus `more`."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return kept | {"PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"} | more


def spawn(module: str, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` as the leader of its own session. options: as for subprocess.Popen."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True, "cwd": Path("/"), **options}
    words = crashes.lend()
    options["pass_fds"] = [*options.get("pass_fds", ()), words]
    env = env | {"STENOBOX_PARENT": str(os.getpid()), crashes.VARIABLE: str(words)}
    try:
        process: subprocess.Popen[bytes] = _spawner.submit(
            lambda: subprocess.Popen(command, env=env, **options)
        ).result()
    except BaseException:
        os.close(words)
        raise
    _words[process] = words, finalize(process, os.close, words)
    return process


def last_words(process: subprocess.Popen[bytes], who: str) -> str:
    """Where a child that has ended was as it crashed, by Python's faulthandler; told in the log, too. "" for one that
    did not crash. who: for the log."""
    words, close = _words.pop(process, (-1, None))
    if close is None:
        return ""
    text = crashes.read(words)
    close()
    if text:
        logger.error("the %s (process %d) %s:\n%s", who, process.pid, ending(process.returncode or 0), text)
    return text


def die_with_parent(*, expendable: bool = True) -> None:
    """Called first by every child: be killed as soon as the parent is gone, however it went; tell it of a crash.

    expendable: whether the kernel should take this process before others when memory runs out.
    """
    crashes.take_over()
    parent = int(os.environ.get("STENOBOX_PARENT", "0"))
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if expendable:  # never the worker or the web
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("500")
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    # Also covers a parent that died before prctl, and systems without it.
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> None:
    """End a child and all it started: SIGTERM, then SIGKILL after `seconds`. Returns when it is gone."""
    if process.poll() is not None:
        return
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    # What it started may not have obeyed. The group's number is nobody else's while one of its processes lives.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a child and all it started. Returns when it is gone."""
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


class ChildDied(Exception):
    """A child ended before it had answered. ending: how, in words; cause: a code of errors.KINDS; deliberate: whether
    we ended it ourselves, for the sake of others; beside: other jobs that were in it and may be the cause as well;
    loaded: whether it was done with loading its model; crash: what its faulthandler wrote."""

    def __init__(
        self,
        who: str,
        ending: str,
        cause: str = "engine_crashed",
        *,
        deliberate: bool = False,
        beside: int = 0,
        loaded: bool = True,
        crash: str = "",
    ) -> None:
        super().__init__(f"the {who} {ending}")
        self.who = who
        self.ending = ending
        self.cause = cause
        self.deliberate = deliberate
        self.beside = beside
        self.loaded = loaded
        self.crash = crash


class KillWatch:
    """Whether the kernel has lately killed something of ours for lack of memory: what tells an end by SIGKILL for
    that from every other. Looked at every second or so by whoever waits for a child."""

    _LOOKS = 15
    """How far back "lately" goes: the kernel counts before it kills, and under such stress all of us are late."""

    def __init__(self) -> None:
        self._counts = deque([machine.oom_kills()], maxlen=self._LOOKS)

    def look(self) -> None:
        self._counts.append(machine.oom_kills())

    def cause(self, returncode: int) -> str:
        """Why a child ended that way: a code of errors.KINDS."""
        if returncode == -signal.SIGKILL and machine.oom_kills() > self._counts[0]:
            return "out_of_memory"
        return "killed" if -returncode in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) else "engine_crashed"


def ending(returncode: int) -> str:
    """How a process ended, in words: "was killed (SIGKILL)", "crashed (SIGSEGV)", "left with status 3"."""
    if returncode >= 0:
        return f"left with status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        name = f"signal {-returncode}"
    return f"was killed ({name})" if name in ("SIGKILL", "SIGTERM", "SIGINT") else f"crashed ({name})"
