"""From the Hub to the data folder: once, resumable, and only whole.

What has arrived waits in `<name>.partial`, which a kill or a power cut leaves for the next try to go on with;
the rename at the end is what makes a model exist.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import disk
from tasks.config import Config
from tasks.errors import StenoboxError
from tasks.models.catalogue import Aligner, Model
from tasks.models.library import PARTIAL, closed, folder, place
from tasks.models.transfer import OnProgress, size, watched

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from huggingface_hub.hf_api import RepoSibling

RECORD = "stenobox.json"
"""In a downloaded folder: the repository, the commit and the sizes of what was fetched."""

_WHISPER_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
_ALIGNER_FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
_SPARE = 256 * 1024**2  # bytes that the rest of the box needs to go on working
_CHUNK = 1024**2  # bytes; the Hub client's own 10 MiB make a jumpy bar, and a kill would lose up to that much


def hub_environment(config: Config) -> dict[str, str]:
    """What a process that downloads needs in its environment: the Hub client, which reads these at its import."""
    return {
        "STENOBOX_DATA": str(config.data),
        "HF_HOME": str(config.models / ".cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Xet keeps its own chunk cache and does not go on with a broken download; plain HTTP with ranges does.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ENABLE_HF_TRANSFER": "0",
    }


class Stalled(StenoboxError):
    """The Hub stopped sending. What has come is kept, and another try goes on there."""


OnStall = Callable[[Stalled], None]


def download(
    config: Config, what: Model | Aligner, on_progress: OnProgress | None = None, on_stall: OnStall = lambda _: None
) -> Path:
    """Download it into the data folder, unless it is there already. Returns its folder.

    Meant for a process of its own: see `fetch`. Two processes that want the same model download it once, and both
    report its progress. on_progress is called from a second thread, as is on_stall when nothing comes any more: it has
    to end the process, since nothing else ends a read that waits.
    Raises StenoboxError model_missing, disk_full or storage_failing; Stalled where the client noticed it itself.
    """
    here = folder(config, what)
    if here is not None:
        return here
    if what.repo is None:
        raise missing(config, what, "it isn't one that can be downloaded")
    report = on_progress or (lambda done, total: None)
    target = place(config, what)
    if target in closed(config):
        raise missing(config, what, f"{target} is there and can't be read by this user (chmod -R a+rX {target})")
    partial = target.with_name(target.name + PARTIAL)
    about = what.megabytes * 1_000_000
    try:
        with _lock(config, what, lambda: report(min(size(partial), about), about)):
            return folder(config, what) or _download(config, what, partial, report, on_stall)
    except OSError as error:
        raise _explain(config, what, error) from error


@contextmanager
def _lock(config: Config, what: Model | Aligner, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time for this model. The system drops the lock of a process that dies. waiting is called
    about once a second while another has it."""
    from filelock import FileLock, Timeout

    folder_of_locks = config.models / ".cache"
    folder_of_locks.mkdir(parents=True, exist_ok=True)
    lock: BaseFileLock = FileLock(folder_of_locks / f"{what.key.replace(':', '-')}.lock")
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=1)
            break
        waiting()
    try:
        yield
    finally:
        lock.release()


def _download(config: Config, what: Model | Aligner, partial: Path, on_progress: OnProgress, on_stall: OnStall) -> Path:
    """With the lock held. Not snapshot_download: when the network fails halfway it returns the folder as if it were
    whole (0.36.2), and it tells files, not bytes."""
    from huggingface_hub import HfApi, constants, hf_hub_download

    assert what.repo is not None
    target = place(config, what)
    if target.is_dir() and any(target.iterdir()):
        raise missing(config, what, f"{target} is there but lacks some of its files: complete it or remove it")
    partial.mkdir(parents=True, exist_ok=True)
    # Read now, since a test or an operator may set it later than the first import. token=False: never an implicit one.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    api = HfApi(endpoint=endpoint, token=False)
    info = api.model_info(what.repo, revision=what.revision or "main", files_metadata=True, timeout=10)
    files = _wanted(what, info.siblings or [])
    if "config.json" not in files or len(files) < 2:
        raise missing(config, what, f"{what.repo} doesn't hold the files of such a model")
    total = sum(file.size or 0 for file in files.values())
    free = shutil.disk_usage(partial).free
    if free < total - size(partial) + _SPARE:
        raise StenoboxError(
            "disk_full",
            f"There isn't enough room for the model {what.key}: it needs {_megabytes(total + _SPARE)} with some to "
            f"spare. {config.models} has {_megabytes(free)} left. Free some space and try again.",
        )
    with watched(partial, total, on_progress, lambda: on_stall(_stalled(config, what))) as receiving:
        # Smallest first: a repository that turns out wrong is found out before the gigabytes.
        for name in sorted(files, key=lambda name: files[name].size or 0):
            with receiving:
                path = hf_hub_download(
                    what.repo, name, revision=info.sha, local_dir=partial, endpoint=endpoint, token=False
                )
            _check(config, what, Path(path), files[name])
    record = {"repo": what.repo, "revision": info.sha, "files": {name: file.size for name, file in files.items()}}
    (partial / RECORD).write_text(json.dumps(record, indent=1))
    return _finish(partial, target, {*files, RECORD})


