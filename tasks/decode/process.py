"""Talking to the child: what it answers is checked, and it ends when its time is over."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import children
from tasks.decode.facts import UNDECODABLE
from tasks.errors import KINDS, StenoboxError

LONGEST_LINE = 2**20
"""Bytes of one answer: the facts of a file with all tracks and tags there may be take 50,000."""

Told = Callable[[float], None]
Started = Callable[[subprocess.Popen[bytes]], None]


def converse(task: dict[str, Any], folder: Path, on_progress: Told, on_start: Started) -> dict[str, Any]:
    """Have a child do this task in a folder of its own; its last answer. on_start receives the child, to end it.

    Raises the StenoboxError that it names, or timed_out, and ChildDied when it was killed.
    """
    deadline = 120 + task["max_seconds"] / 10  # decoding runs at 30 to 300 times real time
    kills = children.KillWatch()
    process = children.spawn(
        "tasks.decode.child",
        json.dumps(task | {"deadline": deadline}),
        env=children.environment(TMPDIR=str(folder)),
        stdout=subprocess.PIPE,
        cwd=folder,
    )
    assert process.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        children.kill(process)

    timer = threading.Timer(deadline, give_up)
    timer.daemon = True
    timer.start()
    answer: dict[str, Any] = {}
    try:
        on_start(process)
        while line := process.stdout.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):  # torn: it was killed while it spoke
                break
            answer = json.loads(line)
            if "progress" in answer:
                on_progress(answer["progress"])
    finally:
        timer.cancel()
        process.stdout.close()
        children.stop(process)
    if late.is_set() or process.returncode == -signal.SIGXCPU:
        raise StenoboxError("timed_out", f"Reading the file took longer than {deadline:.0f} s and was stopped.")
    if "sound" in answer:
        return answer
    if "error" in answer:
        code, message = answer["error"]
        raise StenoboxError(code if code in KINDS else "undecodable", message)
    ending = children.ending(process.returncode)
    crash = children.last_words(process, "decoder")
    if "crashed" in ending:
        error = StenoboxError("undecodable", f"The decoder {ending} on this file. {UNDECODABLE}")
        error.add_note(crash)  # for the attempt's record
        raise error
    raise children.ChildDied("decoder", ending, kills.cause(process.returncode))
