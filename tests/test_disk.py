"""What a disk says, in words, and whether it takes files."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks import disk, readiness
from tasks.config import Config
from tasks.db import Database


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, "disk_full", "is full"),
        (errno.EDQUOT, "disk_full", "is full"),
        (errno.EROFS, "storage_failing", "can't be written (Read-only file system)"),
        (errno.EIO, "storage_failing", "reports errors (Input/output error)"),
        (errno.ESTALE, "storage_failing", "can't be written (Stale file handle)"),
        (errno.EACCES, "storage_failing", "can't be written (Permission denied)"),
    ],
)
def test_what_it_says_has_a_code_and_a_sentence(number: int, code: str, says: str) -> None:
    refusal = disk.refusal(OSError(number, os.strerror(number)))
    assert refusal is not None
    assert (refusal.code, refusal.kind.retryable) == (code, True)
    assert says in refusal.message


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE, errno.ECONNREFUSED, None])
def test_other_errors_are_not_its(number: int | None) -> None:
    assert disk.refusal(OSError(number, "?") if number else OSError("?")) is None


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_disk_refuses_and_a_full_one_is_full(volume: Path) -> None:
    assert not disk.refuses(volume)
    assert disk.takes_work(volume, 0)
    assert not disk.takes_work(volume, 2**40)
    assert disk.room(volume, 0) > 0 > disk.room(volume, 2**40)
    subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
    assert disk.refuses(volume)
    assert not disk.takes_work(volume, 0)
    assert not disk.is_full(volume)
    subprocess.run(["mount", "-o", "remount,rw", volume], check=True)
    with pytest.raises(OSError, match="No space"):
        (volume / "ballast").write_bytes(bytes(2**20))
    error = disk.write_error(volume)
    assert error is not None
    assert error.errno == errno.ENOSPC
    assert disk.is_full(volume)
    assert not disk.refuses(volume)
    assert not disk.takes_work(volume, 0)
    assert [path.name for path in volume.iterdir()] == ["ballast"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_a_look_leaves_no_name_behind_even_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the folder meanwhile would take it for somebody's."""
    seen: list[list[Path]] = []
    real = tempfile.TemporaryFile

    def look(**options: Any) -> Any:
        probe = real(**options)
        seen.append(list(tmp_path.iterdir()))
        return probe

    monkeypatch.setattr(tempfile, "TemporaryFile", look)
    assert disk.write_error(tmp_path) is None
    assert seen == [[]]


def test_looks_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(lambda _: disk.write_error(tmp_path), range(400)))
    assert list(tmp_path.iterdir()) == []


def test_recordings_on_a_disk_of_their_own_count(config: Config, database: Database, volume: Path) -> None:
    config.media.rmdir()
    config.media.symlink_to(volume)
    assert readiness.unwritable(config.media) is None
    subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
    [reason] = [one for one in readiness.reasons(config, database) if one.code == "read_only"]
    assert "Read-only file system" in reason.message
