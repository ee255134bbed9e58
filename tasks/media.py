"""Where a job's bytes are: one folder a job, named by its id, with names of ours in it.

<data>/media/<job id>/source        what came in (source.part while it arrives)
                      fetch-<token> a folder of its own for what comes from a link, until that is whole
                      journal       what earlier attempts have transcribed (see `journal`), removed when the job ends
                      <token>.f32   decoded sound of one attempt, removed when the attempt ends
                      <token>.work/ working folder of the attempt's decoder, removed with it
                      peaks.json    the waveform, once a decoder has been through
                      cover.jpg     a small picture, if the recording had one
                      <token>.json  the transcript of one attempt; the job's row says which one counts
                      <token>.mp3   the same for sound that was extracted: .mp3, .opus, .wav, .flac
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tasks import disk
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.jobs import is_id

EXTRAS = ("peaks.json", "cover.jpg")
"""What a decoder makes besides the sound."""
FORMS = ("json", "mp3", "opus", "wav", "flac")
"""What an attempt's result can be: words, or sound in one of `decode.forms`."""
_RESULT = re.compile(rf"[0-9a-f]{{32}}\.({'|'.join(FORMS)})")
AHEAD_BYTES = 2 * 1024 * 1024
"""How much of what arrives the kernel keeps to itself before it is told to begin writing it to the disk."""
MOST_CHUNKS = 1024
"""In one call: IOV_MAX of Linux and macOS."""


def folder(config: Config, job_id: str) -> Path:
    """The job's folder. job_id must have the form of an id: nothing else may become a path."""
    if not is_id(job_id):
        raise ValueError(f"not a job id: {job_id!r}")
    return config.media / job_id


def source(config: Config, job_id: str) -> Path:
    return folder(config, job_id) / "source"


def part(config: Config, job_id: str) -> Path:
    """The source while it arrives."""
    return folder(config, job_id) / "source.part"


def arrived(config: Config, job_id: str) -> int:
    """Bytes of the source that are here. Raises StenoboxError when its folder is gone."""
    try:
        kept = source(config, job_id)
        return (kept if kept.exists() else part(config, job_id)).stat().st_size
    except OSError as error:
        raise _sentence(error) from error


def arrived_if_any(config: Config, job_id: str) -> int:
    """As `arrived`; 0 for what has no folder, or none any more."""
    try:
        return arrived(config, job_id)
    except StenoboxError:
        return 0


def sound(config: Config, job_id: str, token: str) -> Path:
    """Decoded sound: little-endian float32, mono, 16 kHz, no header."""
    return folder(config, job_id) / f"{token}.f32"


def fetching(config: Config, job_id: str, token: str) -> Path:
    """The folder that a download of one attempt writes to, made empty."""
    made = folder(config, job_id) / f"fetch-{token}"
    try:
        made.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise _sentence(error) from error
    return made


def take(config: Config, job_id: str, path: Path) -> None:
    """Make a whole file on the same disk the job's media, durably. Raises StenoboxError disk_full, storage_failing."""
    settle(path, source(config, job_id))


def settle(path: Path, target: Path) -> None:
    """Give a whole file its place on the same disk, durably. Raises StenoboxError disk_full, storage_failing."""
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(path, target)
        sync(target.parent)
        sync(target.parent.parent)
    except OSError as error:
        raise _sentence(error) from error


def journal(config: Config, job_id: str) -> Path:
    return folder(config, job_id) / "journal"