def _wanted(what: Model | Aligner, siblings: list[RepoSibling]) -> dict[str, RepoSibling]:
    """The repository's files that the engine needs, by name."""
    there = {sibling.rfilename: sibling for sibling in siblings}
    patterns: tuple[str, ...] = _WHISPER_FILES
    if isinstance(what, Aligner):
        # A pickle can run code when it is loaded, so only where there is nothing better.
        weights = "model.safetensors" if "model.safetensors" in there else "pytorch_model.bin"
        patterns = (*_ALIGNER_FILES, weights)
    return {name: file for name, file in there.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)}


def _check(config: Config, what: Model | Aligner, path: Path, file: RepoSibling) -> None:
    """The size, and the hash where the Hub states one (the weights): a power cut can leave a tail of zeros in a file
    that a later try then completes. A bad file is removed, so that the next try fetches it again."""
    good = path.stat().st_size == file.size
    if good and file.lfs is not None:
        with path.open("rb") as stream:
            good = hashlib.file_digest(stream, "sha256").hexdigest() == file.lfs.sha256
    if not good:
        path.unlink()
        raise missing(config, what, f"{path.name} arrived damaged and was removed; trying again fetches it anew")


def _finish(partial: Path, target: Path, names: set[str]) -> Path:
    """Only what belongs there, safely on the disk, under its real name."""
    for entry in list(partial.iterdir()):
        if entry.name in names:
            _sync(entry)
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    _sync(partial)
    os.replace(partial, target)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    """A rename can reach the disk before the bytes it names; a power cut in between would leave an empty model."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(config: Config, what: Model | Aligner, error: OSError) -> StenoboxError:
    """Every error of the Hub client and of requests is an OSError."""
    import requests
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, OSError):
        error = error.__cause__  # "not in the cache either" says less than why it was looked for there
    host = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if isinstance(error, OfflineModeIsEnabled):
        return missing(config, what, "downloads are switched off by HF_HUB_OFFLINE")
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return missing(config, what, f"{host} answered {error.response.status_code} {error.response.reason}")
    if isinstance(error, requests.RequestException) and "Read timed out" in str(error):
        return _stalled(config, what)
    if isinstance(error, requests.RequestException):
        return missing(config, what, f"there is no network, or {host} can't be reached")
    if refusal := disk.refusal(error):
        if refusal.code == "disk_full":
            return StenoboxError(
                "disk_full", f"The disk of this box is full. Free some space in {config.models} and try again."
            )
        return StenoboxError(
            refusal.code,
            f"The model {what.key} can't be saved on this box. {config.models} says: {error.strerror}.",
        )
    return missing(config, what, f"{error}")


def _stalled(config: Config, what: Model | Aligner) -> Stalled:
    host = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    target = place(config, what)
    came = _megabytes(size(target.with_name(target.name + PARTIAL)))
    reason = f"{host} stopped sending after {came}, which are kept, so that another try goes on there"
    return Stalled("model_missing", missing(config, what, reason).message)


def missing(config: Config, what: Model | Aligner, reason: str) -> StenoboxError:
    """Why it isn't there, and how to add it without a network."""
    names = "config.json, model.bin, tokenizer.json, vocabulary.*" if isinstance(what, Model) else "files"
    sentence = f"The model {what.key} isn't on this box and couldn't be downloaded. The reason: {reason}."
    if what.repo is not None:
        tree = f"https://huggingface.co/{what.repo}/tree/{what.revision or 'main'}"
        sentence += f" To add it by hand, put the {names} of {tree} into {place(config, what)}."
    return StenoboxError("model_missing", sentence)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
