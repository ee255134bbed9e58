"""A box in one file, made while it runs, and brought back into an empty data folder.

The file is a plain tar: `jobs.db` (a snapshot by VACUUM INTO, which keeps nobody from writing), then
`media/<job id>/<name>`, then `manifest.json`, so that a file that was cut off is known by its missing end. Files are
looked for after the snapshot and never change once a row names them: what is there belongs to it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tasks import __version__, media, sqlite
from tasks.config import Config
from tasks.db import SCHEMA, open_database, prepare_data_folder
from tasks.errors import CommandError
from tasks.jobs import is_id
from tasks.recovery import take_data_folder

FORMAT = 1
_ACTIVE = ("queued", "running")


class BackupError(CommandError):
    """It can't be done; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds. missing: files that rows name and that were not there."""

    jobs: int
    recordings: int
    transcripts: int
    bytes: int
    missing: int

    def __str__(self) -> str:
        parts = [f"{self.jobs} jobs", f"{self.transcripts} transcripts", f"{self.recordings} recordings"]
        if self.missing:
            parts.append(f"{self.missing} files that were not there left out")
        return ", ".join(parts)


def backup(config: Config, target: Path, *, recordings: bool = False) -> Contents:
    """Write the box to a file, whole or not at all; the box may run. Transcripts are in it, and the recordings of jobs
    that wait or run; recordings: also those of finished jobs. Raises BackupError."""
    if not config.jobs_db.is_file():
        raise BackupError(f"There is no box in {config.data}: {config.jobs_db.name} is missing. Set STENOBOX_DATA.")
    if target.is_dir():
        raise BackupError(f"{target} is a folder. Name a file in it, for example {target / 'box.tar'}")
    part = target.with_name(target.name + ".part")
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".stenobox-") as folder:
            snapshot = Path(folder) / "jobs.db"
            _snapshot(config.jobs_db, snapshot)
            with open(part, "wb") as file:
                contents = _pack(config, snapshot, file, recordings)
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BackupError(f"{target} can't be written: {error.strerror}. Free some space or name another.") from error
    except sqlite.driver.Error as error:
        raise BackupError(f"{config.jobs_db} can't be read: {error}. `stenobox doctor` says more.") from error
    return contents


def _snapshot(source: Path, target: Path) -> None:
    connection = sqlite.connect(str(source), timeout=60)
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    finally:
        connection.close()
    _check(target)
    _forget_deleted(target)


def _forget_deleted(snapshot: Path) -> None:
    """What may be taken back for a few seconds is gone for a backup, to the last byte."""
    connection = sqlite.connect(str(snapshot), isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete=ON")
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'undos'").fetchone():
            connection.execute("DELETE FROM undos")
    finally:
        connection.close()


def _check(path: Path) -> str:
    """The schema of a database that is whole. Raises BackupError."""
    connection = sqlite.connect(str(path))
    try:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise BackupError(f"The database is damaged ({found}). Take an earlier backup.")
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(version)
    finally:
        connection.close()


def _pack(config: Config, snapshot: Path, file: IO[bytes], recordings: bool) -> Contents:
    with tarfile.open(fileobj=file, mode="w|") as tar:
        tar.add(snapshot, "jobs.db", filter=_nobodys)
        jobs, there, missing = 0, {}, 0
        for job_id, state, result in _rows(snapshot):
            jobs += 1
            for name in _names(state, result, recordings):
                path = f"media/{job_id}/{name}"
                try:
                    tar.add(media.folder(config, job_id) / name, path, recursive=False, filter=_nobodys)
                except FileNotFoundError:  # removed since the snapshot, or long before
                    missing += 1
                else:
                    there[path] = tar.getmembers()[-1].size
                tar.getmembers().clear()  # else it keeps a kilobyte for each of a million files
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "schema": _check(snapshot),
            "made_at": time.time(),
            "jobs": jobs,
            "files": there,
        }
        data = json.dumps(manifest).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
        tar.addfile(info, io.BytesIO(data))
    return _contents(jobs, there, missing)


