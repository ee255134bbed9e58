"""The parent's side of a download: a child does it, so that the caller stays light and can stop it with a kill."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import children
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models.catalogue import Aligner, Model
from tasks.models.downloads import OnProgress, hub_environment, missing
from tasks.models.library import folder


def fetch(
    config: Config,
    what: Model | Aligner,
    on_progress: OnProgress | None = None,
    on_start: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Path:
    """Have a child process download it, unless it is here already. Returns its folder.

    on_start gets the child, to stop it with `children.kill`; this then raises model_missing.
    Raises StenoboxError model_missing, disk_full or storage_failing.
    """
    here = folder(config, what)
    if here is not None:
        return here
    child = children.spawn(
        "tasks.models", what.key, env=children.environment(**hub_environment(config)), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    last: dict[str, Any] = {}
    try:
        if on_start:
            on_start(child)
        for line in child.stdout:
            if line.endswith(b"\n"):  # else torn: it was killed while it spoke
                last = json.loads(line)
            if on_progress and "done" in last:
                on_progress(last["done"], last["total"])
        child.wait()
    finally:
        children.kill(child)  # if a callback raised; otherwise it is gone
        child.stdout.close()
    if "error" in last:
        raise StenoboxError(last["error"]["code"], last["error"]["message"])
    if "ready" not in last:
        raise missing(config, what, f"the download was interrupted (the child {children.ending(child.returncode)})")
    return Path(last["ready"])
