"""The parent's side of a download: a child does it, so that the caller stays light and can stop it with a kill."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import children
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models.catalogue import Aligner, Model
from tasks.models.downloads import hub_environment, missing
from tasks.models.library import folder
from tasks.models.transfer import OnProgress
from tasks.scratch import Scratch

logger = logging.getLogger(__name__)


def fetch(
    config: Config,
    what: Model | Aligner,
    on_progress: OnProgress | None = None,
    on_start: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Path:
    """Have a child process download it, unless it is here already. Returns its folder.

    A download that stalls is gone on with by another child, unless nothing came any more.
    on_start gets each child, to stop it with `children.kill`; this then raises model_missing.
    Raises StenoboxError model_missing, disk_full or storage_failing.
    """
    here = folder(config, what)
    if here is not None:
        return here
    came = 0
    while True:
        last, most, ending = _converse(config, what, on_progress, on_start)
        error = last.get("error", {})
        if not error.get("stalled") or most <= came:
            break
        came = most
        logger.info("model %s: the download stalled after %d bytes; going on", what.key, most)
    if error:
        raise StenoboxError(error["code"], error["message"])
    if "ready" not in last:
        raise missing(config, what, f"the download was interrupted (the child {ending})")
    return Path(last["ready"])


def _converse(
    config: Config,
    what: Model | Aligner,
    on_progress: OnProgress | None,
    on_start: Callable[[subprocess.Popen[bytes]], None] | None,
) -> tuple[dict[str, Any], int, str]:
    """One child's last words, the bytes that there were at most, and how it ended."""
    scratch = Scratch(config, "download")
    environment = children.environment(**hub_environment(config), TMPDIR=str(scratch.path))
    child = children.spawn("tasks.models", what.key, env=environment, stdout=subprocess.PIPE)
    assert child.stdout is not None
    last: dict[str, Any] = {}
    most = 0
    try:
        if on_start:
            on_start(child)
        for line in child.stdout:
            if line.endswith(b"\n"):  # else torn: it was killed while it spoke
                last = json.loads(line)
            if "done" in last:
                most = max(most, last["done"])
                if on_progress:
                    on_progress(last["done"], last["total"])
        child.wait()
    finally:
        children.kill(child)  # if a callback raised; otherwise it is gone
        child.stdout.close()
        children.last_words(child, "download")
        scratch.close()
    return last, most, children.ending(child.returncode)