@contextmanager
def work(config: Config, job_id: str, token: str) -> Iterator[Path]:
    """A folder for one attempt's decoder, gone when the block ends with all that `keep_extras` has not taken."""
    path = folder(config, job_id) / f"{token}.work"
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        raise StenoboxError("media_missing", "The recording is no longer on this box. Send it again.") from None
    except OSError as error:
        raise _sentence(error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def keep_extras(path: Path) -> None:
    """Take waveform and picture out of a working folder: they are the same for every attempt."""
    for name in EXTRAS:
        with contextlib.suppress(OSError):  # no picture, or the job was deleted meanwhile
            os.replace(path / name, path.parent / name)


def extra(config: Config, job_id: str, name: str) -> Path:
    """One of EXTRAS, whether it is there or not."""
    if name not in EXTRAS:
        raise ValueError(f"not a file of ours: {name!r}")
    return folder(config, job_id) / name


def transcript(config: Config, job_id: str, result: str) -> Path:
    """The transcript file that a job's `result` names."""
    if "/" in result or result.startswith("."):
        raise ValueError(f"not a file name: {result!r}")
    return folder(config, job_id) / result


def result(config: Config, job_id: str, name: str) -> Path:
    """The file that a job's `result` names, of whatever kind it is."""
    return transcript(config, job_id, name)


def is_result(name: str) -> bool:
    """Whether a name is one that attempts give to what they have made."""
    return _RESULT.fullmatch(name) is not None


def is_kept(name: str) -> bool:
    """Whether a file of this name may be all that is left of a job's work: what a backup holds, and nothing else."""
    return name == "source" or is_result(name)


def drop_made(config: Config, job_id: str, token: str) -> None:
    """Remove what an attempt has made: nobody will name it."""
    for path in entries(config, job_id):
        if path.name.startswith(f"{token}."):
            drop(path)


def drop(path: Path) -> None:
    """Remove a file that nobody needs any more. Where the disk refuses, a later sweep takes it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def remove(config: Config, job_id: str) -> None:
    """Delete everything the job has on disk. Fine when there is nothing."""
    shutil.rmtree(folder(config, job_id), ignore_errors=True)


def entries(config: Config, job_id: str) -> list[Path]:
    """What is in the job's folder now; nothing where it is gone: other processes remove jobs meanwhile."""
    path = folder(config, job_id)
    try:
        return [path / name for name in sorted(os.listdir(path))]  # noqa: PTH208
    except OSError:
        return []


def stray(config: Config) -> set[str]:
    """Ids of all folders on disk; those without a row are left from an upload that broke."""
    return {entry.name for entry in config.media.iterdir() if is_id(entry.name)}


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that after this call it is whole on disk, or it is not there at all."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        drop(part)
        raise _sentence(error) from error


class Part:
    """A job's media while it arrives: written in pieces to source.part, then kept under its real name or removed.

    All methods block on the disk: call them from a thread. Raises StenoboxError disk_full, storage_failing.
    """

    def __init__(self, config: Config, job_id: str, *, go_on: bool = False) -> None:
        """go_on: with what is there already, instead of a new folder."""
        self._target = source(config, job_id)
        self._path = part(config, job_id)
        try:
            if go_on:
                if self._target.exists():  # kept by a process that died before the row could say so
                    os.replace(self._target, self._path)
            else:
                self._target.parent.mkdir(mode=0o700)
            self._file = open(self._path, "r+b" if go_on else "wb", buffering=0)  # noqa: SIM115  closed by __exit__
            self.size = self._told = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise _sentence(error) from error

    def write(self, *chunks: bytes) -> None:
        """At its end, one after the other."""
        # In one call: between calls this thread would have to wait for the one that receives.
        left = [memoryview(chunk) for chunk in chunks if chunk]
        try:
            while left:
                written = os.writev(self._file.fileno(), left[:MOST_CHUNKS])
                self.size += written
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if written:
                    left[0] = left[0][written:]
            if self.size - self._told >= AHEAD_BYTES:
                disk.begin_writing(self._file.fileno(), self._told, self.size)
                self._told = self.size
        except OSError as error:
            raise _sentence(error) from error

    def adopt(self, path: Path) -> None:
        """Take what another job has as one's own: by a link where the disk can, else by a copy."""
        spare = self._path.with_name("source.link")
        try:
            os.link(path, spare)
            os.replace(spare, self._path)
            self.size = path.stat().st_size
        except FileNotFoundError:
            raise StenoboxError("media_missing", "The media of the source job was deleted meanwhile.") from None
        except OSError:
            with open(path, "rb") as file:
                while data := file.read(2**20):
                    self.write(data)

    def cut(self, size: int) -> None:
        """Forget what came after so many bytes."""
        try:
            self._file.truncate(size)
            self.size = self._told = self._file.seek(size)
        except OSError as error:
            raise _sentence(error) from error

    def sync(self) -> None:
        """Once this returns, what was written survives a power cut, under its temporary name."""
        try:
            if not self._file.closed:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise _sentence(error) from error

    def keep(self) -> None:
        """Everything has come: put it on disk under its real name."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._path, self._target)
            sync(self._target.parent)
            sync(self._target.parent.parent)
        except OSError as error:
            raise _sentence(error) from error

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def sync(path: Path) -> None:
    """Put a folder's names on disk."""
    # A rename is durable only once the folder that holds the name is on disk.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(error: OSError) -> StenoboxError:
    return disk.refusal(error) or StenoboxError("internal", f"The data folder can't be written ({error.strerror}).")