def _names(state: str, result: str | None, recordings: bool) -> list[str]:
    """Files of a job that go into a backup, each once: the result of a download is its source."""
    names = {"source"} if recordings or state in _ACTIVE else set()
    if result and media.is_kept(result):
        names.add(result)
    return sorted(names)


def _rows(snapshot: Path) -> Iterator[tuple[str, str, str | None]]:
    connection = sqlite.connect(str(snapshot))
    try:
        yield from connection.execute("SELECT id, state, result FROM jobs ORDER BY id")
    finally:
        connection.close()


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The user here is not the user there."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o600
    return info


def _contents(jobs: int, there: dict[str, int], missing: int) -> Contents:
    sources = sum(path.endswith("/source") for path in there)
    return Contents(jobs, sources, len(there) - sources, sum(there.values()), missing)


def restore(config: Config, file: Path) -> Contents:
    """Bring a backup back into a data folder without jobs. What waited or ran goes on at the next start.

    Raises BackupError, SchemaError (a newer version made it) and AlreadyRunning.
    """
    prepare_data_folder(config)
    with take_data_folder(config, "web"), take_data_folder(config, "worker"):
        _refuse_unless_empty(config)
        staged = config.data / "restore.part"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            with _as_sentences(file):
                contents = _unpack(file, staged)
                for folder in (staged / "media").iterdir():
                    os.replace(folder, config.media / folder.name)
                os.sync()
                os.replace(staged / "jobs.db", config.jobs_db)  # last: from here on it is a box
                os.sync()
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        open_database(config).close()  # an older version's is upgraded
    return contents


def _refuse_unless_empty(config: Config) -> None:
    if config.jobs_db.exists() or any(config.media.iterdir()):
        raise BackupError(
            f"There is a box in {config.data} already, and a backup replaces nothing. "
            "Name an empty folder, for example STENOBOX_DATA=/data/restored"
        )


@contextmanager
def _as_sentences(file: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise BackupError(f"{file} is not a whole backup of Stenobox: {error}.") from error
    except sqlite.driver.Error as error:
        raise BackupError(f"The database in {file} can't be read: {error}. Take an earlier backup.") from error
    except OSError as error:
        raise BackupError(f"{file} can't be restored: {error.strerror}.") from error


def _unpack(file: Path, staged: Path) -> Contents:
    """Everything into a folder of its own, checked. Only names of ours are taken."""
    (staged / "media").mkdir(mode=0o700, parents=True)
    there, manifest = {}, None
    with tarfile.open(file, mode="r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or not _is_ours(member.name):
                raise BackupError(f"{file} is no backup of Stenobox: it holds {member.name[:80]!r}.")
            if member.name == "manifest.json":
                manifest = _read_manifest(content.read(member.size))
                continue
            path = staged / member.name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(path, "wb") as out:  # earlier versions wrote what a download had made twice
                shutil.copyfileobj(content, out, 2**20)
            there[member.name] = member.size
    if manifest is None or there.pop("jobs.db", None) is None or manifest["files"] != there:
        raise BackupError(f"{file} is not whole: its end is missing. Take another backup.")
    if manifest["format"] != FORMAT or manifest["schema"] > SCHEMA:
        raise BackupError(
            f"{file} was made by a newer Stenobox ({manifest['version']}); this is {__version__}. Install that version."
        )
    _check(staged / "jobs.db")
    return _contents(manifest["jobs"], there, 0)


def _read_manifest(data: bytes) -> dict[str, Any] | None:
    """None for what is none: strangers' files are restored, too."""
    try:
        manifest = json.loads(data)
        kinds = {"format": int, "schema": str, "version": str, "jobs": int, "files": dict}
        return manifest if all(isinstance(manifest[name], kind) for name, kind in kinds.items()) else None
    except (ValueError, LookupError, TypeError):
        return None


def _is_ours(name: str) -> bool:
    if name in ("jobs.db", "manifest.json"):
        return True
    parts = PurePosixPath(name).parts
    return len(parts) == 3 and parts[0] == "media" and is_id(parts[1]) and media.is_kept(parts[2])
