"""Folders for what children leave: gone with them, and nobody's are swept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tasks import scratch
from tasks.config import Config
from tasks.scratch import Scratch


def test_it_is_gone_with_all_that_is_in_it(config: Config) -> None:
    with Scratch(config, "engine") as one, Scratch(config, "engine") as two:
        assert one != two
        assert one.is_relative_to(config.data)
        assert one.stat().st_mode & 0o777 == 0o700
        (one / "folder").mkdir()
        (one / "folder" / "left.py").touch()
    assert not (config.data / "tmp").exists()


def test_a_start_sweeps_what_is_nobodys_and_leaves_what_somebody_has(config: Config) -> None:
    scratch.sweep(config)  # there is nothing yet
    living = Scratch(config, "engine")
    dead = config.data / "tmp" / "engine-dead"
    shutil.copytree(living.path, dead)
    (dead / "left.py").touch()
    (config.data / "tmp" / "a file").touch()
    scratch.sweep(config)
    assert living.path.exists()
    assert not dead.exists()
    living.close()
    living.close()


def test_it_does_not_outlive_a_killed_owner(config: Config) -> None:
    child = os.fork()
    if not child:
        Scratch(config, "engine")
        os._exit(0)
    os.waitpid(child, 0)
    (left,) = (config.data / "tmp").iterdir()
    scratch.sweep(config)
    assert not Path(left).exists()
