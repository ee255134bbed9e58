"""Bytes on disk: only ids become folders, and a file is whole under its name or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import media
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import new_id

ID = "0123456789abcdef" * 2
PATHS = ["..", "../" + ID, "/etc", ID + "/..", ID.upper(), "", ".", "x" * 32, ID + "\n", ID[:31] + "/"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config(data=tmp_path / "data")
    config.media.mkdir(parents=True)
    return config


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def files(config: Config) -> set[str]:
    return {str(path.relative_to(config.media)) for path in config.media.rglob("*") if not path.is_dir()}


# Names


def test_all_files_of_a_job_lie_in_the_folder_with_its_id(config: Config) -> None:
    folder = config.media / ID
    assert media.folder(config, ID) == folder
    assert media.source(config, ID) == folder / "source"
    assert media.sound(config, ID, "token") == folder / "token.f32"
    assert media.transcript(config, ID, "token.json") == folder / "token.json"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "use",
    [
        media.folder,
        media.source,
        media.remove,
        media.Part,
        lambda config, path: media.sound(config, path, "token"),
        lambda config, path: media.transcript(config, path, "token.json"),
    ],
    ids=["folder", "source", "remove", "Part", "sound", "transcript"],
)
def test_what_is_no_id_never_becomes_a_path(config: Config, use: Callable[[Config, str], Any], path: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        use(config, path)
    assert list(config.data.iterdir()) == [config.media]


@pytest.mark.parametrize("name", ["../source", "a/b", "/etc/passwd", "..", ".", ".hidden"])
def test_a_transcript_is_a_plain_name_in_the_folder(config: Config, name: str) -> None:
    with pytest.raises(ValueError, match="not a file name"):
        media.transcript(config, ID, name)


def test_removing_a_job_takes_its_folder_and_no_other(config: Config) -> None:
    other = new_id()
    for job_id in (ID, other):
        with media.Part(config, job_id) as part:
            part.write(b"x")
            part.keep()
    media.remove(config, ID)
    assert files(config) == {f"{other}/source"}
    media.remove(config, ID)  # fine when there is nothing


def test_stray_folders_are_those_named_by_an_id(config: Config) -> None:
    (config.media / ID).mkdir()
    (config.media / "lost+found").mkdir()
    (config.media / "note.txt").touch()
    assert media.stray(config) == {ID}


# A part that arrives


def test_a_part_becomes_the_source_only_when_it_is_kept(config: Config) -> None:
    with media.Part(config, ID) as part:
        part.write(b"first ")
        part.write(bytearray(b"second "))
        part.write(memoryview(b"third"))
        assert part.size == 18
        assert files(config) == {f"{ID}/source.part"}
        part.keep()
    assert files(config) == {f"{ID}/source"}
    assert media.source(config, ID).read_bytes() == b"first second third"


def test_the_folder_of_a_job_is_closed_to_other_users(config: Config) -> None:
    before = os.umask(0)
    try:
        with media.Part(config, ID):
            assert (config.media / ID).stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_part_that_is_abandoned_never_has_the_name_of_a_source_and_is_closed(config: Config) -> None:
    def break_off() -> None:
        nonlocal part
        with media.Part(config, ID) as part:
            part.write(b"half")
            raise ConnectionError

    part: Any = None
    with pytest.raises(ConnectionError):
        break_off()
    assert files(config) == {f"{ID}/source.part"}
    with pytest.raises(ValueError, match="closed"):
        part.write(b"more")


def test_an_id_is_used_once(config: Config) -> None:
    with media.Part(config, ID), pytest.raises(StenoboxError) as refusal:
        media.Part(config, ID)
    assert refusal.value.code == "internal"


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with media.Part(config, ID) as part:
        whole = part._file

        class Slow:
            def write(self, data: memoryview) -> int:
                return whole.write(data[:3])

            def __getattr__(self, name: str) -> Any:
                return getattr(whole, name)

        monkeypatch.setattr(part, "_file", Slow())
        part.write(b"0123456789")
        part.keep()
    assert media.source(config, ID).read_bytes() == b"0123456789"


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_keep_returns(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        steps.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def note_replace(old: Path, new: Path) -> None:
        steps.append(f"{old.name} → {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with media.Part(config, ID) as part:
        part.write(b"x")
        part.keep()
    assert steps == ["source.part", "source.part → source", ID, "media"]
    steps.clear()
    media.write_durably(media.transcript(config, ID, "token.json"), b"{}")
    assert steps == ["token.json.part", "token.json.part → token.json", ID]


# A disk that is full


UNWRITABLE = "The data folder can't be written"


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (errno.ENOSPC, "disk_full", "The disk of this box is full. Free some space and try again."),
        (errno.EDQUOT, "disk_full", "The disk of this box is full. Free some space and try again."),
        (
            errno.EIO,
            "storage_failing",
            "The disk of this box reports errors (Input/output error): what is on it may be damaged. Look at the disk "
            "of this box.",
        ),
        (
            errno.EROFS,
            "storage_failing",
            "The data folder can't be written (Read-only file system). Look at the disk of this box.",
        ),
    ],
)
def test_a_disk_that_takes_nothing_has_a_sentence(
    config: Config, monkeypatch: pytest.MonkeyPatch, number: int, code: str, sentence: str
) -> None:
    monkeypatch.setattr(Path, "mkdir", fail_with(number))
    with pytest.raises(StenoboxError) as refusal:
        media.Part(config, ID)
    assert (refusal.value.code, refusal.value.message) == (code, sentence)


def test_a_full_disk_while_bytes_arrive_is_said(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with media.Part(config, ID) as part, open("/dev/full", "wb", buffering=0) as full:
        part.write(b"x" * 10)
        with monkeypatch.context() as swapped:
            swapped.setattr(part, "_file", full)
            with pytest.raises(StenoboxError) as refusal:
                part.write(b"y" * 10)
    assert refusal.value.code == "disk_full"
    assert part.size == 10


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_end_is_said_and_leaves_no_source(
    config: Config, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with media.Part(config, ID) as part:
        part.write(b"x")
        monkeypatch.setattr(os, step, fail_with(errno.ENOSPC))
        with pytest.raises(StenoboxError) as refusal:
            part.keep()
    assert refusal.value.code == "disk_full"
    assert files(config) == {f"{ID}/source.part"}


# Transcripts


def test_a_file_is_written_whole_and_replaces_what_was_there(config: Config) -> None:
    path = config.media / "token.json"
    media.write_durably(path, b"old and longer")
    media.write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert files(config) == {"token.json"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    config: Config, monkeypatch: pytest.MonkeyPatch, step: str, before: bytes | None
) -> None:
    path = config.media / "token.json"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, step, fail_with(errno.ENOSPC))
    with pytest.raises(StenoboxError) as refusal:
        media.write_durably(path, b"new")
    assert refusal.value.code == "disk_full"
    assert files(config) == (set() if before is None else {"token.json"})
    assert before is None or path.read_bytes() == before


def test_a_disk_that_fills_up_within_a_write_leaves_nothing(config: Config) -> None:
    (config.media / "token.json.part").symlink_to("/dev/full")
    with pytest.raises(StenoboxError) as refusal:
        media.write_durably(config.media / "token.json", b"x" * 100_000)
    assert refusal.value.code == "disk_full"
    assert files(config) == set()


def test_a_folder_that_was_deleted_meanwhile_is_said(config: Config) -> None:
    with pytest.raises(StenoboxError, match="No such file or directory") as refusal:
        media.write_durably(media.transcript(config, ID, "token.json"), b"{}")
    assert refusal.value.code == "internal"
    assert files(config) == set()
